"""Judged frames, as the inference thread passes them to every consumer."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.prediction import Prediction
from edgead.stream.alerts import Alert, AlertEvent
from edgead.stream.frame import Frame


@dataclass(frozen=True)
class ZoneVerdict:
    """Verdict of one frame in one zone.

    Attributes:
        zone: Name of the zone.
        score: Score in raw units; the model's own image score for the whole frame.
        threshold: Score above which the zone is anomalous.
        area: Share of the zone that is marked as anomalous, 0..1.
        is_anomalous: Whether the frame counts as anomalous in this zone.
        alert: Active or held alert of the zone after this frame.
        alert_id: Identifier of the alert, stable across restarts; also set for the alert that `event` closed.
        event: Alert event that this frame caused.
        level: Normalised score: 0 is an ordinary good image, 1 the threshold.
    """

    zone: str
    score: float
    threshold: float
    area: float
    is_anomalous: bool
    alert: Alert | None = None
    alert_id: str | None = None
    event: AlertEvent | None = None
    level: float = 0.0


@dataclass(frozen=True)
class JudgedBy:
    """Model that judged a frame: digest of the bundle and name of the engine."""

    bundle: str
    engine: str


@dataclass(frozen=True)
class FrameResult:
    """One judged frame.

    Attributes:
        camera: Name of the camera.
        frame: The frame.
        prediction: Output of the model.
        time_s: Seconds since the first frame on the source's own time line: capture time of a live source,
            index / fps of a file.
        source_fps: Frame rate of the source's time line.
        measured_fps: Current rate of judged frames of the camera, per second.
        zones: The verdict of every zone.
        is_repeat: Whether the camera's last frame is sent again, with events that have no frame of their own (end of
            the stream, acknowledgement, change of the model).
        judged_by: Model that judged it; None for a scorer without a bundle.
        latency_ms: Time of preparation, engine and rules, without waiting, in ms.
    """

    camera: str
    frame: Frame
    prediction: Prediction
    time_s: float
    source_fps: float
    measured_fps: float
    zones: tuple[ZoneVerdict, ...]
    is_repeat: bool = False
    judged_by: JudgedBy | None = None
    latency_ms: float = 0.0

    @property
    def is_alert_open(self) -> bool:
        """Whether an alert is active in any zone; held ones do not count."""
        return any(zone.alert is not None and zone.alert.held_s is None for zone in self.zones)

    @property
    def is_anomalous(self) -> bool:
        """Whether the frame counts as anomalous in any zone."""
        return any(zone.is_anomalous for zone in self.zones)

    @property
    def worst(self) -> ZoneVerdict:
        """The zone that is nearest to its threshold, or furthest above it."""
        return max(self.zones, key=lambda zone: zone.level)

    @property
    def has_event(self) -> bool:
        return any(zone.event is not None for zone in self.zones)
