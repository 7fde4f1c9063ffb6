"""Image metrics against their quadratic definitions, and on hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import ShapeError
from edgead.evaluation.metrics import area, auroc, average_precision, counts_from_scores, f1_max

# Few distinct values, so that most draws have ties within and across the labels.
Cases = st.lists(st.tuples(st.integers(0, 6).map(float), st.booleans()), min_size=1, max_size=25)


def _split(case: list[tuple[float, bool]]) -> tuple[list[float], list[float]]:
    return [score for score, label in case if label], [score for score, label in case if not label]


@settings(max_examples=150, deadline=None)
@given(Cases)
def test_auroc_is_the_share_of_pairs_in_order(case: list[tuple[float, bool]]) -> None:
    """AUROC equals the share of (anomalous, good) pairs in the right order, ties counted one half."""
    positives, negatives = _split(case)
    value = auroc(*zip(*case, strict=True))
    if not positives or not negatives:
        assert value is None
        return
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    assert value == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(Cases)
def test_average_precision_sums_precision_over_thresholds(case: list[tuple[float, bool]]) -> None:
    """AP equals the sum over distinct thresholds of the recall gained times the precision there."""
    positives, negatives = _split(case)
    value = average_precision(*zip(*case, strict=True))
    if not positives or not negatives:
        assert value is None
        return
    expected, recall_before = 0.0, 0.0
    for threshold in sorted({score for score, _ in case}, reverse=True):
        hits = sum(p >= threshold for p in positives)
        called = hits + sum(n >= threshold for n in negatives)
        expected += (hits / len(positives) - recall_before) * hits / called
        recall_before = hits / len(positives)
    assert value == pytest.approx(expected, abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(Cases)
def test_f1_max_is_reached_at_its_threshold(case: list[tuple[float, bool]]) -> None:
    """F1-max is the best over all thresholds, and the rule `score > threshold` gives exactly that F1."""
    positives, negatives = _split(case)
    found = f1_max(*zip(*case, strict=True))
    if not positives or not negatives:
        assert found is None
        return

    def f1(threshold: float) -> float:
        hits = sum(p > threshold for p in positives)
        called = hits + sum(n > threshold for n in negatives)
        return 2 * hits / (called + len(positives))

    best, threshold = found
    assert best == pytest.approx(max(f1(score - 0.5) for score, _ in case), abs=1e-12)
    assert f1(threshold) == pytest.approx(best, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(Cases, st.integers(2, 12))
def test_curves_keep_their_ends(case: list[tuple[float, bool]], max_points: int) -> None:
    """A thinned ROC curve still runs from (0, 0) to (1, 1), rising, and a PR curve ends at recall 1."""
    counts = counts_from_scores(*zip(*case, strict=True))
    roc, pr = counts.roc_curve(max_points), counts.pr_curve(max_points)
    if not counts.has_both:
        assert (roc, pr) == ([], [])
        return
    assert roc[0] == (0.0, 0.0)
    assert roc[-1] == (1.0, 1.0)
    assert roc == sorted(roc)
    assert pr[-1][0] == 1.0
    assert len(roc) <= max_points


@pytest.mark.parametrize(("limit", "expected"), [(0.5, 0.25), (1.0, 0.5), (0.1, 0.05)])
def test_area_interpolates_at_the_limit(limit: float, expected: float) -> None:
    """The diagonal has area limit/2 after division by the limit, although no point lies at the limit."""
    assert area(np.array([0.0, 1.0]), np.array([0.0, 1.0]), limit) == pytest.approx(expected)


def test_area_of_a_step_at_the_limit() -> None:
    """A vertical step exactly at the limit adds nothing below it."""
    assert area(np.array([0.0, 0.3, 0.3, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]), 0.3) == 0.0


def test_perfect_and_inverted_ranking() -> None:
    """A perfect ranking has AUROC, AP and F1-max 1; the inverse has AUROC 0."""
    labels = [False] * 5 + [True] * 3
    assert auroc(range(8), labels) == 1.0
    assert average_precision(range(8), labels) == 1.0
    assert f1_max(range(8), labels) == (1.0, 4.5)
    assert auroc([-i for i in range(8)], labels) == 0.0


def test_bad_input_is_refused() -> None:
    """NaN scores and vectors of different lengths are refused instead of giving a number."""
    with pytest.raises(ValueError, match="finite"):
        auroc([0.0, float("nan")], [True, False])
    with pytest.raises(ShapeError, match="labels"):
        auroc([0.0, 1.0], [True])
