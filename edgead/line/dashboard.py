"""Web server of a running stream and the facts that it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType

from typing_extensions import Self

import edgead
from edgead.bundle import Bundle
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.errors import ConfigError
from edgead.evaluation.alarm_rate import alarm_rate_text
from edgead.line.alert_station import AlertStation
from edgead.manifest import ThresholdRecord
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.stream.alarms.alarm_keeper import AlarmKeeper
from edgead.stream.camera import Camera
from edgead.stream.consumers.consumer import Consumer
from edgead.stream.consumers.picture_collector import FOLDER as COLLECTED
from edgead.stream.consumers.picture_collector import PictureCollector
from edgead.stream.control import Control
from edgead.stream.judged_frames import FOLDER, JudgedFrames
from edgead.stream.monitoring.meter import StreamStatus
from edgead.stream.monitoring.monitor import Monitor
from edgead.stream.shadow.report import ShadowReport
from edgead.stream.spool.judgements import frame_judged
from edgead.web.address import parse_address
from edgead.web.options import AuthOptions, WebOptions
from edgead.web.running_stream import (
    AlarmForecast,
    CameraFacts,
    ModelControl,
    RunningStream,
    SinkState,
    StreamFacts,
    TeachingControl,
    ZoneFacts,
)
from edgead.web.server import WebServer
from edgead.web.token import open_token


class Dashboard:
    """Serves the page and the REST API while the stream runs; `consumers` belong to the stream.

    Args:
        address: Address to listen on, HOST:PORT.
        cameras: Cameras of the stream.
        configs: Settings of the cameras, in the same order.
        bundle, runner: Bundle and open engine that judge the frames.
        alerts: Open spool and sinks.
        keeper: Alarm rates of the zones.
        control: Mailbox for requests of people.
        config: Limits and certificates.
        progress: Receives the address and, at the first start, the token.
        models: Models of the line; None for a stream without a model store.
        shadow: Returns the report of the shadow; None for a stream that has none.
        teaching: Teaching of new parts; None for a stream without a base bundle.

    Raises:
        ConfigError: If the address cannot be used.
        MissingDependencyError: From `__enter__`, without the extra `web`.
    """

    def __init__(
        self,
        address: str,
        cameras: Sequence[Camera],
        configs: Sequence[CameraConfig],
        bundle: Bundle,
        runner: Runner,
        alerts: AlertStation,
        keeper: AlarmKeeper,
        control: Control,
        config: Config,
        progress: Progress,
        models: ModelControl | None = None,
        shadow: Callable[[], ShadowReport | None] | None = None,
        teaching: TeachingControl | None = None,
    ) -> None:
        self.monitor = Monitor({camera.name: [zone.name for zone in camera.zones] for camera in cameras})
        self.collector = PictureCollector(alerts.spool.folder / COLLECTED)
        self._address = parse_address(address)
        self._alerts = alerts
        self._keeper = keeper
        self._config = config
        self._progress = progress
        self._configs = configs
        self._facts = _facts(cameras, configs, bundle, runner, alerts, config)
        self._models = models
        self._shadow = shadow
        self._teaching = teaching
        self._control = control
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        token, new = open_token(self._alerts.spool.folder)
        self._stream = stream = RunningStream(
            monitor=self.monitor,
            control=self._control,
            store=self._alerts.spool,
            facts=self._facts,
            alarms_per_hour=self._forecast,
            promise=self._promise,
            sinks=self._sinks,
            models=self._models,
            shadow=self._shadow,
            frames=JudgedFrames(
                self._alerts.spool.folder / FOLDER,
                report=lambda entry, before: self._alerts.spool.append(frame_judged(entry, before)),
            ),
            collector=self.collector,
            teaching=self._teaching,
        )
        web = self._config.web
        if (web.certificate is None) != (web.key is None):
            raise ConfigError("web.certificate and web.key go together.", hint="Give both, or none.")
        options = WebOptions(
            auth=AuthOptions(
                session_s=web.session_h * 3600.0,
                session_idle_s=web.idle_h * 3600.0,
                hosts=web.hosts,
                trusted_proxies=web.trusted_proxies,
            ),
            certificate=web.certificate,
            key=web.key,
            max_viewers=web.max_viewers,
        )
        server = self._stack.enter_context(WebServer(self._address, stream, token, options))
        self._progress.note(f"Dashboard: {server.url}")
        if new is not None:
            self._progress.note(f"Its token, shown this once: {new}")
        if server.warning is not None:
            self._progress.note(f"Warning: {server.warning}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def consumers(self) -> list[Consumer]:
        """Receivers of every result and notice."""
        return [self.monitor, self.collector]

    def change_model(self, cameras: Sequence[Camera], bundle: Bundle, runner: Runner) -> None:
        """Show another model, which has taken over."""
        self._stream.facts = _facts(cameras, self._configs, bundle, runner, self._alerts, self._config)

    def update(self, status: StreamStatus) -> None:
        """Forward the stream's status to the monitor; called a few times a second."""
        self.monitor.update(status)

    def _forecast(self, camera: str, zone: str, threshold: ThresholdRecord) -> AlarmForecast | None:
        rate = self._keeper.implied(camera, zone, threshold.value)
        return (
            None if rate is None else AlarmForecast(rate.per_hour, rate.interval, rate.certified, alarm_rate_text(rate))
        )

    def _promise(self, camera: str, zone: str, per_hour: float) -> tuple[ThresholdRecord, str]:
        promise = self._keeper.promise(camera, zone, per_hour)
        if promise is None:
            raise ConfigError(f"{camera}, {zone}: there is no such zone.")
        return promise.threshold, promise.sentence

    def _sinks(self) -> dict[str, SinkState]:
        states = {}
        for sink in self._alerts.delivery.health():
            if sink.is_ok:
                states[sink.name] = SinkState("ok", f"{sink.n_set_aside} refused for good" if sink.n_set_aside else "")
            else:
                states[sink.name] = SinkState("failing", sink.last_error)
        return states


def _facts(
    cameras: Sequence[Camera],
    configs: Sequence[CameraConfig],
    bundle: Bundle,
    runner: Runner,
    alerts: AlertStation,
    config: Config,
) -> StreamFacts:
    clips = config.clips
    return StreamFacts(
        device=alerts.spool.device,
        version=edgead.__version__,
        bundle=bundle.digest,
        model=bundle.manifest.model,
        classes=bundle.manifest.classes,
        engine=runner.engine_name,
        engine_device=runner.device,
        cameras=tuple(
            CameraFacts(
                name=camera.name,
                source=camera.source.name,
                class_name=one.class_name,
                scale=bundle.thresholds(one.class_name).heatmap_scale,
                zones=tuple(
                    ZoneFacts(zone.shape, zone.threshold, zone.good_scores, zone.options) for zone in camera.zones
                ),
            )
            for camera, one in zip(cameras, configs, strict=True)
        ),
        opacity=config.stream.opacity,
        clips=clips.seconds_before + clips.seconds_after > 0,
    )
