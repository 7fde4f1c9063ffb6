"""Paired comparison: exact McNemar test, intervals, DeLong against its definition."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.evaluation.metrics import auroc
from edgead.evaluation.paired import PairedVerdicts, auroc_difference, paired_verdicts


def test_counts_of_verdicts() -> None:
    """Each image is counted once, under the two that call it anomalous."""
    verdicts = paired_verdicts([True, True, False, False, False], [True, False, True, False, False])
    assert verdicts == PairedVerdicts(1, 1, 1, 2)
    assert (verdicts.rate_a.k, verdicts.rate_b.k, verdicts.n) == (2, 2, 5)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 0), (1, 9), (4, 4), (700, 800)])
def test_p_value_is_that_of_a_fair_coin(only_a: int, only_b: int) -> None:
    """Both tails of a binomial with one half, also where its counts exceed a float."""
    n, few = only_a + only_b, min(only_a, only_b)
    tail = sum(comb(n, i) for i in range(few + 1))
    found = PairedVerdicts(3, only_a, only_b, 2).p_value
    assert found == pytest.approx(min(1.0, 2 * tail / 2**n))
    assert PairedVerdicts(3, only_b, only_a, 2).p_value == found


def test_interval_holds_the_difference_and_shrinks() -> None:
    """The interval surrounds the difference, is not a point when nothing changed, and is narrower with more images."""
    few, many = PairedVerdicts(10, 4, 1, 10), PairedVerdicts(100, 40, 10, 100)
    low, high = few.interval or (0, 0)
    assert low < -3 / 25 < high
    assert (many.interval or (0, 0))[1] < 0.0 < high
    equal = PairedVerdicts(10, 0, 0, 10).interval
    assert equal is not None
    assert equal[0] < 0.0 < equal[1]
    assert PairedVerdicts(0, 0, 0, 0).interval is None


def _brute_force(a: NDArray[np.float64], b: NDArray[np.float64], bad: NDArray[np.bool_]) -> tuple[float, float]:
    """Difference and standard error from all pairs of one defective and one good image."""
    psi = [
        np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[~bad]] for x in scores[bad]])
        for scores in (a, b)
    ]
    difference = psi[1] - psi[0]
    by_bad, by_good = difference.mean(axis=1), difference.mean(axis=0)
    return float(difference.mean()), sqrt(by_bad.var(ddof=1) / by_bad.size + by_good.var(ddof=1) / by_good.size)


def test_delong_is_its_definition_with_ties() -> None:
    """AUROCs and half width are those of all pairs, ties counting one half; classes are averaged."""
    rng = np.random.default_rng(3)
    bad = rng.random(40) < 0.4
    a, b = (np.asarray(np.round(rng.normal(size=40) + scale * bad, 1), np.float64) for scale in (0.5, 1.5))
    found = auroc_difference([(a, b, bad)])
    assert found is not None
    assert found.interval is not None
    assert [found.a, found.b] == pytest.approx([auroc(a, bad), auroc(b, bad)])
    difference, error = _brute_force(a, b, bad)
    assert found.interval == pytest.approx((difference - 1.959964 * error, difference + 1.959964 * error), abs=1e-6)
    twice = auroc_difference([(a, b, bad), (a, b, bad)])
    assert twice is not None
    assert twice.interval is not None
    assert twice.interval[1] - twice.interval[0] == pytest.approx(2 * 1.959964 * error / sqrt(2), abs=1e-6)


def test_no_interval_where_the_images_say_nothing() -> None:
    """Equal rankings give no interval, and one class of images no comparison."""
    scores = np.arange(6.0)
    bad = scores > 2
    perfect = auroc_difference([(scores, 2 * scores, bad)])
    assert perfect is not None
    assert (perfect.a, perfect.b, perfect.interval) == (1.0, 1.0, None)
    assert auroc_difference([(scores, scores, np.zeros(6, bool))]) is None
    opposite = auroc_difference([(scores, -scores, bad)])
    assert opposite is not None
    assert (opposite.a, opposite.b, opposite.interval) == (1.0, 0.0, None)


def test_interval_of_the_difference_stays_in_range() -> None:
    """A difference of AUROCs is at most 1, and so is each end of its interval."""
    bad = np.arange(6) > 2
    found = auroc_difference([(np.array([5.0, 4, 3, 0, 1, 4]), np.arange(6.0), bad)])
    assert found is not None
    assert found.interval is not None
    assert found.interval[1] == 1.0
