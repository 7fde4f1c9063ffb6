"""Forecast of a count beside sums by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgead.evaluation.bursts import Dispersion
from edgead.evaluation.forecast import forecast_count


def binomial_cdf(k: int, n: int, p: float) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(("n_seen", "seen_h", "hours"), [(0, 2.0, 1.0), (3, 0.2, 1.0), (17, 5.0, 1.0), (40, 1.0, 8.0)])
def test_ends_are_those_of_the_conditional_test(n_seen: int, seen_h: float, hours: float) -> None:
    """Given the sum of both counts, the observed one is binomial: the ends are the last counts it does not reject."""
    found = forecast_count(n_seen, seen_h, hours)
    share = seen_h / (seen_h + hours)

    def at_most(coming: int) -> float:
        return binomial_cdf(n_seen, n_seen + coming, share)

    def at_least(coming: int) -> float:
        return 1.0 - (binomial_cdf(n_seen - 1, n_seen + coming, share) if n_seen else 0.0)

    assert at_most(found.high + 1) <= 0.025 < at_most(found.high)
    assert at_least(found.low) > 0.025
    assert found.low == 0 or at_least(found.low - 1) <= 0.025


def test_many_events_are_counted_without_a_jump() -> None:
    """Where the sums give way to the normal distribution, the ends go on without a step."""
    few, many = forecast_count(1990, 1.0, 1.0), forecast_count(2010, 1.0, 1.0)
    assert many.low - few.low == pytest.approx(20, abs=4)
    assert many.high - few.high == pytest.approx(20, abs=4)
    assert forecast_count(10**6, 1.0, 1.0).low > 990_000


def test_bursts_widen_it() -> None:
    """A dispersion of 4 doubles the width; one of the coming hours alone counts too, and what is only possible as far as it is."""
    plain = forecast_count(400, 4.0, 4.0)
    wide = forecast_count(400, 4.0, 4.0, dispersions=[Dispersion(4.0, 4.0)])
    assert (wide.high - wide.low) / (plain.high - plain.low) == pytest.approx(2.0, rel=0.1)
    half = forecast_count(400, 4.0, 4.0, dispersions=[Dispersion(1.0, 4.0)])
    assert plain.high < half.high < wide.high
    mixed = forecast_count(400, 4.0, 4.0, dispersions=[Dispersion(weight=0.9), Dispersion(4.0, 4.0, 0.1)])
    assert plain.high < mixed.high < wide.high
    assert plain.low > mixed.low > wide.low
    assert (mixed.dispersion, mixed.coming_dispersion) == pytest.approx((1.3, 1.3))


def test_the_ends_of_bursts_are_those_of_a_simulation() -> None:
    """Logarithmic bursts give negative binomial counts: each end leaves out as many draws as it says."""
    rng = np.random.default_rng(0)
    excess, mean = 7.0, 40.0
    found = forecast_count(10**6, 10**6 / mean, 1.0, dispersions=[Dispersion(1.0 + excess, 1.0 + excess)])
    bursts = rng.poisson(mean / excess * math.log1p(excess), 20_000)
    counts = np.array([rng.logseries(excess / (1.0 + excess), n).sum() for n in bursts])
    for outside in (counts > found.high, counts < found.low):
        assert 0.015 < outside.mean() < 0.028, "counts are whole numbers: less than 2.5 % by the share of one of them"


@pytest.mark.parametrize("per_hour", [0.5, 5.0, 50.0])
def test_it_covers_at_its_rate(per_hour: float) -> None:
    """In at least 95 of 100 draws of independent events the coming count lies inside."""
    rng = np.random.default_rng(0)
    n, inside = 2000, 0
    for seen, coming in rng.poisson((per_hour * 0.2, per_hour), (n, 2)):
        found = forecast_count(int(seen), 0.2, 1.0)
        inside += found.low <= coming <= found.high
    assert inside / n >= 0.945
