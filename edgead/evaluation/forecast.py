"""Forecast of a count: how many events the coming hours bring, from those of an observed time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

# Beyond this mean the limits are those of a normal distribution.
_MANY = 2000.0


@dataclass(frozen=True)
class CountForecast:
    """Number of events in the coming hours.

    Attributes:
        per_hour: Events per hour of the observed time.
        hours: Length of the forecast, in hours.
        low, high: Prediction interval: the coming hours bring this many events.
        confidence: Probability of the interval, if the coming hours are like the observed ones.
        n_seen: Number of observed events.
        seen_h: Length of the observed time, in hours.
        dispersion, coming_dispersion: Variance of the observed and of the coming counts over that of independent events.
    """

    per_hour: float
    hours: float
    low: int
    high: int
    confidence: float
    n_seen: int
    seen_h: float
    dispersion: float = 1.0
    coming_dispersion: float = 1.0


def forecast_count(
    n_seen: int,
    seen_h: float,
    hours: float,
    *,
    dispersion: float = 1.0,
    coming_dispersion: float | None = None,
    confidence: float = 0.95,
) -> CountForecast:
    """Predict how many events the coming hours bring.

    The exact interval for two Poisson counts of one rate: given their sum, the first is binomial (Hahn and Meeker,
    Statistical Intervals, 1991, section 7.6), so that each end is a quantile of a negative binomial distribution. Events in
    bursts are counted in units of their dispersion, as for a quasi-Poisson count.

    Args:
        n_seen: Number of observed events, 0 or more.
        seen_h: Observed time in hours, above 0.
        hours: Length of the forecast in hours, above 0.
        dispersion: Variance of the observed counts over that of independent events, 1 or more.
        coming_dispersion: The same of the coming counts; None = as observed.
        confidence: Probability of the interval, in (0, 1).
    """
    ratio = hours / seen_h
    coming = dispersion if coming_dispersion is None else coming_dispersion
    # variance of the coming count around its prediction, over that of independent events
    unit = (coming + dispersion * ratio) / (1.0 + ratio)
    alpha = (1.0 - confidence) / 2.0
    share = 1.0 / (1.0 + ratio)
    low = 0 if n_seen == 0 else math.floor(unit * _low(n_seen / unit, share, alpha))
    high = math.ceil(unit * _high(n_seen / unit + 1.0, share, alpha))
    return CountForecast(n_seen / seen_h, hours, low, high, confidence, n_seen, seen_h, dispersion, coming)


def _low(shape: float, share: float, alpha: float) -> int:
    """Largest number that a negative binomial variable stays below with a probability of at most `alpha`."""
    return _count_up(shape, share, lambda reached: reached > alpha, -NormalDist().inv_cdf(1.0 - alpha))


def _high(shape: float, share: float, alpha: float) -> int:
    """Smallest number that a negative binomial variable exceeds with a probability of at most `alpha`."""
    return _count_up(shape, share, lambda reached: 1.0 - reached <= alpha, NormalDist().inv_cdf(1.0 - alpha))


def _count_up(shape: float, share: float, is_reached: Callable[[float], bool], deviations: float) -> int:
    mean = shape * (1.0 - share) / share
    if mean > _MANY:
        return max(0, round(mean + deviations * math.sqrt(mean / share)))
    reached, number = 0.0, 0
    while True:
        reached += math.exp(
            math.lgamma(number + shape)
            - math.lgamma(shape)
            - math.lgamma(number + 1.0)
            + shape * math.log(share)
            + number * math.log1p(-share)
        )
        if is_reached(reached):
            return number
        number += 1
