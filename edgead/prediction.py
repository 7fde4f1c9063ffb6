"""What a model says about one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.imaging import upsample_map


@dataclass(frozen=True)
class Segmentation:
    """Which positions of a frame are anomalous: those whose value is above the limit.

    Attributes:
        values: `(h, w)`, float32, at the anomaly map's own resolution.
        limit: In the units of `values`.
    """

    values: NDArray[np.float32]
    limit: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        """`(h, w)`: the anomalous positions."""
        return self.values > self.limit

    def mask_at(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask on an image of `size` (height, width): the values are interpolated, then compared."""
        return upsample_map(self.values, size) > self.limit


@dataclass(frozen=True)
class Prediction:
    """Scores of one frame in raw units (larger = more anomalous).

    Attributes:
        anomaly_map: `(h, w)`, float32, at the map's own resolution.
        pred_score: The image's score.
        threshold: The score above which the image counts as anomalous.
        pixel_threshold: The map value above which a position counts as anomalous, without a segmentation of its own.
        own_segmentation: The segmentation of a bundle that does not go by the pixel threshold; else None.
    """

    anomaly_map: NDArray[np.float32]
    pred_score: float
    threshold: float
    pixel_threshold: float
    own_segmentation: Segmentation | None = None

    @property
    def pred_label(self) -> bool:
        """Whether the frame is anomalous."""
        return self.pred_score > self.threshold

    @property
    def segmentation(self) -> Segmentation:
        """The automatic segmentation: the bundle's own, else the map above the pixel threshold."""
        return self.own_segmentation or Segmentation(self.anomaly_map, self.pixel_threshold)

    @property
    def pred_mask(self) -> NDArray[np.bool_]:
        """`(h, w)`: the anomalous positions of the automatic segmentation."""
        return self.segmentation.mask
