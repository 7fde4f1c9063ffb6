"""Thresholds: the certified bound on random splits, order, equivariance, degenerate input, intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgead.errors import DataError
from edgead.evaluation.threshold import (
    at_rate,
    binomial_interval,
    class_thresholds,
    images_to_certify,
    threshold_from_scores,
)

Scores = st.lists(st.integers(-1000, 1000).map(float), min_size=5, max_size=40)
Rates = st.sampled_from([0.5, 0.2, 0.1, 0.05, 0.02, 0.005, 0.001])

ODD = [float("inf"), float("-inf"), float("nan")]


@pytest.mark.parametrize(("n", "rate", "k"), [(99, 0.01, 99), (199, 0.005, 199), (100, 0.05, 96), (20, 0.5, 11)])
def test_certified_threshold_is_the_kth_smallest(n: int, rate: float, k: int) -> None:
    """With enough images the threshold is the ceil((n+1)(1-rate))-th smallest score, also where (n+1) rate is 1."""
    record = threshold_from_scores(np.random.default_rng(0).permutation(n) + 1.0, rate)
    assert (record.value, record.certified, record.interval, record.n_images) == (float(k), True, None, n)


@pytest.mark.parametrize("rate", [0.005, 0.01, 0.05])
def test_certification_starts_at_one_over_n_plus_one(rate: float) -> None:
    """`images_to_certify` is the smallest number n of good images that certifies a rate of 1 / (n + 1)."""
    n = images_to_certify(rate)
    assert 1 / (n + 1) <= rate + 1e-12 < 1 / n
    assert threshold_from_scores(np.arange(n), rate).certified
    assert not threshold_from_scores(np.arange(n - 1), rate).certified


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (50, 0.1), (60, 0.02), (199, 0.005)])
def test_false_alarm_rate_on_unseen_scores(n: int, rate: float, ties: bool) -> None:
    """Averaged over random splits, unseen good scores exceed the threshold at the rule's rate, never above alpha.

    Without ties the chance is exactly (n + 1 - k) / (n + 1), so it may not lie systematically below it either.
    """
    rng = np.random.default_rng(7)
    splits, unseen = 1500, 200
    measured = np.empty(splits)
    for i in range(splits):
        scores = rng.gamma(2.0, size=n + unseen)
        scores = np.round(scores, 1) if ties else scores
        measured[i] = (scores[n:] > threshold_from_scores(scores[:n], rate).value).mean()
    expected = math.floor((n + 1) * rate + 1e-9) / (n + 1)
    noise = 4 * measured.std() / math.sqrt(splits)
    assert measured.mean() <= rate + noise
    if not ties:
        assert measured.mean() >= expected - noise


@pytest.mark.parametrize(("n", "rate"), [(30, 0.01), (100, 0.005), (50, 0.005)])
def test_extrapolated_rate_is_near_the_wanted_one(n: int, rate: float) -> None:
    """On gamma scores the extrapolated threshold keeps the mean false-alarm rate below 1.2 times the wanted one."""
    rng = np.random.default_rng(11)
    thresholds = np.array([threshold_from_scores(rng.gamma(1.0, size=n), rate).value for _ in range(300)])
    realised = np.exp(-thresholds)
    assert 0.4 * rate < realised.mean() < 1.2 * rate


@settings(max_examples=80, deadline=None)
@given(Scores)
def test_a_rarer_rate_never_gives_a_lower_threshold(scores: list[float]) -> None:
    """The threshold does not fall as the rate falls, across the border of certification too."""
    values = [threshold_from_scores(scores, rate).value for rate in (0.5, 0.2, 0.1, 0.03, 0.01, 1e-3, 1e-4)]
    assert all(low <= high for low, high in itertools.pairwise(values))


@settings(max_examples=80, deadline=None)
@given(Scores, Rates, st.sampled_from([1e-3, 0.5, 40.0]), st.sampled_from([-300.0, 0.0, 7.0]))
def test_threshold_moves_with_the_scores(scores: list[float], rate: float, scale: float, shift: float) -> None:
    """Scaling and shifting all scores scales and shifts the threshold and its interval."""
    assume(max(scores) > min(scores))
    plain = threshold_from_scores(scores, rate)
    moved = threshold_from_scores(np.asarray(scores) * scale + shift, rate)
    tolerance = 1e-6 * (max(scores) - min(scores)) * scale
    assert moved.value == pytest.approx(plain.value * scale + shift, abs=tolerance, rel=1e-6)
    if plain.interval is not None and moved.interval is not None:
        expected = [end * scale + shift for end in plain.interval]
        assert list(moved.interval) == pytest.approx(expected, abs=tolerance, rel=1e-6)


@settings(max_examples=80, deadline=None)
@given(Scores)
def test_extrapolation_stays_above_the_scores_and_in_its_interval(scores: list[float]) -> None:
    """An extrapolated threshold is marked, at least the largest score, finite, and its interval is ordered."""
    record = threshold_from_scores(scores, 0.001)
    assert not record.certified
    assert record.value >= max(scores)
    assert record.interval is not None
    assert record.interval[0] <= record.interval[1]
    assert all(math.isfinite(v) for v in (record.value, *record.interval))


def test_constant_scores_give_that_constant() -> None:
    """Scores without any spread extrapolate to themselves."""
    record = threshold_from_scores([2.5] * 30, 0.001)
    assert (record.value, record.interval, record.certified) == (2.5, (2.5, 2.5), False)


def test_too_few_or_broken_scores_are_refused() -> None:
    """Four images, or a NaN score, are refused with the number of images needed."""
    with pytest.raises(DataError, match=r"at least 5 held-out good images; there are 4"):
        threshold_from_scores([1.0] * 4, 0.1)
    with pytest.raises(DataError, match="1 of 6 scores"):
        threshold_from_scores([1.0] * 5 + [float("nan")], 0.1)
    with pytest.raises(ValueError, match="false_alarm_rate"):
        threshold_from_scores([1.0] * 5, 0.0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=20), st.floats(-1e7, 1e7) | st.sampled_from(ODD), Rates, Rates
)
def test_heatmap_scale_always_rises(maxima: list[float], ordinary: float, rate: float, other: float) -> None:
    """The scale rises, low < pixel threshold < high, for any input, also after changing the rate."""
    for thresholds in (
        first := class_thresholds([1.0] * len(maxima), maxima, ordinary, rate),
        at_rate(first, other),
    ):
        scale = thresholds.heatmap_scale
        assert scale.low < scale.threshold < scale.high


def test_at_rate_equals_thresholds_made_at_that_rate() -> None:
    """Changing the rate without images gives the same thresholds as computing them at that rate."""
    rng = np.random.default_rng(2)
    scores, maxima = rng.gamma(2.0, size=60), rng.gamma(3.0, size=60)
    assert at_rate(class_thresholds(scores, maxima, 0.2, 0.05), 0.002) == class_thresholds(scores, maxima, 0.2, 0.002)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (3, 10), (10, 10), (2, 400)])
def test_binomial_interval_is_clopper_pearson(k: int, n: int) -> None:
    """At each end of the interval the binomial tail of what was seen holds 2.5 %."""
    low, high = binomial_interval(k, n)
    assert 0.0 <= low <= k / n <= high <= 1.0

    def mass(first: int, last: int, rate: float) -> float:
        return sum(math.comb(n, j) * rate**j * (1 - rate) ** (n - j) for j in range(first, last + 1))

    if k > 0:
        assert mass(k, n, low) == pytest.approx(0.025, abs=1e-6)
    if k < n:
        assert mass(0, k, high) == pytest.approx(0.025, abs=1e-6)


def test_binomial_interval_refuses_nonsense() -> None:
    """More hits than trials, or no trials, have no interval."""
    for k, n in ((3, 2), (0, 0), (-1, 4)):
        with pytest.raises(ValueError, match="k of n"):
            binomial_interval(k, n)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_heatmap_scale_keeps_the_ordinary_value_in_any_unit(unit: float) -> None:
    """Where the ordinary value lies below the threshold it is the low end, and the threshold is the exact middle."""
    thresholds = class_thresholds([1.0] * 9, [5.0 * unit] * 9, 2.0 * unit, 0.1)
    assert (thresholds.heatmap_low, thresholds.heatmap_high) == (2.0 * unit, pytest.approx(8.0 * unit))
