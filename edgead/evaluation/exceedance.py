"""Rate at which new good images exceed a given level, with its interval: the inverse of `threshold.py`.

Up to the largest score, the probability of exceeding the k-th smallest of n exchangeable scores is a Beta(n+1-k, k)
variable over the draws of the n images (with ties it is smaller): its mean is the conformal rate, its quantiles are the
interval. Beyond the largest score, the posterior of `tail.py` is used, and the result has `certified=False`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgead.evaluation.tail import Floats, fit_tail
from edgead.evaluation.threshold import checked_scores, exceedance_interval
from edgead.manifest import ThresholdRecord


@dataclass(frozen=True)
class Exceedance:
    """Probability that a new good image scores above a level.

    Attributes:
        rate: Mean probability over the draws of the held-out images.
        interval: 95 % interval of the probability.
        certified: True if the level lies within the observed scores; false if extrapolated by a tail fit.
        n_images: Number of scores behind the estimate.
    """

    rate: float
    interval: tuple[float, float]
    certified: bool
    n_images: int


def exceedance(scores: ArrayLike, level: float) -> Exceedance:
    """Estimate how often new good images exceed any level, for example one chosen by hand.

    Args:
        scores: Scores of held-out good images, `(n,)`, n >= 5.
        level: Level in raw score units, finite.

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
    """
    ordered = checked_scores(scores)
    return _certified(ordered, level) if level <= ordered[-1] else _extrapolated(ordered, level)


def exceedance_of(scores: ArrayLike, threshold: ThresholdRecord) -> Exceedance:
    """Estimate how often new good images exceed a threshold that `threshold_from_scores` made from the same scores.

    Unlike `exceedance`, it knows whether a threshold equal to the largest score was certified or extrapolated.

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
    """
    ordered = checked_scores(scores)
    return (_certified if threshold.certified else _extrapolated)(ordered, threshold.value)


def _certified(ordered: Floats, level: float) -> Exceedance:
    n = ordered.size
    n_above = int(n - np.searchsorted(ordered, level, side="right"))
    return Exceedance((n_above + 1) / (n + 1), exceedance_interval(n_above, n), certified=True, n_images=n)


def _extrapolated(ordered: Floats, level: float) -> Exceedance:
    seen, fit = _certified(ordered, level), fit_tail(ordered)
    if fit is None:
        return Exceedance(seen.rate, (0.0, seen.interval[1]), certified=False, n_images=seen.n_images)
    low, high = fit.rate_interval(level)
    # A level above the largest score is not exceeded more often than that score.
    rate, high = min(seen.rate, fit.rate_above(level)), min(seen.interval[1], high)
    return Exceedance(rate, (low, high), certified=False, n_images=seen.n_images)
