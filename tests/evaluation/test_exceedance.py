"""Exceedance of a level by good images: coverage, order, and agreement with the threshold that it inverts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgead.errors import DataError
from edgead.evaluation.exceedance import exceedance, exceedance_of
from edgead.evaluation.tail import fit_tail
from edgead.evaluation.threshold import threshold_from_scores

Scores = st.lists(st.integers(-1000, 1000).map(float), min_size=5, max_size=40)


@pytest.mark.parametrize(("n", "n_above"), [(50, 0), (50, 3), (99, 98), (20, 20)])
def test_within_the_scores_it_is_a_beta_distribution(n: int, n_above: int) -> None:
    """Mean and 95 % interval belong to Beta(j + 1, n - j) with j scores above the level; below all scores it is 1."""
    found = exceedance(np.arange(n) + 1.0, n - n_above)
    assert found.certified
    assert found.rate == pytest.approx((n_above + 1) / (n + 1))
    if n_above < n:
        beta = stats.beta(n_above + 1, n - n_above)
        assert found.rate == pytest.approx(beta.mean())
        assert list(found.interval) == pytest.approx([beta.ppf(0.025), beta.ppf(0.975)], rel=1e-6)
    else:
        assert found.interval[1] == 1.0


@pytest.mark.parametrize("ties", [False, True])
def test_certified_interval_covers_the_true_rate(ties: bool) -> None:
    """The interval covers the true exceedance rate for 93 to 97 % of 500 certified thresholds; with ties for
    fewer, where the true rate is then mostly below the interval.
    """
    rng = np.random.default_rng(3)
    inside = above = 0
    for _ in range(500):
        scores = rng.random(99)
        scores = np.ceil(scores * 40) / 40 if ties else scores
        threshold = threshold_from_scores(scores, 0.05)
        low, high = exceedance_of(scores, threshold).interval
        truth = 1.0 - threshold.value
        inside += low <= truth <= high
        above += truth > high
    assert above / 500 <= 0.035
    if not ties:
        assert 0.93 <= inside / 500 <= 0.97


@pytest.mark.parametrize(
    ("name", "least"),
    [("norm", 0.95), ("gumbel_r", 0.93), ("gamma", 0.93), ("lognorm", 0.9), ("t5", 0.9), ("t3", 0.75)],
)
def test_extrapolated_interval_covers_the_true_rate(name: str, least: float) -> None:
    """The interval covers the true chance for most of 150 thresholds for 1 in 30,000 from 100 images; with a t3 tail
    for three quarters.
    """
    marginal = {"gamma": stats.gamma(2.0), "lognorm": stats.lognorm(0.5), "t5": stats.t(5), "t3": stats.t(3)}
    distribution = marginal.get(name) or getattr(stats, name)()
    rng = np.random.default_rng(8)
    inside = 0
    for _ in range(150):
        scores = distribution.rvs(size=100, random_state=rng)
        threshold = threshold_from_scores(scores, 1 / 30_000)
        low, high = exceedance_of(scores, threshold).interval
        inside += low <= distribution.sf(threshold.value) <= high
    assert inside / 150 >= least


@settings(max_examples=60)
@given(Scores, st.lists(st.floats(-1500, 4000), min_size=2, max_size=6))
def test_a_higher_level_is_never_exceeded_more_often(scores: list[float], levels: list[float]) -> None:
    """Rate and interval fall with the level, across the largest score too, and stay in 0..1."""
    found = [exceedance(scores, level) for level in sorted([*levels, max(scores), max(scores) + 1e-6])]
    for low, high in itertools.pairwise(found):
        assert high.rate <= low.rate + 1e-12
        assert high.interval[1] <= low.interval[1] + 1e-9
    for item in found:
        assert 0.0 <= item.interval[0] <= item.interval[1] <= 1.0


@settings(max_examples=60)
@given(Scores, st.sampled_from([0.3, 0.05, 0.01, 1e-3, 1e-5]))
def test_no_threshold_is_said_to_break_its_own_rate(scores: list[float], rate: float) -> None:
    """The mean rate above a threshold is at most the rate it was made for, certified or not, unless all scores agree."""
    threshold = threshold_from_scores(scores, rate)
    found = exceedance_of(scores, threshold)
    assert found.certified is threshold.certified
    if threshold.certified or fit_tail(np.sort(scores)) is not None:
        assert found.rate <= rate * (1 + 1e-6)


@pytest.mark.parametrize("rate", [1e-2, 1e-3, 1e-5])
def test_rate_above_inverts_the_quantile(rate: float) -> None:
    """The fitted tail's chance above its own quantile is the rate, and lies within its interval."""
    fit = fit_tail(np.sort(np.random.default_rng(0).gamma(2.0, size=80)))
    assert fit is not None
    level = fit.quantile(rate)
    assert fit.rate_above(level) == pytest.approx(rate, rel=1e-6)
    low, high = fit.rate_interval(level)
    assert low < rate < high
    narrow = fit.rate_interval(level, confidence=0.5)
    assert low <= narrow[0] <= narrow[1] <= high


def test_rate_interval_holds_95_percent_of_the_posterior() -> None:
    """The ends of the interval are quantiles of draws from both parts of the posterior, the Beta and the tail."""
    fit = fit_tail(np.sort(np.random.default_rng(0).gamma(2.0, size=60)))
    assert fit is not None
    rng = np.random.default_rng(1)
    level = fit.quantile(2e-3)
    members = rng.choice(fit.weights.size, p=fit.weights, size=40_000)
    tails = stats.genpareto(fit.shapes[members], scale=fit.scales[members]).sf(level - fit.start)
    chances = tails * rng.beta(fit.n_above + 1, fit.n_images - fit.n_above, size=members.size)
    for confidence in (0.5, 0.95):
        expected = np.quantile(chances, [(1 - confidence) / 2, (1 + confidence) / 2])
        assert list(fit.rate_interval(level, confidence)) == pytest.approx(expected.tolist(), rel=0.06, abs=1e-5)


def test_scores_without_spread_say_nothing_beyond_their_count() -> None:
    """With equal scores, the conformal bound remains, and an interval from zero."""
    found = exceedance([2.0] * 19, 3.0)
    assert (found.rate, found.certified, found.interval[0]) == (0.05, False, 0.0)


def test_broken_scores_are_refused() -> None:
    """Too few scores are refused, as for a threshold."""
    with pytest.raises(DataError, match="at least 5"):
        exceedance([1.0] * 4, 1.0)
