"""Anomalous regions without a tuned threshold, by the expected number of false detections (NFA) of every region.

Under the model, the latents of a good image are standard normal and independent. A connected region in which every
position has a large squared norm is then improbable. Its probability, multiplied by the number of regions that could
have been tested, bounds how many such regions one good image shows on average. A region is anomalous if that number is
below epsilon, by default one false detection per image.

Latents of a trained model are neither exactly standard normal nor independent between positions, so the nominal
number is too small. Good images correct it in two ways: `LatentScale.good_mean` and `epsilon_from_good_images`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.errors import ShapeError
from edgead.evaluation.threshold import threshold_from_scores
from edgead.imaging import upsample_map
from edgead.manifest import ThresholdRecord

MergeRule = Literal["published", "complete"]

_LN10 = math.log(10.0)
# The number of 4-connected shapes of r cells is about 0.316915 * 4.062570^r / r (Jensen & Guttmann, 2000).
_LN_POLYOMINO_FACTOR = math.log(0.316915)
_LN_POLYOMINO_GROWTH = math.log(4.062570)


@dataclass(frozen=True)
class LatentScale:
    """Squared latents of one scale of one image.

    Attributes:
        mean_square: Mean of z² over the channels, `(h, w)`, float32, finite, >= 0.
        channels: Number of channels C of z.
        good_mean: Mean of `mean_square` over all positions of held-out good images; the map is divided by it, so an
            ordinary position becomes 1. The default trusts the model.
    """

    mean_square: NDArray[np.float32]
    channels: int
    good_mean: float = 1.0

    def __post_init__(self) -> None:
        if self.mean_square.ndim != 2 or self.mean_square.size == 0:
            raise ShapeError("mean_square", expected="(h, w), not empty", actual=self.mean_square.shape)
        if not np.isfinite(self.mean_square).all() or self.mean_square.min() < 0.0:
            raise ValueError("mean_square must be finite and not negative")
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")
        if not (math.isfinite(self.good_mean) and self.good_mean > 0.0):
            raise ValueError(f"good_mean must be positive and finite, got {self.good_mean}")


@dataclass(frozen=True)
class NfaMap:
    """Number of false detections at every position of one image.

    Attributes:
        log_nfa: Map `(H, W)`, float32: log10 of the expected number of regions per good image that are as improbable as
            the region here; the logarithm of the number of tests outside all regions. Smaller = more anomalous.
        log_epsilon: log10 of the accepted number of false detections per image.
    """

    log_nfa: NDArray[np.float32]
    log_epsilon: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Anomalous positions, `(H, W)`."""
        return self.log_nfa < self.log_epsilon


def log_nfa_map(
    scales: Sequence[LatentScale],
    size: tuple[int, int] | None = None,
    *,
    log_epsilon: float = 0.0,
    rule: MergeRule = "published",
) -> NfaMap:
    r"""Find improbable regions in every scale and map their number of false detections.

    Candidates are the 4-connected components of the upper level sets of each map. With :math:`q` the smallest
    :math:`\sum_c z_c^2` in a region R, the probability that all its positions reach q is bounded (Chernoff) by

    .. math:: \log_{10} P(R) = -\frac{|R|}{\ln 10} \frac{C}{2} \Big(\frac{q}{C} - 1 - \ln\frac{q}{C}\Big)
              \ \text{if } q > C, \text{ else } 0

    and :math:`\log_{10} \mathrm{NFA}(R) = \log_{10} N + \log_{10} P(R)` with N of `log_number_of_tests`. Nested
    candidates exclude each other; `rule` decides which is kept. Each scale's map of log10 P, 0 outside the regions kept,
    is upsampled (bilinear) and the smallest value over the scales counts.

    The smallest value depends on `size`: between the cells of a coarse scale the interpolation weakens a detection.

    Args:
        scales: All scales of one image, in any order.
        size: Output `(height, width)`, no smaller than any scale; default: that of the finest scale.
        log_epsilon: log10 of the accepted number of false detections per image.
        rule: "published": from the peaks down, a chain of nested regions without a fork keeps its most significant
            one; where regions meet, the joint region replaces them if it is at least as significant as the best of
            them; otherwise the search stops there. "complete" continues the search further down: a region replaces
            all regions inside it if it is at least as significant as each. The result is then never less significant
            than the most significant candidate, also after raising values. "published" can lose a large region to a
            small peak beside another one, but on a map that is far from the model (large areas above 1) it keeps
            small regions where "complete" marks the whole area.

    Returns:
        The map at `size`.

    Raises:
        ValueError: If there is no scale, or `size` is smaller than a scale.

    References:
        U-Flow: A U-shaped Normalizing Flow for Anomaly Detection with Unsupervised Threshold (Tailanian, Pardo,
        Musé, 2024), JMIV 66, arXiv:2211.12353, the a contrario threshold in the version with a tree. Deviates from
        the published code: unusually small latents (q <= C) never count as significant (there the bound is applied
        on both sides), and of equally significant nested regions the larger is kept.
    """
    if not scales:
        raise ValueError("scales must not be empty")
    shapes = [scale.mean_square.shape for scale in scales]
    height, width = size or max(shapes, key=math.prod)
    if any(h > height or w > width for h, w in shapes):
        raise ValueError(f"size must be at least that of every scale, got {(height, width)} for {shapes}")
    log_pfa = np.minimum.reduce([upsample_map(_log_pfa_map(scale, rule), (height, width)) for scale in scales])
    return NfaMap(log_pfa + np.float32(log_number_of_tests(shapes)), log_epsilon)


@lru_cache(maxsize=64)
def _log_number_of_tests(sizes: tuple[int, ...]) -> float:
    terms = []
    for n in sizes:
        r = np.arange(1, n + 1)
        terms.append(math.log(n) + _LN_POLYOMINO_FACTOR + r * _LN_POLYOMINO_GROWTH - np.log(r))
    return float(np.logaddexp.reduce(np.concatenate(terms))) / _LN10


def log_number_of_tests(shapes: Sequence[tuple[int, ...]]) -> float:
    r"""log10 of the number of regions in all scales: for each position of a scale, all shapes of up to its n cells.

    .. math:: N = \sum_s n_s \sum_{r=1}^{n_s} 0.316915 \cdot 4.062570^r / r

    Summed as logarithms: N has 624 digits for a map of 32×32.

    Args:
        shapes: Size `(h, w)` of every scale.
    """
    return _log_number_of_tests(tuple(math.prod(shape) for shape in shapes))


def epsilon_from_good_images(
    smallest_log_nfa: ArrayLike, false_alarm_rate: float, confidence: float | None = None
) -> ThresholdRecord:
    """Choose log10 epsilon so that at most `false_alarm_rate` of good images show any detection.

    A certified record holds for any distribution of the latents, also if the nominal number of false detections is
    wrong. The value may be above or below 0: the nominal N is a large overestimate for smooth regions; latents that are
    correlated between positions have the opposite effect.

    Args:
        smallest_log_nfa: Smallest `log_nfa` of each held-out good image, `(n,)`, n >= 5, from `log_nfa_map` with the
            `size`, `rule` and `good_mean` that will be used.
        false_alarm_rate: Wanted share of good images with a detection, in (0, 1).
        confidence: See `threshold_from_scores`.

    Returns:
        Threshold record whose value is log10 epsilon, for `log_nfa_map(..., log_epsilon=record.value)`.

    Raises:
        DataError: If there are fewer than 5 images or a value is not finite.
        ValueError: If the rate is not between 0 and 1.
    """
    record = threshold_from_scores(-np.asarray(smallest_log_nfa, np.float64), false_alarm_rate, confidence)
    interval = None if record.interval is None else (-record.interval[1], -record.interval[0])
    return record.model_copy(update={"value": -record.value, "interval": interval})


def _log_pfa_map(scale: LatentScale, rule: MergeRule) -> NDArray[np.float32]:
    """log10 P of the region kept at each position, `(h, w)`, 0 outside."""
    values = scale.mean_square.astype(np.float64) / scale.good_mean
    # Regions that reach down to 1 have P = 1: they never replace a significant one and are not shown.
    order, parents, sizes = _component_tree(values, lowest=1.0)
    levels = values.ravel()[order]
    log_pfa = (-sizes * (scale.channels / 2.0 / _LN10) * (levels - 1.0 - np.log(levels))).tolist()
    kept = _regions_kept(levels.tolist(), parents, log_pfa, rule)
    shown = [0.0] * len(parents)
    for i in range(len(parents) - 1, -1, -1):
        parent = parents[i]
        shown[i] = shown[parent] if parent >= 0 and shown[parent] < 0.0 else (log_pfa[i] if kept[i] else 0.0)
    result = np.zeros(values.size, np.float32)
    result[order] = shown
    return result.reshape(values.shape)


def _component_tree(
    values: NDArray[np.float64], lowest: float
) -> tuple[NDArray[np.intp], list[int], NDArray[np.int64]]:
    """Build the tree of 4-connected upper level sets above `lowest`, by union-find from the highest position down.

    Returns:
        Flat positions, highest first; for each position in that order, the index of the next lower position that its
        component joins (always later in the order; -1 for none); and the size of the component when it is reached.
        On a plateau inside one component, the last position stands for the component.
    """
    flat = values.ravel()
    above = np.flatnonzero(flat > lowest)
    order = above[np.argsort(-flat[above], kind="stable")]
    ranks = np.full(flat.size, -1)
    ranks[order] = np.arange(order.size)
    rank = ranks.reshape(values.shape)
    one = np.concatenate([rank[:, :-1].ravel(), rank[:-1].ravel()])
    other = np.concatenate([rank[:, 1:].ravel(), rank[1:].ravel()])
    both = (one >= 0) & (other >= 0)
    earlier, later = np.minimum(one, other)[both], np.maximum(one, other)[both]
    by_later = np.argsort(later, kind="stable")
    parents = [-1] * order.size
    roots = list(range(order.size))
    for root, joined in zip(earlier[by_later].tolist(), later[by_later].tolist(), strict=True):
        while roots[root] != root:
            roots[root] = roots[roots[root]]
            root = roots[root]
        if root != joined:
            parents[root] = roots[root] = joined
    sizes = [1] * order.size
    for i, parent in enumerate(parents):
        if parent >= 0:
            sizes[parent] += sizes[i]
    return order, parents, np.array(sizes, np.int64)


def _regions_kept(levels: list[float], parents: list[int], log_pfa: list[float], rule: MergeRule) -> list[bool]:
    """Whether the region of each position replaces all regions inside it; of nested regions the outermost counts."""
    n = len(parents)
    kept = [False] * n
    best_inside = [0.0] * n
    n_inside = [0] * n
    stopped = [False] * n
    for i, parent in enumerate(parents):
        is_region = parent < 0 or levels[parent] < levels[i]
        if is_region:
            kept[i] = not stopped[i] and log_pfa[i] <= best_inside[i]
            if rule == "published" and n_inside[i] > 1 and not kept[i]:
                stopped[i] = True
            best_inside[i] = min(best_inside[i], log_pfa[i])
        if parent >= 0:
            best_inside[parent] = min(best_inside[parent], best_inside[i])
            n_inside[parent] += 1 if is_region else n_inside[i]
            stopped[parent] = stopped[parent] or stopped[i]
    return kept
