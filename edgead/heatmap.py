"""Heatmaps and overlays of an anomaly map on a colour scale set by good images, the same in reports and in the stream."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.imaging import Image, rgb_from_bgr, upsample_map
from edgead.prediction import HeatmapScale as HeatmapScale
from edgead.prediction import Segmentation


@dataclass(frozen=True)
class Region:
    """Connected anomalous area, in pixels of its image.

    Attributes:
        x, y, width, height: Bounding box.
        area_px: Number of pixels.
        peak: Largest map value inside, raw units.
        contour: Outline `(M, 1, 2)`, int32, in OpenCV's form.
    """

    x: int
    y: int
    width: int
    height: int
    area_px: int
    peak: float
    contour: NDArray[np.int32]


def heatmap_from_map(anomaly_map: NDArray[np.float32], scale: HeatmapScale) -> Image:
    """Colour a map `(h, w)`: `(h, w, 3)` RGB, dark blue for ordinary, dark red for strongly anomalous."""
    levels = np.rint(scale.normalise(anomaly_map) * 255).astype(np.uint8)
    return _coloured(levels)


def find_regions(
    anomaly_map: NDArray[np.float32], threshold: float, size: tuple[int, int], segmentation: Segmentation | None = None
) -> list[Region]:
    """Find connected anomalous areas on an image of `size` (height, width), strongest first.

    Args:
        anomaly_map: Anomaly map `(h, w)`, float32, raw units.
        threshold: Map value above which a position is anomalous, if there is no `segmentation`.
        size: Image size `(height, width)` in pixels.
        segmentation: Segmentation to use instead of the threshold.
    """
    full = upsample_map(anomaly_map, size)
    mask = (full > threshold if segmentation is None else segmentation.mask_at(size)).astype(np.uint8)
    if not mask.any():
        return []
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    regions = []
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        inside = np.zeros((height, width), np.uint8)
        cv2.drawContours(inside, [contour], -1, 1, cv2.FILLED, offset=(-x, -y))
        rows, columns = slice(y, y + height), slice(x, x + width)
        values = full[rows, columns][(inside * mask[rows, columns]).astype(bool)]
        regions.append(Region(x, y, width, height, int(values.size), float(values.max()), contour))  # type: ignore[arg-type]
    return sorted(regions, key=lambda region: -region.peak)


def overlay(
    image: Image,
    anomaly_map: NDArray[np.float32],
    scale: HeatmapScale,
    segmentation: Segmentation | None = None,
    *,
    opacity: float = 0.6,
    contours: bool = True,
) -> Image:
    """Blend the heatmap over an image and outline the anomalous regions; the inputs are not changed.

    Args:
        image: `(H, W, 3)`, uint8, RGB.
        anomaly_map: Anomaly map `(h, w)`, float32, any resolution.
        scale: Colour scale of the thresholds that apply.
        segmentation: Segmentation to outline; None outlines positions above `scale.threshold`.
        opacity: Opacity of the heatmap at `scale.high`, 0..1; ordinary positions stay clear.
        contours: Whether to outline the anomalous regions.

    Returns:
        `(H, W, 3)`, uint8, RGB.
    """
    size = (image.shape[0], image.shape[1])
    blended = image.copy()
    place = _active_rectangle(anomaly_map, scale.low, size)
    if place is not None:
        strength = scale.normalise(upsample_map(anomaly_map, size)[place])
        colours = _coloured(np.rint(strength * 255).astype(np.uint8))
        weight = (np.minimum(strength * 2.0, 1.0) * np.float32(opacity))[:, :, None]
        blended[place] = np.rint(image[place] * (1.0 - weight) + colours * weight).astype(np.uint8)
    if contours:
        outlines = [region.contour for region in find_regions(anomaly_map, scale.threshold, size, segmentation)]
        thickness = max(1, round(min(size) / 200))
        halo = thickness + (2 if thickness > 1 else 1)
        cv2.drawContours(blended, outlines, -1, (255, 255, 255), halo)
        cv2.drawContours(blended, outlines, -1, (255, 0, 0), thickness)
    return np.asarray(blended, np.uint8)


def _coloured(levels: NDArray[np.uint8]) -> Image:
    return rgb_from_bgr(np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), np.uint8))


def _active_rectangle(
    anomaly_map: NDArray[np.float32], low: float, size: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Rectangle outside which the upsampled map cannot exceed `low`: the cells above it, and one cell around."""
    rows, columns = np.nonzero(anomaly_map > low)
    if rows.size == 0:
        return None
    step_y, step_x = size[0] / anomaly_map.shape[0], size[1] / anomaly_map.shape[1]
    top, bottom = int((rows.min() - 1) * step_y), int((rows.max() + 2) * step_y) + 1
    left, right = int((columns.min() - 1) * step_x), int((columns.max() + 2) * step_x) + 1
    return slice(max(0, top), min(size[0], bottom)), slice(max(0, left), min(size[1], right))
