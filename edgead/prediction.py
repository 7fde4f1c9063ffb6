"""Prediction of a model for one frame: scores, labels and segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.imaging import upsample_map


@dataclass(frozen=True)
class Segmentation:
    """Anomalous positions of a frame: those with a value above the limit.

    Attributes:
        values: Values `(h, w)`, float32, at the resolution of the anomaly map.
        limit: Limit in the units of `values`.
    """

    values: NDArray[np.float32]
    limit: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Anomalous positions, `(h, w)`."""
        return self.values > self.limit

    def mask_at(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Mask on an image of `size` (height, width): the values are interpolated, then compared."""
        return upsample_map(self.values, size) > self.limit


@dataclass(frozen=True)
class Prediction:
    """Scores of one frame in raw units (larger = more anomalous).

    Attributes:
        anomaly_map: Anomaly map `(h, w)`, float32, at its own resolution.
        pred_score: Image score.
        threshold: Score above which the image counts as anomalous.
        pixel_threshold: Map value above which a position counts as anomalous, if `own_segmentation` is None.
        own_segmentation: NFA segmentation, for a bundle that has one; otherwise None.
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
        """Automatic segmentation: the bundle's own, or the map above the pixel threshold."""
        return self.own_segmentation or Segmentation(self.anomaly_map, self.pixel_threshold)

    @property
    def pred_mask(self) -> NDArray[np.bool_]:
        """Anomalous positions of the automatic segmentation, `(h, w)`."""
        return self.segmentation.mask
