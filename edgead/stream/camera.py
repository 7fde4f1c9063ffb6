"""Camera of a stream: its source, its zones and the rules that judge them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.evaluation.marking import Marking, Segmenter
from edgead.imaging import Image
from edgead.manifest import ThresholdRecord
from edgead.marks import joined
from edgead.pose import Pose
from edgead.prediction import Prediction
from edgead.runner import Outputs
from edgead.stream.result import ZoneVerdict
from edgead.stream.sources.source import Source
from edgead.stream.zone_monitor import ZoneMonitor


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
        marking_at: Rule of the marks at a zone's threshold; None = `pixel_threshold` and `segmenter` at any threshold.
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
    marking_at: Callable[[ThresholdRecord], Marking] | None = None

    def __post_init__(self) -> None:
        self._markings: dict[str, tuple[ThresholdRecord, Marking]] = {}

    def adopt(self, other: Camera) -> None:
        """Take over everything by which another model judges this camera's frames; name and source stay."""
        for after in other.zones:
            before = self.zone(after.name)
            if before is not None:
                after.succeed(before)
        self.pixel_threshold = other.pixel_threshold
        self.class_bias = other.class_bias
        self.segmenter = other.segmenter
        self.marking_at = other.marking_at
        self.check_frame = other.check_frame
        self.tiles = other.tiles
        self._markings = {}
        self.zones = other.zones

    def judge(
        self, outputs: Outputs, index: int, *, frame_index: int, time_s: float, pose: Pose | None = None
    ) -> tuple[Prediction, tuple[ZoneVerdict, ...]]:
        """Turn the engine's outputs for one frame into a prediction and the zones' verdicts.

        Args:
            outputs: Outputs of the engine for a batch.
            index: Index of this camera's frame in the batch.
            frame_index: Number of the frame in its source.
            time_s: Time on the source's own time line, in seconds.
            pose: Pose of the part in an aligned frame. Zones judge the aligned frame, and so follow the part; map and
                segmentation of the prediction are moved back over the frame.
        """
        anomaly_map, score = outputs["anomaly_map"][index], float(outputs["pred_score"][index])
        markings = [self._marking(zone).of_image(outputs, index) for zone in self.zones]
        segmenters = {marking.segmenter for marking in markings if marking.segmenter is not None}
        own = {segmenter: segmenter.segment(outputs, index) for segmenter in segmenters}
        segmentation = joined(
            [
                marking.mark(
                    anomaly_map,
                    None if marking.segmenter is None else own[marking.segmenter],
                    is_anomalous=zone.score(anomaly_map, score) > zone.threshold.value,
                    inside=zone.mask,
                )
                for zone, marking in zip(self.zones, markings, strict=True)
            ]
        )
        shown = min(markings, key=lambda marking: marking.level)
        prediction = Prediction(
            anomaly_map, score, self.zones[0].threshold.value, shown.level, segmentation, shown.scale
        )

        def marked() -> NDArray[np.bool_]:
            return prediction.segmentation.mask_at((anomaly_map.shape[0], anomaly_map.shape[1]))

        verdicts = tuple(
            zone.observe(anomaly_map, score, marked, frame_index=frame_index, time_s=time_s) for zone in self.zones
        )
        return prediction.on_frame(pose), verdicts

    def _marking(self, zone: ZoneMonitor) -> Marking:
        if self.marking_at is None:
            return Marking(self.pixel_threshold, None, self.segmenter)
        known = self._markings.get(zone.name)
        if known is None or known[0] is not zone.threshold:
            known = self._markings[zone.name] = (zone.threshold, self.marking_at(zone.threshold))
        return known[1]

    def zone(self, name: str) -> ZoneMonitor | None:
        """A zone by its name; None for an unknown one."""
        return next((zone for zone in self.zones if zone.name == name), None)
