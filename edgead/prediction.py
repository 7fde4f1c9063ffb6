"""What a model says about one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """Scores of one frame in raw units (larger = more anomalous).

    Attributes:
        anomaly_map: `(h, w)`, float32, at the map's own resolution.
        pred_score: The image's score.
        threshold: The score above which the image counts as anomalous.
        pixel_threshold: The map value above which a position counts as anomalous.
    """

    anomaly_map: NDArray[np.float32]
    pred_score: float
    threshold: float
    pixel_threshold: float

    @property
    def pred_label(self) -> bool:
        """Whether the frame is anomalous."""
        return self.pred_score > self.threshold

    @property
    def pred_mask(self) -> NDArray[np.bool_]:
        """`(h, w)`: the anomalous positions."""
        return self.anomaly_map > self.pixel_threshold
