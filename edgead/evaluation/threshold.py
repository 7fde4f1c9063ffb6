"""Thresholds from held-out good images at a stated false-alarm rate: split-conformal, or extrapolated and marked so.

An image raises an alarm if its score is *above* the threshold. The k-th smallest of n exchangeable scores, with
k = ceil((n+1)(1-rate)), is exceeded by a new good score with probability at most `rate`, for any distribution. With n
images, no rate below 1/(n+1) can be certified; smaller rates are extrapolated by `tail.fit_tail`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.errors import DataError
from edgead.evaluation.tail import fit_tail
from edgead.manifest import MIN_IMAGES as MIN_IMAGES
from edgead.manifest import ClassThresholds, ThresholdRecord


def threshold_from_scores(scores: ArrayLike, false_alarm_rate: float) -> ThresholdRecord:
    """Choose the threshold that good images exceed at `false_alarm_rate`.

    An extrapolated threshold is never below the largest score, so a lower rate never gives a lower threshold.

    >>> record = threshold_from_scores(range(1, 200), 0.005)
    >>> record.value, record.certified
    (199.0, True)
    >>> record = threshold_from_scores(range(1, 100), 0.005)
    >>> record.value > 99, record.certified
    (True, False)

    Args:
        scores: Scores of held-out good images, `(n,)`, n >= 5.
        false_alarm_rate: Wanted share of good images that raise an alarm, in (0, 1).

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
        ValueError: If the rate is not between 0 and 1.
    """
    if not 0.0 < false_alarm_rate < 1.0:
        raise ValueError(f"false_alarm_rate must be between 0 and 1, got {false_alarm_rate}")
    ordered = checked_scores(scores)
    n = ordered.size
    # The 1e-9 keeps (n+1) * rate = 1 on the certified side when it comes out as 0.9999999999.
    k = n + 1 - math.floor((n + 1) * false_alarm_rate + 1e-9)
    if k <= n:
        return ThresholdRecord(
            value=float(ordered[k - 1]), false_alarm_rate=false_alarm_rate, certified=True, interval=None, n_images=n
        )
    largest = float(ordered[-1])
    fit = fit_tail(ordered)
    value, interval = largest, (largest, largest)
    if fit is not None:
        value = max(largest, fit.quantile(false_alarm_rate))
        interval = fit.interval(false_alarm_rate)
    return ThresholdRecord(
        value=value, false_alarm_rate=false_alarm_rate, certified=False, interval=interval, n_images=n
    )


def images_to_certify(false_alarm_rate: float) -> int:
    """Number of held-out good images that certify `false_alarm_rate`.

    >>> images_to_certify(0.005)
    199
    """
    return math.ceil(1.0 / false_alarm_rate - 1e-9) - 1


def class_thresholds(
    scores: ArrayLike, map_maxima: ArrayLike, ordinary_value: float, false_alarm_rate: float
) -> ClassThresholds:
    """Thresholds and heatmap scale of one class from its held-out good images.

    Args:
        scores: Image scores, `(n,)`.
        map_maxima: Largest map value of each image, `(n,)`. A share `false_alarm_rate` of good images exceeds the
            pixel threshold anywhere.
        ordinary_value: Map value of an ordinary position on a good image, for example the 90 % quantile of the map
            values; the transparent end of the colour scale.
        false_alarm_rate: Wanted share of good images that raise an alarm, in (0, 1).

    Returns:
        Thresholds with `heatmap_low < pixel_threshold < heatmap_high` for any input; the pixel threshold is the
        middle of the scale.

    Raises:
        DataError: If there are fewer than 5 images or a value is not finite.
    """
    image_scores, maxima = checked_scores(scores, keep_order=True), checked_scores(map_maxima, keep_order=True)
    if image_scores.size != maxima.size:
        raise ValueError(f"every image has a score and a map maximum, got {image_scores.size} and {maxima.size}")
    pixel_threshold = threshold_from_scores(maxima, false_alarm_rate)
    low, high = _scale_ends(ordinary_value, pixel_threshold.value)
    return ClassThresholds(
        scores=tuple(image_scores.tolist()),
        map_maxima=tuple(maxima.tolist()),
        threshold=threshold_from_scores(image_scores, false_alarm_rate),
        pixel_threshold=pixel_threshold,
        heatmap_low=low,
        heatmap_high=high,
    )


def at_rate(thresholds: ClassThresholds, false_alarm_rate: float) -> ClassThresholds:
    """Thresholds of the same class at another false-alarm rate, from the recorded scores, without images."""
    return class_thresholds(thresholds.scores, thresholds.map_maxima, thresholds.heatmap_low, false_alarm_rate)


def binomial_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate after k events in n trials: its coverage is at least `confidence`.

    The binomial tails at both ends are half of the rest each; found by bisection.

    >>> tuple(round(end, 3) for end in binomial_interval(0, 50))
    (0.0, 0.071)
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"k of n needs 0 <= k <= n and n > 0, got {k} of {n}")
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if k == 0 else _bisect(lambda rate: 1.0 - _binomial_cdf(k - 1, n, rate) < tail)
    high = 1.0 if k == n else _bisect(lambda rate: _binomial_cdf(k, n, rate) > tail)
    return low, high


def checked_scores(scores: ArrayLike, *, keep_order: bool = False) -> NDArray[np.float64]:
    """Check the scores of at least 5 good images and return them, ascending unless `keep_order`.

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
    """
    values = np.asarray(scores, np.float64).ravel()
    if values.size < MIN_IMAGES:
        raise DataError(
            f"A threshold needs at least {MIN_IMAGES} held-out good images; there are {values.size}.",
            hint="Add good images; 199 certify a false-alarm rate of 0.5 %, 999 one of 0.1 %.",
        )
    if not np.isfinite(values).all():
        raise DataError(
            f"{np.count_nonzero(~np.isfinite(values))} of {values.size} scores of good images are not finite.",
            hint="The model or the engine is broken: retrain, or rebuild the engine at a higher precision.",
        )
    return values if keep_order else np.sort(values)


def _scale_ends(ordinary_value: float, threshold: float) -> tuple[float, float]:
    low = ordinary_value
    if not (math.isfinite(low) and low < threshold - 1e-6 * abs(threshold)):
        low = threshold - max(1e-3 * abs(threshold), 1e-6)
    return low, threshold + (threshold - low)


def _binomial_cdf(k: int, n: int, rate: float) -> float:
    i = np.arange(k + 1)
    log_choose = np.array([math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1) for j in range(k + 1)])
    return float(np.exp(log_choose + i * math.log(rate) + (n - i) * math.log1p(-rate)).sum())


def _bisect(is_left: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if is_left(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2
