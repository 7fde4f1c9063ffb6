"""The web server's view of a running stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgead.heatmap import HeatmapScale
from edgead.imaging import Image
from edgead.manifest import ThresholdRecord
from edgead.stream.consumers.picture_collector import PictureCollector
from edgead.stream.control import Control
from edgead.stream.judged_frames import JudgedFrames
from edgead.stream.monitoring.monitor import Monitor
from edgead.stream.shadow.report import ShadowReport
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.events import StoredEvent
from edgead.stream.spool.judgements import Opinion
from edgead.stream.teaching import TeachingStatus
from edgead.stream.zone_monitor import RuleOptions
from edgead.stream.zones import ZoneShape


class StoreHealth(Protocol):
    """Health of the store; `detail` is empty if everything is fine."""

    @property
    def evidence_ok(self) -> bool: ...

    @property
    def records_ok(self) -> bool: ...

    @property
    def free_mb(self) -> float: ...

    @property
    def detail(self) -> str: ...


class AlertStore(Protocol):
    """Alerts and events on disk, as far as the web server needs them; thread-safe."""

    def events(self, after: int = 0, limit: int = 100) -> list[StoredEvent]:
        """Events with a sequence number above `after`, ascending."""
        ...

    def alerts(
        self,
        *,
        state: str | None = None,
        camera: str | None = None,
        judgement: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[AlertRecord]: ...

    def alert(self, alert_id: str) -> AlertRecord | None: ...

    def acknowledge(self, alert_id: str, who: str, note: str = "") -> bool: ...

    def judge(self, alert_id: str, opinion: Opinion, *, instead_of: int | None = 0) -> AlertRecord:
        """Store a judgement; `AlertGoneError` or `JudgedBeforeError` if it cannot be."""
        ...

    def judgements(self) -> dict[tuple[str | None, str | None], int]:
        """Number of alerts by camera and judgement; None for unjudged ones."""
        ...

    def media(self, alert_id: str, kind: str) -> Path | None: ...

    def last_sequence(self) -> int: ...

    def depths(self) -> dict[str, int]: ...

    def health(self) -> StoreHealth: ...


@dataclass(frozen=True)
class ZoneFacts:
    """Configuration of a zone.

    Attributes:
        shape: Name and shape.
        threshold: Initial threshold.
        good_scores: Scores of held-out good images in this zone, raw units.
        rules: Rules that open and close its alerts.
    """

    shape: ZoneShape
    threshold: ThresholdRecord
    good_scores: tuple[float, ...] = ()
    rules: RuleOptions = field(default_factory=RuleOptions)

    @property
    def name(self) -> str:
        return self.shape.name


@dataclass(frozen=True)
class CameraFacts:
    """Configuration of a camera; `source` is redacted."""

    name: str
    source: str
    class_name: str | None
    scale: HeatmapScale
    zones: tuple[ZoneFacts, ...]

    def zone(self, name: str) -> ZoneFacts | None:
        return next((zone for zone in self.zones if zone.name == name), None)


@dataclass(frozen=True)
class StreamFacts:
    """Facts that do not change while one model judges.

    Attributes:
        device: Device id.
        version: Version of edgead.
        bundle, model, classes: Digest of the bundle, its model and kinds of parts.
        engine, engine_device: `<backend>-<precision>` and the device it runs on.
        cameras: Cameras in the order of the configuration.
        opacity: Opacity of the heatmap, 0..1.
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
    """Expected false alarms per hour of a threshold, with a 95 % interval and a sentence."""

    per_hour: float
    interval: tuple[float, float] | None
    certified: bool
    text: str


@dataclass(frozen=True)
class SinkState:
    """State of a sink: `ok` or another word, with details."""

    state: str
    detail: str = ""


class ModelControl(Protocol):
    """Models of the line, as far as the web server needs them; thread-safe."""

    def describe(self) -> dict[str, Any]:
        """Keys of the answer `LineModels`, without those about what runs."""
        ...

    def threshold_images(self, name: str) -> bytes:
        """JPEG of the good images that set a model's threshold; an `EdgeadError` if there is none."""
        ...

    def install(self, bundle: str, who: str, why: str, *, precision: str | None, activate: bool) -> None:
        """Start the installation of a bundle that lies on this device."""
        ...

    def activate(self, name: str, who: str, why: str) -> None: ...

    def roll_back(self, who: str, why: str, only_from: str | None = None) -> None: ...

    def learn(self, alert: str, who: str, *, sure: bool) -> dict[str, Any]:
        """Teach the active model that the picture of an alert is good; the keys of `edgead learn --json`."""
        ...


class TeachingControl(Protocol):
    """Teaching of a new part from a camera's frames; thread-safe. What cannot be done now is an `EdgeadError`."""

    def status(self, camera: str) -> TeachingStatus: ...

    def start(self, camera: str, who: str, *, needs_rest: bool, every_s: float, refine: bool) -> TeachingStatus: ...

    def finish(self, camera: str) -> TeachingStatus: ...

    def drop(self, camera: str, file: str) -> TeachingStatus:
        """Leave out an accepted picture; `DataError` if there is none of this name."""
        ...

    def cancel(self, camera: str) -> TeachingStatus: ...

    def install(self, camera: str, who: str) -> TeachingStatus: ...

    def picture(self, camera: str, file: str) -> Image:
        """An accepted picture; `DataError` if there is none of this name."""
        ...


@dataclass
class RunningStream:
    """Parts of a running stream that the web server uses.

    Attributes:
        monitor: State of the cameras.
        control: Mailbox for requests of users.
        store: Alerts on disk.
        facts: Facts that change with the model alone; replaced as a whole.
        alarms_per_hour: Maps camera, zone and threshold to a forecast; None if it is unknown.
        promise: Maps camera, zone and accepted false alarms per hour to a threshold and a sentence about it; raises an
            `EdgeadError` if there are too few good images.
        sinks: Returns the states of the sinks, by name.
        models: Models of the line; None for a stream without a model store.
        shadow: Returns the report of the shadow, or None before the first.
        frames: Folder of frames that people judge; None for a stream that has none.
        collector: Pictures that people collect; None for a stream that has none.
        teaching: Teaching of new parts; None for a stream without a base bundle.
    """

    monitor: Monitor
    control: Control
    store: AlertStore
    facts: StreamFacts
    alarms_per_hour: Callable[[str, str, ThresholdRecord], AlarmForecast | None] | None = None
    promise: Callable[[str, str, float], tuple[ThresholdRecord, str]] | None = None
    sinks: Callable[[], dict[str, SinkState]] = field(default=dict)
    models: ModelControl | None = None
    shadow: Callable[[], ShadowReport | None] | None = None
    frames: JudgedFrames | None = None
    collector: PictureCollector | None = None
    teaching: TeachingControl | None = None
