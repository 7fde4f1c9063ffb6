"""Forecast of a count: how many events the coming hours bring, from those of an observed time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from edgead.evaluation.bursts import INDEPENDENT, Dispersion, Floats

# Beyond this mean, or this number of bursts, a count is taken as normal.
_MANY, _MANY_BURSTS = 20_000.0, 2000.0


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
        dispersion, coming_dispersion: Best value of the variance of the observed and of the coming counts over that of
            independent events.
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
    dispersions: Sequence[Dispersion] = INDEPENDENT,
    confidence: float = 0.95,
) -> CountForecast:
    """Predict how many events the coming hours bring.

    For independent events, the exact interval for two Poisson counts of one rate: given their sum, the first is binomial (Hahn
    and Meeker, Statistical Intervals, 1991, section 7.6), so that each end is a quantile of a negative binomial
    distribution. With bursts the negative binomial has the mean and the variance that follow from their dispersion, and the
    ends are quantiles of the mixture over all dispersions that are possible.

    Args:
        n_seen: Number of observed events, 0 or more.
        seen_h: Observed time in hours, above 0.
        hours: Length of the forecast in hours, above 0.
        dispersions: How far the events come in bursts; see `bursts.dispersions`.
        confidence: Probability of the interval, in (0, 1).
    """
    ratio = hours / seen_h
    alpha = (1.0 - confidence) / 2.0
    weights = np.array([one.weight for one in dispersions])
    # variance of the coming count around its prediction, over that of the independent coming events
    spreads = np.array([one.coming + one.seen * ratio for one in dispersions])
    # one more burst than was seen: what bounds the rate of independent events from above is one more event
    uppers = ratio * (n_seen + spreads / (1.0 + ratio))
    lowers = np.full(len(spreads), ratio * n_seen)
    low = 0 if n_seen == 0 else _first(lowers, spreads, weights, alpha)
    high = _first(uppers, spreads, weights, 1.0 - alpha)
    seen, coming = (float(weights @ [getattr(one, name) for one in dispersions]) for name in ("seen", "coming"))
    return CountForecast(n_seen / seen_h, hours, low, high, confidence, n_seen, seen_h, seen, coming)


def _first(means: Floats, spreads: Floats, weights: Floats, share: float) -> int:
    """Smallest number of which a mixture of negative binomial counts reaches a probability of more than `share`.

    Args:
        means: Means of its parts, above 0.
        spreads: Their variances over their means, above 1.
        weights: Their probabilities.
        share: The probability, in (0, 1).
    """
    count = 64
    while True:
        reached = np.zeros(count)
        for mean, spread, weight in zip(means.tolist(), spreads.tolist(), weights.tolist(), strict=True):
            reached += weight * _at_most(mean, spread, count)
        if reached[-1] > share:
            return int((reached > share).argmax())
        count *= 4


def _at_most(mean: float, spread: float, count: int) -> Floats:
    """Probabilities `(count,)` that a negative binomial count of a variance of `mean * spread` is at most 0, 1 and so on."""
    shape = mean / (spread - 1.0)
    if mean > _MANY or shape > _MANY_BURSTS:
        normal = NormalDist(mean, math.sqrt(mean * spread))
        return np.array([normal.cdf(number + 0.5) for number in range(count)])
    counts = np.arange(1.0, count)
    steps = np.log((counts - 1.0 + shape) / counts) + math.log1p(-1.0 / spread)
    logs = np.concatenate([[0.0], np.cumsum(steps)]) - shape * math.log(spread)
    return np.cumsum(np.exp(logs))
