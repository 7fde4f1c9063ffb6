"""Thresholds from held-out good images at a stated false-alarm rate: split-conformal, or extrapolated and marked so.

An image raises an alarm if its score is *above* the threshold. The k-th smallest of n exchangeable scores, with
k = ceil((n+1)(1-rate)), is exceeded by a new good score with probability at most `rate`, for any distribution. With n
images, no rate below 1/(n+1) can be certified; smaller rates are extrapolated by `tail.fit_tail`.

That probability is an average over the choice of the n images too. The rate above the k-th smallest of one choice is a
Beta(n+1-k, k) variable (smaller with ties): it exceeds the stated rate in 3 to 5 of 10 trainings. With a `confidence`, k
is the smallest for which that variable is at most `rate` with that probability (a tolerance limit; Wilks 1941), which
needs more images: 598 instead of 199 for 0.5 % at 95 %.

References:
    Determination of sample sizes for setting tolerance limits (Wilks, 1941), Annals of Mathematical Statistics 12(1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.errors import DataError
from edgead.evaluation.tail import fit_tail
from edgead.manifest import MIN_IMAGES as MIN_IMAGES
from edgead.manifest import ClassThresholds, ThresholdRecord
from edgead.prediction import HeatmapScale

# Under heavier tails, or with a few defects among the held-out images, the interval contains the truth less often.
ASSUMPTION = "if the tail continues as fitted and every held-out image is good"
# A threshold chosen by hand may lie where no good image ever scores; no pixel threshold is sought for rarer ones.
RAREST = 1e-6


def threshold_from_scores(
    scores: ArrayLike, false_alarm_rate: float, confidence: float | None = None
) -> ThresholdRecord:
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
        confidence: Probability, in [0.5, 1), that this threshold keeps the rate; None = the rate is kept on average over
            the choice of the images. An extrapolated threshold is then the upper end of its one-sided interval.

    Raises:
        DataError: If there are fewer than 5 scores or one is not finite.
        ValueError: If the rate or the confidence is out of range.
    """
    if not 0.0 < false_alarm_rate < 1.0:
        raise ValueError(f"false_alarm_rate must be between 0 and 1, got {false_alarm_rate}")
    if confidence is not None and not 0.5 <= confidence < 1.0:
        raise ValueError(f"confidence must be at least 0.5 and below 1, got {confidence}")
    ordered = checked_scores(scores)
    n = ordered.size
    n_above = certified_above(n, false_alarm_rate, confidence)
    if n_above is not None:
        return ThresholdRecord(
            value=float(ordered[n - 1 - n_above]), false_alarm_rate=false_alarm_rate, certified=True, interval=None,
            n_images=n, confidence=confidence,
        )  # fmt: skip
    largest = float(ordered[-1])
    fit = fit_tail(ordered)
    value, interval = largest, (largest, largest)
    if fit is not None:
        at = fit.quantile(false_alarm_rate)
        if confidence is not None:
            at = max(at, fit.interval(false_alarm_rate, 2.0 * confidence - 1.0)[1])
        value = max(largest, at)
        interval = fit.interval(false_alarm_rate)
    return ThresholdRecord(
        value=value, false_alarm_rate=false_alarm_rate, certified=False, interval=interval, n_images=n,
        confidence=confidence,
    )  # fmt: skip


def certified_above(n: int, false_alarm_rate: float, confidence: float | None = None) -> int | None:
    """Number of the n scores that may lie above a certified threshold; None if n images certify no threshold.

    >>> certified_above(999, 0.005), certified_above(999, 0.005, 0.95), certified_above(198, 0.005)
    (4, 1, None)
    """
    if confidence is None:
        # The 1e-9 keeps (n+1) * rate = 1 on the certified side when it comes out as 0.9999999999.
        m = math.floor((n + 1) * false_alarm_rate + 1e-9) - 1
    else:
        # P(Beta(m+1, n-m) <= rate) = P(Binomial(n, rate) > m)
        m = -1
        while m < n - 1 and _binomial_cdf(m + 1, n, false_alarm_rate) <= 1.0 - confidence:
            m += 1
    return m if m >= 0 else None


def images_to_certify(false_alarm_rate: float, confidence: float | None = None) -> int:
    """Number of held-out good images that certify `false_alarm_rate`.

    >>> images_to_certify(0.005), images_to_certify(0.005, 0.95)
    (199, 598)
    """
    if confidence is not None:
        return math.ceil(math.log1p(-confidence) / math.log1p(-false_alarm_rate) - 1e-9)
    return math.ceil(1.0 / false_alarm_rate - 1e-9) - 1


def smallest_rate(n: int, confidence: float | None = None) -> float:
    """Smallest false-alarm rate that n good images certify, rounded up to 0.01 %.

    >>> smallest_rate(60), smallest_rate(199), smallest_rate(60, 0.95)
    (0.0164, 0.005, 0.0488)
    """
    exact = 1.0 / (n + 1) if confidence is None else 1.0 - (1.0 - confidence) ** (1.0 / n)
    return math.ceil(1e4 * exact - 1e-6) / 1e4


def rate_interval(record: ThresholdRecord) -> tuple[float, float] | None:
    """95 % interval of the true false-alarm rate of a certified threshold; None if it is not certified.

    Exact for scores without ties, for any distribution; with ties the true rate may be below.

    >>> tuple(round(end, 4) for end in rate_interval(threshold_from_scores(range(999), 0.005)))
    (0.0016, 0.0102)
    """
    n_above = certified_above(record.n_images, record.false_alarm_rate, record.confidence)
    return exceedance_interval(n_above, record.n_images) if record.certified and n_above is not None else None


def exceedance_interval(n_above: int, n: int) -> tuple[float, float]:
    """95 % interval of the rate above a score with `n_above` of n scores above it: quantiles of Beta(n_above+1, n-n_above)."""
    # The Clopper-Pearson ends are quantiles of Beta distributions.
    return binomial_interval(min(n_above + 1, n), n)[0], binomial_interval(n_above, n)[1]


def class_thresholds(
    scores: ArrayLike,
    map_maxima: ArrayLike,
    ordinary_value: float,
    false_alarm_rate: float,
    confidence: float | None = None,
) -> ClassThresholds:
    """Thresholds and heatmap scale of one class from its held-out good images.

    Args:
        scores: Image scores, `(n,)`.
        map_maxima: Largest map value of each image, `(n,)`. A share `false_alarm_rate` of good images exceeds the
            pixel threshold anywhere.
        ordinary_value: Map value of an ordinary position on a good image, for example the 90 % quantile of the map
            values; the transparent end of the colour scale.
        false_alarm_rate: Wanted share of good images that raise an alarm, in (0, 1).
        confidence: See `threshold_from_scores`.

    Returns:
        Thresholds with `heatmap_low < pixel_threshold < heatmap_high` for any input; the pixel threshold is the
        middle of the scale.

    Raises:
        DataError: If there are fewer than 5 images or a value is not finite.
    """
    image_scores, maxima = checked_scores(scores, keep_order=True), checked_scores(map_maxima, keep_order=True)
    if image_scores.size != maxima.size:
        raise ValueError(f"every image has a score and a map maximum, got {image_scores.size} and {maxima.size}")
    pixel_threshold = threshold_from_scores(maxima, false_alarm_rate, confidence)
    low, high = _scale_ends(ordinary_value, pixel_threshold.value)
    return ClassThresholds(
        scores=tuple(image_scores.tolist()),
        map_maxima=tuple(maxima.tolist()),
        threshold=threshold_from_scores(image_scores, false_alarm_rate, confidence),
        pixel_threshold=pixel_threshold,
        heatmap_low=low,
        heatmap_high=high,
    )


def at_rate(thresholds: ClassThresholds, false_alarm_rate: float) -> ClassThresholds:
    """Thresholds of the same class and confidence at another false-alarm rate, from the recorded scores, without images."""
    return class_thresholds(
        thresholds.scores, thresholds.map_maxima, thresholds.heatmap_low, false_alarm_rate,
        thresholds.threshold.confidence,
    )  # fmt: skip


def scale_at(thresholds: ClassThresholds, threshold: ThresholdRecord) -> HeatmapScale:
    """Colour scale and pixel threshold that belong to any threshold of scores: those of its false-alarm rate.

    Args:
        thresholds: Thresholds of the class, with the map maxima of its held-out images.
        threshold: Threshold of the class or of a zone, certified, extrapolated or chosen by hand.
    """
    rate = threshold.false_alarm_rate
    if rate == thresholds.threshold.false_alarm_rate:
        return thresholds.heatmap_scale
    maxima = thresholds.map_maxima
    rate = within_images(rate, len(maxima))
    value = threshold_from_scores(maxima, rate, thresholds.threshold.confidence).value
    low, high = _scale_ends(thresholds.heatmap_low, value)
    return HeatmapScale(low, value, high)


def within_images(false_alarm_rate: float, n_images: int) -> float:
    """Nearest rate that n images can have a threshold for, also to one chosen by hand that all or none of them exceed."""
    return min(max(false_alarm_rate, RAREST), n_images / (n_images + 1))


def at_confidence(thresholds: ClassThresholds, confidence: float) -> ClassThresholds:
    """Thresholds of the same class and rate at another confidence, from the recorded scores, without images."""
    return class_thresholds(
        thresholds.scores,
        thresholds.map_maxima,
        thresholds.heatmap_low,
        thresholds.threshold.false_alarm_rate,
        confidence,
    )


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


def wilson_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate after k events in n trials: its mean coverage is near `confidence`, for few trials too.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).

    >>> tuple(round(end, 3) for end in wilson_interval(14, 20))
    (0.481, 0.855)
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"k of n needs 0 <= k <= n and n > 0, got {k} of {n}")
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    share, scale = k / n, 1.0 + z * z / n
    middle = (share + z * z / (2.0 * n)) / scale
    reach = z * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n)) / scale
    return max(0.0, middle - reach), min(1.0, middle + reach)


def rate_to_promise(asked: float | None, usual: float, n: int, confidence: float | None = None) -> float:
    """False-alarm rate that n good images promise.

    Args:
        asked: Rate that the user asked for, which is kept; None = the usual one, or the smallest that is certified.
        usual: Usual rate.
        n: Number of good images with a score.
        confidence: See `threshold_from_scores`.
    """
    return max(usual, smallest_rate(n, confidence)) if asked is None else asked


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
