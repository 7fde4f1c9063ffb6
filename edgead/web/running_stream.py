"""What the web server is given of a running stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgead.heatmap import HeatmapScale
from edgead.manifest import ThresholdRecord
from edgead.stream.control import Control
from edgead.stream.monitoring.monitor import Monitor
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.events import StoredEvent
from edgead.stream.zones import ZoneShape


class StoreHealth(Protocol):
    """Whether alerts are kept; `detail` is empty when all is well."""

    @property
    def evidence_ok(self) -> bool: ...

    @property
    def records_ok(self) -> bool: ...

    @property
    def free_mb(self) -> float: ...

    @property
    def detail(self) -> str: ...


class AlertStore(Protocol):
    """Alerts on disk, as far as the web server needs them; safe to use from any thread."""

    def events(self, after: int = 0, limit: int = 100) -> list[StoredEvent]:
        """Events with a sequence number above `after`, ascending."""
        ...

    def alerts(
        self, *, state: str | None = None, camera: str | None = None, before: str | None = None, limit: int = 50
    ) -> list[AlertRecord]: ...

    def alert(self, alert_id: str) -> AlertRecord | None: ...

    def acknowledge(self, alert_id: str, who: str, note: str = "") -> bool: ...

    def media(self, alert_id: str, kind: str) -> Path | None: ...

    def last_sequence(self) -> int: ...

    def depths(self) -> dict[str, int]: ...

    def health(self) -> StoreHealth: ...


@dataclass(frozen=True)
class ZoneFacts:
    """A zone as it was set up.

    Attributes:
        shape: Name and place.
        threshold: What it started with.
        good_scores: Of held-out good images in this zone, raw units.
    """

    shape: ZoneShape
    threshold: ThresholdRecord
    good_scores: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return self.shape.name


@dataclass(frozen=True)
class CameraFacts:
    """A camera as it was set up; `source` is redacted."""

    name: str
    source: str
    class_name: str | None
    scale: HeatmapScale
    zones: tuple[ZoneFacts, ...]

    def zone(self, name: str) -> ZoneFacts | None:
        return next((zone for zone in self.zones if zone.name == name), None)


@dataclass(frozen=True)
class StreamFacts:
    """What does not change while the stream runs.

    Attributes:
        device: Id of the device.
        version: Of edgead.
        bundle, model, classes: Digest of the bundle, its detector and kinds of parts.
        engine, engine_device: `<backend>-<precision>` and where it runs.
        cameras: In the order of the configuration.
        opacity: 0..1, how strongly the heatmap covers a picture.
        clips: Whether alerts come with a clip.
    """

    device: str
    version: str
    bundle: str
    model: str
    classes: tuple[str, ...]
    engine: str
    engine_device: str
    cameras: tuple[CameraFacts, ...]
    opacity: float = 0.6
    clips: bool = False

    def camera(self, name: str) -> CameraFacts | None:
        return next((camera for camera in self.cameras if camera.name == name), None)


@dataclass(frozen=True)
class AlarmForecast:
    """False alarms per hour that a threshold means, with a 95 % interval and a plain sentence."""

    per_hour: float
    interval: tuple[float, float] | None
    certified: bool
    text: str


@dataclass(frozen=True)
class SinkState:
    """How a sink does: `ok`, or whatever word the sink has for what it is in."""

    state: str
    detail: str = ""


@dataclass(frozen=True)
class RunningStream:
    """A running stream, as the web server sees it.

    Attributes:
        monitor: What is known of the cameras.
        control: Takes what people ask.
        store: Alerts on disk.
        facts: What does not change.
        alarms_per_hour: Camera, zone and threshold to what that means on this line; None where nothing can be said.
        promise: Camera, zone and wanted false alarms per hour to a threshold and a sentence about it; raises an
            `EdgeadError` where the good images do not tell.
        sinks: States of the sinks that deliver from the store, by name.
    """

    monitor: Monitor
    control: Control
    store: AlertStore
    facts: StreamFacts
    alarms_per_hour: Callable[[str, str, ThresholdRecord], AlarmForecast | None] | None = None
    promise: Callable[[str, str, float], tuple[ThresholdRecord, str]] | None = None
    sinks: Callable[[], dict[str, SinkState]] = field(default=dict)
