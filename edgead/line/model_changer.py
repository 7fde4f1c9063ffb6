"""Change of the model under a running stream: the active model of the store, opened beside the running one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from typing_extensions import Self

from edgead.bundle import Bundle
from edgead.errors import EdgeadError, EngineError
from edgead.line.alert_station import AlertStation
from edgead.line.dashboard import Dashboard
from edgead.line.model_health import ModelHealth
from edgead.line.model_store import Activation, Installed, ModelStore
from edgead.line.readied import LineSettings, Readied, make_ready
from edgead.line.start_report import Judge, note_start
from edgead.progress import Silent
from edgead.runner import Runner
from edgead.stream.alarms.alarm_keeper import AlarmKeeper
from edgead.stream.annotation import Annotator
from edgead.stream.camera import Camera
from edgead.stream.control import OWN_NAME, Control
from edgead.stream.result import JudgedBy
from edgead.stream.scorer import Scorer
from edgead.stream.spool.events import Event, iso
from edgead.stream.takeover import TakeOver

_LOG = logging.getLogger(__name__)
POLL_S = 0.5


class OpenModel(Protocol):
    """An open engine with its bundle, whose thresholds are those of the engine."""

    bundle: Bundle
    runner: Runner

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class LineModels:
    """Models that a line can change between.

    Attributes:
        store: Model store.
        running: Model that judges at the start.
        open: Function that verifies and opens a bundle with an engine, and judges its reference images.
        opened: The running model, which is closed when another one has taken over.
    """

    store: ModelStore
    running: Installed
    open: Callable[[Path, str], OpenModel]
    opened: OpenModel


class ModelChanger:
    """Follows the store of a running line on a thread of its own.

    A model that becomes active is verified, opened, judged on its reference images and warmed up while the one before
    goes on judging; the inference thread then changes between two batches. One that cannot be opened, or that does not
    fit the cameras, is refused: the model before judges on and becomes the active one again.

    Args:
        models: Store, running model, and how to open another.
        line: Settings of the line.
        cameras: Cameras of the stream.
        control: Mailbox of the inference thread.
        keeper: Alarm rates of the zones.
        station: Spool of the stream; None without alerts.
        dashboard: Dashboard; None without one.
        annotator: Drawing of the recording and the window; None without either.
        health: Watch of a model's first minutes; None without one.
    """

    def __init__(
        self,
        models: LineModels,
        line: LineSettings,
        cameras: Sequence[Camera],
        control: Control,
        keeper: AlarmKeeper,
        station: AlertStation | None,
        dashboard: Dashboard | None,
        annotator: Annotator | None = None,
        health: ModelHealth | None = None,
    ) -> None:
        self._models = models
        self._line = line
        self._cameras = cameras
        self._control = control
        self._keeper = keeper
        self._station = station
        self._dashboard = dashboard
        self._annotator = annotator
        self._health = health
        self._before: Installed | None = None
        self._running = models.running
        self._refused: tuple[Activation, str] | None = None
        self._problem = ""
        self._opened = models.opened
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="edgead models", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(10.0)
        if isinstance(error, EngineError) and self._health is not None and self._health.is_watching:
            # the next start would meet the same engine
            self._leave(f"its engine failed in its first minutes: {error.message}")
        if self._opened is not self._models.opened:
            self._opened.__exit__(kind, error, trace)

    @property
    def running(self) -> Installed:
        """Model that judges now."""
        return self._running

    def _follow(self) -> None:
        while not self._closing.wait(POLL_S):
            try:
                self.look()
            except EdgeadError as error:
                _LOG.warning("the models cannot be read, and the running one goes on: %s", error.message)
            except Exception:  # the thread must see the next change of the store
                _LOG.exception("the store of models was not followed; the next attempt is in %s s", POLL_S)

    def look(self) -> None:
        """Leave a model that is not healthy, and change to the active model of the store if another one is running."""
        if self._health is not None and self._health.violation:
            self._leave(self._health.violation)
        state = self._models.store.read()
        active, why = state.active, state.why
        if active is None or why is None:
            return
        if self._refused is not None and self._refused[0] == why:
            self._return(active)
            return
        self._refused = None
        if (active.digest, active.engine) == (self._running.digest, self._running.engine):
            return
        if self._health is not None and any(one.left == active.name for one in state.activations):
            self._health.spare(active.digest)
        try:
            opened = self._models.open(self._models.store.path(active), active.engine)
        except Exception as error:
            self._refuse(active, why, error)
            return
        with ExitStack() as stack:
            stack.push(opened.__exit__)
            try:
                request, readied = self._prepare(opened, why)
            except Exception as error:
                self._refuse(active, why, error)
                return
            if not self._control.put(request):
                _LOG.warning("too many requests wait; the change to %s is tried again", active.name)
                return
            while not request.done.wait(0.05):
                # not before the stream has ended: until then the inference may still take over
                if self._closing.is_set():
                    return
            stack.pop_all()
        self._taken(active, opened, readied)

    def _prepare(self, opened: OpenModel, why: Activation) -> tuple[TakeOver, Readied]:
        bundle, runner = opened.bundle, opened.runner
        sources = {camera.name: camera.source for camera in self._cameras}
        readied = make_ready(self._line, bundle, runner, Silent(), sources, writes=False)
        scorer = Scorer.of(bundle, runner)
        biases = [camera.class_bias for camera in readied.cameras]
        for n in sorted({1, len(biases)}):
            scorer.warm_up(n, None if biases[0] is None else bundle.class_bias([None] * n))
        judged_by = JudgedBy(bundle.digest, runner.engine_name)
        self._keeper.plan(judged_by, readied.budget)
        if self._station is not None:
            self._station.add_model(judged_by, readied.cameras, self._line.cameras, bundle)
        if self._annotator is not None:
            self._annotator.add_model(judged_by, bundle.thresholds(self._line.cameras[0].class_name).heatmap_scale)
        values: dict[str, Any] = {
            "trained_at": bundle.manifest.provenance.created_at,
            "thresholds": {
                f"{camera.name}/{zone.name}": zone.threshold.value
                for camera in readied.cameras
                for zone in camera.zones
            },
            "forgotten": readied.forgotten,
            "rollback": why.kind == "rollback",
        }
        for sentence in readied.forgotten:
            _LOG.warning("%s", sentence)
        cameras = {camera.name: camera for camera in readied.cameras}
        return TakeOver(scorer, cameras, why.who, why.why, values), readied

    def _taken(self, active: Installed, opened: OpenModel, readied: Readied) -> None:
        before, self._opened = self._opened, opened
        self._before, self._running = self._running, active
        before.__exit__(None, None, None)
        if self._dashboard is not None:
            self._dashboard.change_model(self._cameras, opened.bundle, opened.runner)
        if self._line.alerts_dir is not None:
            note_start(self._line.alerts_dir, Judge.of(opened.bundle, opened.runner))

    def _leave(self, reason: str) -> None:
        """Make the model before the active one again; after a failure the next look tries again."""
        before = self._before
        if before is None or self._health is None:
            return
        try:
            is_back = self._models.store.return_to(
                before, who=OWN_NAME, why=reason, only_from=self._running.name, is_unhealthy=True
            )
        except EdgeadError as problem:
            if problem.message != self._problem:
                _LOG.error("%s is not rolled back to %s: %s", self._running.name, before.name, problem.message)
            self._problem = problem.message
            return
        self._problem = ""
        self._health.settle()
        if is_back:
            _LOG.error("%s is rolled back to %s: %s", self._running.name, before.name, reason)
        else:
            _LOG.warning("%s is left for the model that was activated meanwhile: %s", self._running.name, reason)

    def _refuse(self, active: Installed, why: Activation, error: Exception) -> None:
        """Say why a model does not take over, and make the running one the active one again."""
        if isinstance(error, EdgeadError):
            message, hint = error.message, error.hint
        else:
            message, hint = f"{type(error).__name__}: {error}", ""
        detail = f"The model {active.name} did not take over, and {self._running.name} judges on: {message}"
        _LOG.error("%s %s", detail, hint, exc_info=None if isinstance(error, EdgeadError) else error)
        self._refused = why, message
        if self._station is not None:
            values = {"model": active.digest, "running": self._running.digest}
            self._station.spool.append(
                Event("model_refused", iso(datetime.now(timezone.utc)), detail=detail, values=values)
            )
        self._return(active)

    def _return(self, refused: Installed) -> None:
        """Make the running model the active one; after a failure the next look tries again."""
        if self._refused is None:
            return
        try:
            self._models.store.return_to(self._running, who=OWN_NAME, why=self._refused[1], only_from=refused.name)
        except EdgeadError as problem:
            if problem.message != self._problem:
                _LOG.error("%s does not become the active model again: %s", self._running.name, problem.message)
            self._problem = problem.message
            return
        self._refused, self._problem = None, ""
