"""Alerts of a running stream: spool, evidence, delivery to sinks, and alerts held since an earlier process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from typing_extensions import Self

from edgead.bundle import Bundle
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.errors import StorageError
from edgead.evaluation.marking import kind_of
from edgead.stream.camera import Camera
from edgead.stream.consumers.clip_maker import ClipMaker, ClipOptions
from edgead.stream.consumers.consumer import Consumer
from edgead.stream.consumers.opening_record import AlertContext
from edgead.stream.consumers.spool_writer import SpoolWriter
from edgead.stream.control import Control
from edgead.stream.delivery.delivery import Delivery
from edgead.stream.delivery.mqtt_line import CameraNow
from edgead.stream.delivery.registry import custom_sinks, event_sink
from edgead.stream.delivery.sink import Sink
from edgead.stream.monitoring.meter import CameraStatus, StreamStatus
from edgead.stream.result import JudgedBy
from edgead.stream.spool.options import SpoolOptions
from edgead.stream.spool.records import restored_alert
from edgead.stream.spool.spool import Spool

_LOG = logging.getLogger(__name__)
_LISTEN_S = 0.5
# Time at the end of the stream to deliver the last events to working sinks.
_DRAIN_S = 5.0


class AlertStation:
    """Opens spool and sinks, restores held alerts, and forwards acknowledgements to the zones.

    Args:
        folder: Folder of the spool.
        cameras: Cameras of the stream.
        configs: Settings of the cameras, in the same order.
        bundle: Bundle that judges the frames.
        engine_name: Name of the engine, `<backend>-<precision>`.
        config: Settings of the spool, the clips and the sinks.
        control: Mailbox for the acknowledgements.
        event_sinks: Further receivers of events by name, beside those of `config`.
        stop: Event that ends the stream from outside.
        start: Further values of the event `stream_started`.
    """

    def __init__(
        self,
        folder: Path,
        cameras: Sequence[Camera],
        configs: Sequence[CameraConfig],
        bundle: Bundle,
        engine_name: str,
        config: Config,
        control: Control,
        event_sinks: Mapping[str, Sink] = MappingProxyType({}),
        stop: threading.Event | None = None,
        start: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.spool = Spool(folder, SpoolOptions(**config.spool.model_dump()))
        self.contexts = {
            camera.name: _context(camera, one.class_name, bundle, engine_name)
            for camera, one in zip(cameras, configs, strict=True)
        }
        self._cameras = cameras
        self._config = config
        self._control = control
        self._event_sinks = event_sinks
        self._stop = stop
        self._start = start
        self._writers: list[SpoolWriter] = []
        self._stack = ExitStack()
        self._listened_s = 0.0
        self._now: Mapping[str, CameraNow] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.spool)
            self._revive()
            zones = {camera.name: [monitor.name for monitor in camera.zones] for camera in self._cameras}
            sinks = [event_sink(settings, self.spool, zones, lambda: self._now) for settings in self._config.sinks]
            sinks += custom_sinks(self._event_sinks)
            self.delivery = stack.enter_context(Delivery(self.spool, sinks, drain_s=_DRAIN_S))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add_model(
        self, judged_by: JudgedBy, cameras: Sequence[Camera], configs: Sequence[CameraConfig], bundle: Bundle
    ) -> None:
        """Add the facts that alert records of another model repeat, before it judges the first frame."""
        contexts = {
            camera.name: _context(camera, one.class_name, bundle, judged_by.engine)
            for camera, one in zip(cameras, configs, strict=True)
        }
        for writer in self._writers:
            writer.add_model(judged_by, contexts)

    @property
    def consumers(self) -> list[Consumer]:
        """Consumers that write the alerts of the stream to the spool."""
        clips = self._config.clips
        if clips.seconds_before + clips.seconds_after == 0:
            return [self._writer(None)]
        options = ClipOptions(clips.seconds_before, clips.seconds_after, clips.fps, clips.max_side_px, clips.memory_mb)
        sources = {camera.name: camera.source for camera in self._cameras}
        clip_maker = ClipMaker(
            self.spool,
            options,
            waiting={name for name, source in sources.items() if not source.live},
            untimed={name for name, source in sources.items() if not source.live and not source.paced},
            stop=self._stop,
        )
        return [clip_maker, self._writer(clip_maker)]

    def _writer(self, clips: ClipMaker | None) -> SpoolWriter:
        opacity = self._config.stream.opacity
        writer = SpoolWriter(self.spool, self.contexts, opacity=opacity, clips=clips, start=self._start)
        self._writers.append(writer)
        return writer

    def poll(self, status: StreamStatus) -> None:
        """Show the cameras to the sinks, and forward new acknowledgements; called a few times a second."""
        self._now = {camera.name: camera_now(camera) for camera in status.cameras}
        now_s = time.monotonic()
        if now_s - self._listened_s < _LISTEN_S:
            return
        self._listened_s = now_s
        try:
            for request in self.spool.poll_acknowledgements():
                self._control.put(request)
        except StorageError as error:
            _LOG.debug("acknowledgements wait: %s", error)

    def _revive(self) -> None:
        for record in self.spool.held_alerts():
            for camera in self._cameras:
                if camera.name == record.camera and record.zone and (monitor := camera.zone(record.zone)):
                    context = self.contexts[camera.name]
                    is_own = (record.bundle, record.engine) == (context.bundle, context.engine)
                    alert = restored_alert(record)
                    # scores of another model do not compare with the peak
                    monitor.restore(record.id, alert if is_own else replace(alert, peak_is_final=True))


def camera_now(camera: CameraStatus) -> CameraNow:
    """A camera as sinks see it."""
    is_judged = camera.state == "running" and camera.n_processed > 0
    if camera.fault is not None and camera.state == "running":
        return CameraNow("fault", dict(camera.scores))
    return CameraNow("online" if is_judged else "offline", dict(camera.scores))


def _context(camera: Camera, class_name: str | None, bundle: Bundle, engine_name: str) -> AlertContext:
    return AlertContext(
        source=camera.source.name,
        bundle=bundle.digest,
        engine=engine_name,
        class_name=class_name,
        scale=bundle.thresholds(class_name).heatmap_scale,
        segmentation=kind_of(bundle.manifest),
        latched=frozenset(monitor.name for monitor in camera.zones if monitor.rules.latch),
        masks={monitor.name: monitor.mask for monitor in camera.zones if monitor.mask is not None},
    )
