"""Camera of a stream: its source, its zones and the rules that judge them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgead.imaging import Image
from edgead.prediction import Prediction, Segmentation
from edgead.runner import Outputs
from edgead.stream.result import ZoneVerdict
from edgead.stream.sources.source import Source
from edgead.stream.zone_monitor import ZoneMonitor
from edgead.stream.zones import union


class Segmenter(Protocol):
    """The bundle's own segmentation of one image of the engine's outputs."""

    def segment(self, outputs: Outputs, index: int = 0) -> Segmentation: ...


@dataclass(frozen=True)
class FrameCheck:
    """Result of the check of a frame before the model scores it.

    Attributes:
        fault: Fault of the camera, in words; None while no fault has lasted.
        is_usable: Whether to judge this frame; False during a fault and while one is suspected.
        kind: Machine-readable name of the fault.
    """

    fault: str | None
    is_usable: bool
    kind: str | None = None


@dataclass
class Camera:
    """A camera and its zones.

    Attributes:
        name: Display name, unique in a stream.
        source: Source, not yet opened.
        zones: State of its zones, at least one.
        pixel_threshold: Map value above which a position is anomalous, raw units.
        class_bias: Class bias `(1, K)`, for an engine with that input.
        segmenter: The bundle's own segmentation; None = pixel threshold.
        check_frame: Check of a frame `(h, w, 3)`, uint8, RGB, at its monotonic time; None accepts every frame.
        tiles: Indices of the tiles that its zones need; None = all.
    """

    name: str
    source: Source
    zones: Sequence[ZoneMonitor]
    pixel_threshold: float
    class_bias: NDArray[np.float32] | None = None
    segmenter: Segmenter | None = None
    check_frame: Callable[[Image, float], FrameCheck] | None = None
    tiles: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._seen = union([zone.mask for zone in self.zones])

    def judge(
        self, outputs: Outputs, index: int, *, frame_index: int, time_s: float
    ) -> tuple[Prediction, tuple[ZoneVerdict, ...]]:
        """Turn the engine's outputs for one frame into a prediction and the zones' verdicts.

        Args:
            outputs: Outputs of the engine for a batch.
            index: Index of this camera's frame in the batch.
            frame_index: Number of the frame in its source.
            time_s: Time on the source's own time line, in seconds.
        """
        anomaly_map, score = outputs["anomaly_map"][index], float(outputs["pred_score"][index])
        segmentation = None if self.segmenter is None else self.segmenter.segment(outputs, index)
        if self._seen is not None:
            segmentation = _restricted(
                segmentation or Segmentation(anomaly_map, self.pixel_threshold), self._seen, anomaly_map.shape
            )
        threshold = self.zones[0].threshold.value
        prediction = Prediction(anomaly_map, score, threshold, self.pixel_threshold, segmentation)

        def marked() -> NDArray[np.bool_]:
            return prediction.segmentation.mask_at((anomaly_map.shape[0], anomaly_map.shape[1]))

        verdicts = tuple(
            zone.observe(anomaly_map, score, marked, frame_index=frame_index, time_s=time_s) for zone in self.zones
        )
        return prediction, verdicts

    def zone(self, name: str) -> ZoneMonitor | None:
        """A zone by its name; None for an unknown one."""
        return next((zone for zone in self.zones if zone.name == name), None)


def _restricted(segmentation: Segmentation, seen: NDArray[np.bool_], size: tuple[int, ...]) -> Segmentation:
    """Remove marks outside the watched zones from a segmentation."""
    values = segmentation.values
    if values.shape != size:
        # a segmentation at another resolution: resample the zones
        rows = (np.arange(values.shape[0]) * size[0]) // values.shape[0]
        columns = (np.arange(values.shape[1]) * size[1]) // values.shape[1]
        seen = seen[np.ix_(rows, columns)]
    low = min(float(values.min()), segmentation.limit)
    return Segmentation(np.where(seen, values, np.float32(low)), segmentation.limit)
