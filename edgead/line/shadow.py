"""Shadow of a line: another model made ready as if it were to take over, and what it found said everywhere."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgead.bundle import Bundle
from edgead.errors import EdgeadError
from edgead.line.alert_station import AlertStation
from edgead.line.readied import LineSettings, make_ready
from edgead.progress import Silent
from edgead.runner import Runner
from edgead.storage import write_json
from edgead.stream.camera import Camera
from edgead.stream.result import JudgedBy
from edgead.stream.scorer import Scorer
from edgead.stream.shadow.report import ShadowReport
from edgead.stream.shadow.session import ShadowSession
from edgead.stream.shadow.shadow import QUEUE, Shadow
from edgead.stream.spool.events import Event, iso

_LOG = logging.getLogger(__name__)
FOLDER, REPORT = "shadow", "report.json"
# Watches whose pictures and report stay in the alert folder.
KEEP = 5


@dataclass(frozen=True)
class OpenShadow:
    """An open model for a shadow.

    Attributes:
        bundle: Bundle with the thresholds of the engine.
        runner: Open engine, for the thread of the shadow; closed with the watch.
        usage: Processor time in seconds and memory in MB of the engine's process; None for an engine of this process.
    """

    bundle: Bundle
    runner: Runner
    usage: Callable[[], tuple[float, float]] | None = None


class LineShadow:
    """Begins the watches of a line, and reports each as files, event and log.

    Args:
        line: Settings of the line.
        cameras: Cameras of the stream.
        stop: Event that ends the stream from outside.

    Attributes:
        is_live: Whether frames come at their own pace; files wait for the shadow.
    """

    def __init__(self, line: LineSettings, cameras: Sequence[Camera], stop: threading.Event | None = None) -> None:
        self._line = line
        self._sources = {camera.name: camera.source for camera in cameras}
        self._station: AlertStation | None = None
        self.is_live = any(source.live or source.paced for source in self._sources.values())
        # a watched folder is timed by the world, but its frames wait in a short queue
        has_live = any(source.live for source in self._sources.values())
        queue = QUEUE if has_live else min(QUEUE, line.config.stream.queue_size)
        self.consumer = Shadow(waits=not self.is_live, on_end=self._ended, queue=queue, stop=stop)

    def report_to(self, station: AlertStation | None) -> None:
        """Send the event of each watch to this spool."""
        self._station = station

    def begin(self, opened: OpenShadow, active: Bundle, *, share: float | None = None) -> None:
        """Begin a watch; the model is closed at its end.

        Args:
            opened: Verified bundle with an open engine, for the thread of the shadow.
            active: Bundle that decides now.
            share: Share of the frames; None = that of the settings.

        Raises:
            EdgeadError: If it does not fit the cameras: a class or a zone's images are missing. It is closed then.
        """
        with ExitStack() as stack:
            stack.push(opened.runner.__exit__)
            bundle, runner, settings = opened.bundle, opened.runner, self._line.config.shadow
            readied = make_ready(self._line, bundle, runner, Silent(), self._sources, writes=False)
            scorer = Scorer.of(bundle, runner)
            scorer.warm_up(1, readied.cameras[0].class_bias)
            folder = None if self._line.alerts_dir is None else _new_folder(self._line.alerts_dir, bundle.digest)
            if folder is not None:
                # also those of streams that were killed
                _remove_old(folder)
            session = ShadowSession(
                JudgedBy(bundle.digest, runner.engine_name),
                scorer,
                {camera.name: camera for camera in readied.cameras},
                {
                    one.name: (_scale(active, one.class_name), _scale(bundle, one.class_name))
                    for one in self._line.cameras
                },
                share=share or settings.share,
                max_slowdown=settings.max_slowdown,
                folder=folder,
                pictures=settings.pictures,
                opacity=self._line.config.stream.opacity,
                owned=stack.pop_all(),
                usage=opened.usage,
            )
        self.consumer.begin(session)

    def report(self) -> ShadowReport | None:
        """Report of the watch that runs, or of the last one."""
        return self.consumer.report()

    def _ended(self, report: ShadowReport) -> None:
        values = report.to_json()
        if report.folder is not None and report.judged:
            folder = Path(report.folder)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / REPORT, values)
            except (OSError, EdgeadError) as error:
                _LOG.warning("the report of the shadow is not kept: %s", error)
        if self._station is not None:
            self._station.spool.append(_event(values))


def shadow_folders(alerts_dir: Path) -> list[Path]:
    """Folders of the watches in an alert folder, oldest first."""
    folder = alerts_dir / FOLDER
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _event(values: Mapping[str, Any]) -> Event:
    # pictures stay on the device
    kept = {key: value for key, value in values.items() if key not in ("differences", "text", "folder")}
    return Event("shadow_report", iso(datetime.now(timezone.utc)), detail=values["text"], values=kept)


def _new_folder(alerts_dir: Path, digest: str) -> Path:
    return alerts_dir / FOLDER / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}-{digest[:12]}"


def _remove_old(new: Path) -> None:
    """Remove the oldest folders of watches, so that a new one has its place among the last ones."""
    for old in shadow_folders(new.parent.parent)[: 1 - KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def _scale(bundle: Bundle, class_name: str | None) -> Any:
    known = class_name if class_name in bundle.manifest.classes else None
    return bundle.thresholds(known).heatmap_scale
