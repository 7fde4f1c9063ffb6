"""Prediction of a model for one frame: scores, labels and segmentation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgead.imaging import upsample_map
from edgead.pose import Pose, map_to_frame


@dataclass(frozen=True)
class HeatmapScale:
    """Map values (raw units) at the ends and in the middle of the colour scale, from good images only.

    Attributes:
        low: Value of ordinary positions on good images; drawn transparent.
        threshold: Pixel threshold, the middle of the scale.
        high: Upper end of the scale; all higher values have the same colour.
    """

    low: float
    threshold: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.threshold < self.high:
            raise ValueError(f"heatmap scale must rise: low {self.low}, threshold {self.threshold}, high {self.high}")

    def normalise(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map raw values to 0..1: `low` and below to 0, `threshold` to 0.5, `high` and above to 1."""
        points = (self.low, self.threshold, self.high)
        return np.interp(anomaly_map, points, (0.0, 0.5, 1.0)).astype(np.float32)


@dataclass(frozen=True)
class Segmentation:
    """Anomalous positions of a frame: those with a value above the limit.

    Attributes:
        values: Values `(h, w)`, float32, at the resolution of the anomaly map.
        limit: Limit in the units of `values`.
        is_never_empty: Whether marks stay visible at any size: interpolation can lower a peak of one position below the
            limit.
    """

    values: NDArray[np.float32]
    limit: float
    is_never_empty: bool = False

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Anomalous positions, `(h, w)`."""
        return self.values > self.limit

    def mask_at(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Mask on an image of `size` (height, width): the values are interpolated, then compared."""
        marked: NDArray[np.bool_] = upsample_map(self.values, size) > self.limit
        if self.is_never_empty and not marked.any():
            whole = self.mask
            for row, column in np.argwhere(whole):
                marked[_span(row, size[0] / whole.shape[0]), _span(column, size[1] / whole.shape[1])] = True
        return marked

    def on_frame(self, pose: Pose) -> Segmentation:
        """The segmentation of an aligned frame, moved back over the frame itself."""
        values = map_to_frame(self.values, pose)
        if self.is_never_empty and not (values > self.limit).any():
            rows, columns = np.nonzero(self.mask)
            height, width = values.shape
            shares = np.column_stack([(columns + 0.5) / width, (rows + 0.5) / height])
            places = np.clip(np.floor(pose.place(shares) * (width, height)).astype(int), 0, (width - 1, height - 1))
            values[places[:, 1], places[:, 0]] = self.values[rows, columns]
        return replace(self, values=values)


@dataclass(frozen=True)
class Prediction:
    """Scores of one frame in raw units (larger = more anomalous).

    Attributes:
        anomaly_map: Anomaly map `(h, w)`, float32, at its own resolution.
        pred_score: Image score.
        threshold: Score above which the image counts as anomalous.
        pixel_threshold: Map value above which a position counts as anomalous, if `own_segmentation` is None.
        own_segmentation: Marks of the frame, made by `edgead.marks`; None = those of the pixel threshold.
        scale: Colour scale of these thresholds; None = that of the bundle.
        pose: Pose of the part, for a bundle that aligns frames; otherwise None. Map and marks lie over the frame as it is.
    """

    anomaly_map: NDArray[np.float32]
    pred_score: float
    threshold: float
    pixel_threshold: float
    own_segmentation: Segmentation | None = None
    scale: HeatmapScale | None = None
    pose: Pose | None = None

    def on_frame(self, pose: Pose | None) -> Prediction:
        """The prediction of an aligned frame, with map and marks moved back over the frame itself; None = it was not aligned."""
        if pose is None:
            return self
        own = None if self.own_segmentation is None else self.own_segmentation.on_frame(pose)
        return replace(self, anomaly_map=map_to_frame(self.anomaly_map, pose), own_segmentation=own, pose=pose)

    @property
    def pred_label(self) -> bool:
        """Whether the frame is anomalous."""
        return self.pred_score > self.threshold

    @property
    def segmentation(self) -> Segmentation:
        """Automatic segmentation: the frame's own, or the map above the pixel threshold."""
        return self.own_segmentation or Segmentation(self.anomaly_map, self.pixel_threshold)

    @property
    def pred_mask(self) -> NDArray[np.bool_]:
        """Anomalous positions of the automatic segmentation, `(h, w)`."""
        return self.segmentation.mask


def _span(index: int, step: float) -> slice:
    """Pixels that a position of a map covers, at least one."""
    start = int(index * step)
    return slice(start, max(start + 1, int((index + 1) * step)))
