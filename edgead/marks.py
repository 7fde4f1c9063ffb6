"""Marks of one image: where it is anomalous, with the guarantee that an anomalous image has a mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.prediction import Segmentation

# Of the way from an ordinary position, the median of the map, to its peak.
PEAK_SHARE = 0.5


@dataclass(frozen=True)
class Hysteresis:
    """Rule that marks the regions of an anomalous image, and nothing on others.

    A region of positions above `low` is marked if its largest value is above `high` and it has `min_area` positions; the
    region with the largest value of the image always is.

    Attributes:
        low: Map value above which a position belongs to a region, raw units.
        high: Map value that a region must exceed somewhere, raw units, at least `low`.
        closing: Side of the square, in positions, that closes gaps and dents of regions; 1 = none.
        min_area: Positions that a region needs.
    """

    low: float
    high: float
    closing: int = 1
    min_area: int = 1

    def segment(self, anomaly_map: NDArray[np.float32], inside: NDArray[np.bool_] | None = None) -> Segmentation:
        """Mark the regions of a map `(h, w)` inside some positions; None = all."""
        closed = anomaly_map
        if self.closing > 1:
            square = np.ones((self.closing, self.closing), np.uint8)
            closed = np.asarray(cv2.morphologyEx(anomaly_map, cv2.MORPH_CLOSE, square), np.float32)
        found = Segmentation(closed, self.low)
        if inside is not None:
            found = restricted(found, inside)
        above = found.mask
        n, labels = _regions(above)
        area = np.bincount(labels.ravel(), minlength=n)
        peaks = np.full(n, -np.inf, np.float32)
        np.maximum.at(peaks, labels.ravel(), np.where(above, found.values, np.float32(-np.inf)).ravel())
        kept = (peaks > self.high) & (area >= self.min_area)
        kept[labels[_peak(anomaly_map, inside)]] = True
        return replace(found, values=np.where(kept[labels] | ~above, found.values, _below(self.low)))


def marks(
    anomaly_map: NDArray[np.float32],
    level: float,
    *,
    is_anomalous: bool,
    own: Segmentation | None = None,
    inside: NDArray[np.bool_] | None = None,
    rule: Hysteresis | None = None,
) -> Segmentation:
    """Mark an image: where its map is above a level, by a rule, or as its own segmentation does.

    An anomalous image always has a mark: where nothing else is marked, the region around the largest value.

    Args:
        anomaly_map: Anomaly map `(h, w)`, float32, raw units.
        level: Map value above which a position is marked, if there is no segmentation of its own.
        is_anomalous: Whether the image score is above its threshold.
        own: Segmentation of the image that replaces the level, at any resolution.
        inside: Positions `(h, w)` that can be marked, at least one; None = all.
        rule: Rule that replaces the level, for an image without a segmentation of its own.
    """
    if own is None and rule is not None:
        if not is_anomalous:
            return Segmentation(np.zeros_like(anomaly_map), 1.0)
        found = rule.segment(anomaly_map, inside)
    else:
        found = own or Segmentation(anomaly_map, level)
    if inside is not None:
        found = restricted(found, inside)
    if not is_anomalous:
        return found
    if found.mask.any():
        return replace(found, is_never_empty=True)
    region = peak_region(anomaly_map, inside)
    if own is None or own.values.shape == anomaly_map.shape:
        return region
    marked = _resampled(region.mask, own.values.shape)
    if not marked.any():
        row, column = _peak(anomaly_map, inside)
        height, width = np.divide(marked.shape, anomaly_map.shape)
        marked[int((row + 0.5) * height), int((column + 0.5) * width)] = True
    return Segmentation(marked.astype(np.float32), 0.5, is_never_empty=True)


def peak_region(anomaly_map: NDArray[np.float32], inside: NDArray[np.bool_] | None = None) -> Segmentation:
    """Mark the connected region around the largest value, down to half-way between the median and it.

    Args:
        anomaly_map: Anomaly map `(h, w)`, float32.
        inside: Positions that can be marked, at least one; None = all.
    """
    row, column = _peak(anomaly_map, inside)
    peak = anomaly_map[row, column]
    typical = np.median(anomaly_map if inside is None else anomaly_map[inside])
    level = min(peak, np.float32(typical + PEAK_SHARE * (float(peak) - float(typical))))
    # a map of a single value is marked everywhere, so the limit lies just below the level
    limit = float(np.nextafter(level, np.float32(-np.inf)))
    whole = Segmentation(anomaly_map, limit, is_never_empty=True)
    if inside is not None:
        whole = restricted(whole, inside)
    _, labels = _regions(whole.mask)
    kept = labels == labels[row, column]
    return replace(whole, values=np.where(kept, whole.values, np.minimum(whole.values, _below(limit))))


def restricted(segmentation: Segmentation, inside: NDArray[np.bool_]) -> Segmentation:
    """Remove the marks outside some positions `(h, w)` of the image, at any resolution."""
    values = segmentation.values
    low = np.float32(min(float(values.min()), segmentation.limit))
    return replace(segmentation, values=np.where(_resampled(inside, values.shape), values, low))


def joined(parts: Sequence[Segmentation]) -> Segmentation:
    """Union of the marks of one image, at one resolution."""
    first, *others = parts
    if not others:
        return first
    if all(part.limit == first.limit for part in others):
        values = np.maximum.reduce([part.values for part in parts])
        limit = first.limit
    else:
        values = np.maximum.reduce([part.values - np.float32(part.limit) for part in parts])
        limit = 0.0
    return Segmentation(values, limit, is_never_empty=any(part.is_never_empty for part in parts))


def _regions(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.int32]]:
    """Number of labels, 0 included, and the label of each position: 0 or its 8-connected region."""
    n, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return n, np.asarray(labels, np.int32)


def _below(limit: float) -> np.float32:
    """Value that is not marked, even where rounding of an interpolation between several of them raises it."""
    value: np.float32 = np.float32(limit - 1e-5 * max(abs(limit), 1e-6))
    return value


def _peak(anomaly_map: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> tuple[int, int]:
    seen = anomaly_map if inside is None else np.where(inside, anomaly_map, np.float32(-np.inf))
    row, column = np.unravel_index(int(seen.argmax()), seen.shape)
    return int(row), int(column)


def _resampled(mask: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    rows = (np.arange(size[0]) * mask.shape[0]) // size[0]
    columns = (np.arange(size[1]) * mask.shape[1]) // size[1]
    return mask[np.ix_(rows, columns)]
