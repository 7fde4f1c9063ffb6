"""Watched zones of a frame and excluded parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.errors import ConfigError

WHOLE_IMAGE = "picture"
# Share of a zone's positions that its score averages over; the default model's image score uses the same share.
TOP_FRACTION = 0.02

Polygon = tuple[tuple[float, float], ...]
_FINE = 16


@dataclass(frozen=True)
class ZoneShape:
    """Position of a zone in the frame.

    Attributes:
        name: Zone name.
        include: Polygons of (x, y) in 0..1 of the frame's width and height; none means the whole frame.
        exclude: Polygons that are cut out.
    """

    name: str = WHOLE_IMAGE
    include: tuple[Polygon, ...] = ()
    exclude: tuple[Polygon, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the zone is the whole frame, whose score is the model's own image score."""
        return not self.include and not self.exclude

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Mask of the positions of a map of `size` (height, width) that lie at least half inside the zone.

        Raises:
            ConfigError: If no position lies inside.
        """
        height, width = size
        fine = np.zeros((height * _FINE, width * _FINE), np.uint8) if self.include else None
        if fine is None:
            fine = np.ones((height * _FINE, width * _FINE), np.uint8)
        _fill(fine, self.include, 1)
        _fill(fine, self.exclude, 0)
        share = fine.reshape(height, _FINE, width, _FINE).mean(axis=(1, 3))
        mask = np.asarray(share >= 0.5, np.bool_)
        if not mask.any():
            raise ConfigError(
                f"The zone {self.name!r} covers none of the {width}×{height} positions of the anomaly map.",
                hint="Make it larger; its corners are given as x, y between 0 and 1.",
            )
        return mask


def zone_score(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], top_positions: int | None = None) -> float:
    """Mean of the largest 2 % (at least one) of the values of a map `(h, w)` inside a mask `(h, w)`.

    Args:
        anomaly_map: Anomaly map, raw units.
        mask: Positions of the zone.
        top_positions: Largest number of values to average: that of the score of an image or a tile, so that a small defect
            weighs as much in a zone as in the whole frame.
    """
    values = anomaly_map[mask]
    k = max(1, round(TOP_FRACTION * values.size))
    if top_positions is not None:
        k = min(k, top_positions)
    return float(np.partition(values, values.size - k)[values.size - k :].mean(dtype=np.float64))


def union(masks: Sequence[NDArray[np.bool_] | None]) -> NDArray[np.bool_] | None:
    """Union of the zones' masks; None if any of them is None, the whole frame."""
    known = [mask for mask in masks if mask is not None]
    if len(known) < len(masks) or not known:
        return None
    return np.asarray(np.logical_or.reduce(known), np.bool_)


def _fill(canvas: NDArray[np.uint8], polygons: Sequence[Polygon], value: int) -> None:
    height, width = canvas.shape
    for polygon in polygons:
        corners = np.rint(np.asarray(polygon, np.float64) * (width, height) - 0.5).astype(np.int32)
        cv2.fillPoly(canvas, [corners], value)
