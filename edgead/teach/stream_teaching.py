"""Teaching from the frames of a running stream: people start, watch and end it on the dashboard."""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edgead.data.reader import read_image
from edgead.errors import ConfigError, DataError, EdgeadError
from edgead.imaging import Image
from edgead.manifest import MIN_IMAGES
from edgead.stream.consumers.consumer import Item
from edgead.stream.notices import FaultBegan, UnjudgedFrame
from edgead.stream.result import FrameResult
from edgead.stream.teaching import (
    RUNNING,
    Drop,
    Finish,
    LeaveOut,
    Look,
    Request,
    Show,
    State,
    TeachingReport,
    TeachingStatus,
    TeachingWorker,
)
from edgead.teach.run import PICTURES
from edgead.teach.teachings import Teachings, write_verdict

_LOG = logging.getLogger(__name__)
# Time between two frames that are looked at: long enough to see a movement, short enough for a part that lies still for a moment.
LOOK_S = 0.2
# Left-out scores come without frames too, and are asked for this often.
_ASK_S = 1.0

OpenWorker = Callable[[Path, bool, float], AbstractContextManager[TeachingWorker]]
Install = Callable[[Path, str, str], str]


@dataclass
class _Session:
    """A teaching since the start of the stream; what it holds is changed with the lock held."""

    camera: str
    folder: Path
    status: TeachingStatus
    is_new: bool = False
    inbox: queue.SimpleQueue[Request | None] = field(default_factory=queue.SimpleQueue)
    worker: TeachingWorker | None = None
    is_pending: bool = False
    looked_s: float | None = None
    heard_s: float = 0.0


class StreamTeaching:
    """A consumer that gives frames of one camera to a process that teaches, one at a time, and the controls of that process.

    One teaching runs at a time, since the model judges all cameras. Pictures and bundles are in a folder for each teaching, as
    `edgead teach` makes it; a teaching that was cancelled, or whose process or stream ended, can be continued. Controls may be
    called from any thread.

    Args:
        teachings: Folders of all teachings.
        open_worker: Opens the process that teaches, from a folder, whether a frame must show a part at rest, and the shortest
            time between two accepted frames in seconds.
        install: Installs a bundle and makes it active, from its path, person and reason; returns its name.
        cameras: Class of the parts by camera, or None for those without.
    """

    name = "teaching"
    lossless = False

    def __init__(
        self, teachings: Teachings, open_worker: OpenWorker, install: Install, cameras: Mapping[str, str | None]
    ) -> None:
        self._teachings = teachings
        self._open_worker = open_worker
        self._install_bundle = install
        self._cameras = cameras
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}
        self._active: _Session | None = None
        self._thread: threading.Thread | None = None

    # For people

    def status(self, camera: str) -> TeachingStatus:
        """State of a camera's teaching; that of the last one if none is running."""
        with self._lock:
            return self._status(camera)

    def start(self, camera: str, who: str, *, needs_rest: bool, every_s: float, refine: bool) -> TeachingStatus:
        """Start a teaching.

        Args:
            camera: Name of the camera.
            who: Name of the person.
            needs_rest: Whether a frame must show a part at rest.
            every_s: Shortest time between two accepted frames, in seconds.
            refine: Whether to add to the camera's last teaching.

        Raises:
            ConfigError: If a teaching runs, the camera's class has no place in a taught model, or there is nothing to add to.
            StorageError: If the disk or the folder is full.
        """
        with self._lock:
            if self._active is not None:
                raise ConfigError(
                    f"{self._active.status.who} teaches on {self._active.camera}, and one teaching runs at a time.",
                    hint="Wait until it has ended, or cancel it there.",
                )
            kind = self._cameras.get(camera)
            if kind is not None:
                raise ConfigError(
                    f"{camera} judges parts of the class {kind}, and a taught model has no classes.",
                    hint="Remove `class` from the camera's settings to judge with a taught model, or train on a workstation.",
                )
            last = self._teachings.last(camera)
            if refine and (last is None or self._teachings.earlier(last) is None):
                raise ConfigError(f"There is no earlier teaching of {camera} to add to.", hint="Start a new one.")
            self._teachings.require_room()
            folder = last if last is not None and refine else self._teachings.next(camera)
            session = _Session(camera, folder, TeachingStatus("opening", who, str(folder)), is_new=folder != last)
            self._begin(session, lambda: self._teach(session, needs_rest, every_s))
            return self._status(camera)

    def finish(self, camera: str) -> TeachingStatus:
        """End the showing, and fit the model.

        Raises:
            ConfigError: If nothing is being taught, or fewer than 5 pictures were accepted.
        """
        with self._lock:
            session = self._collecting(camera)
            n = len(session.status.report.pictures)
            if n < MIN_IMAGES:
                raise ConfigError(
                    f"{n} good pictures were accepted; a threshold needs {MIN_IMAGES}, and 10 are a good start.",
                    hint="Show more good parts, each of them another one.",
                )
            session.status = replace(session.status, state="fitting", task="", done=0, total=0)
            session.inbox.put(Finish())
            return self._status(camera)

    def drop(self, camera: str, file: str) -> TeachingStatus:
        """Leave out an accepted picture, by file name, and pictures like it; its file stays.

        Raises:
            ConfigError: If nothing is being taught.
            DataError: If there is no picture of this name.
        """
        with self._lock:
            session = self._collecting(camera)
            self._require_picture(session.status, file)
            session.inbox.put(Drop(file))
            return self._status(camera)

    def cancel(self, camera: str) -> TeachingStatus:
        """End the teaching; its pictures stay, and it can be continued.

        Raises:
            ConfigError: If its model is being installed.
        """
        with self._lock:
            session = self._active
            if session is None or session.camera != camera:
                return self._status(camera)
            if session.status.state == "installing":
                raise ConfigError(
                    "The model is being installed.", hint="Roll back to the model before when it has finished."
                )
            self._end(session, "cancelled")
            return self._status(camera)

    def install(self, camera: str, who: str) -> TeachingStatus:
        """Install the taught model, and make it the active one.

        Raises:
            ConfigError: If there is none, or a teaching runs.
        """
        with self._lock:
            status = self._status(camera)
            if self._active is not None or status.state not in ("taught", "installed") or status.report.verdict is None:
                raise ConfigError(
                    f"There is no taught model of {camera} to install." if self._active is None
                    else f"{self._active.status.who} teaches on {self._active.camera}.",
                    hint="Finish the teaching first.",
                )  # fmt: skip
            session = self._sessions.get(camera) or _Session(camera, Path(status.folder), status)
            session.status = replace(session.status, state="installing", problem="")
            self._begin(session, lambda: self._install(session, who))
            return self._status(camera)

    def picture(self, camera: str, file: str) -> Image:
        """An accepted picture by file name, `(H, W, 3)`, uint8 RGB.

        Raises:
            DataError: If there is none of this name, or it cannot be read.
        """
        status = self.status(camera)
        self._require_picture(status, file)
        return read_image(Path(status.folder) / PICTURES / file)

    # As a consumer

    def wants(self, item: Item) -> bool:
        session = self._active
        if session is None or not isinstance(item, FrameResult | FaultBegan | UnjudgedFrame):
            return False
        if item.camera != session.camera or (isinstance(item, FrameResult) and item.is_repeat):
            return False
        session.heard_s = time.monotonic()
        now_s = item.frame.captured_at_s
        is_soon = session.looked_s is not None and 0 <= now_s - session.looked_s < LOOK_S
        if session.status.state != "collecting" or session.is_pending or is_soon:
            return False
        session.looked_s = now_s
        return True

    def accept(self, item: Item) -> None:
        assert isinstance(item, FrameResult | FaultBegan | UnjudgedFrame)
        frame = item.frame
        request: Request = Show(frame.image, f"{frame.source} {frame.index}", frame.captured_at_s)
        if frame.damage:
            request = LeaveOut("damaged", f"The picture is damaged: {frame.damage}.")
        elif not isinstance(item, FrameResult) and item.fault == "frozen":
            # of a black or blurred one the process judges itself: the active model's good pictures are of another part
            request = LeaveOut("frozen", "The camera gives the same picture again and again.")
        with self._lock:
            session = self._active
            if session is not None and session.camera == item.camera and session.status.state == "collecting":
                session.is_pending = True
                session.inbox.put(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            session, thread = self._active, self._thread
            is_installing = session is not None and session.status.state == "installing"
            if session is not None and not is_installing:
                self._end(session, "cancelled", "The stream ended.")
        # an installation continues in its process: it changes nothing until its last step
        if thread is not None and not is_installing:
            thread.join()

    # On the thread of the session

    def _teach(self, session: _Session, needs_rest: bool, every_s: float) -> None:
        def step(task: str, done: int, total: int) -> None:
            with self._lock:
                session.status = replace(session.status, task=task, done=done, total=total)

        try:
            with self._open_worker(session.folder, needs_rest, every_s) as worker:
                with self._lock:
                    if session is not self._active:
                        return
                    session.worker = worker
                request: Request | None = Look()
                while request is not None:
                    report = worker.ask(request, step)
                    if self._took(session, request, report):
                        return
                    try:
                        request = session.inbox.get(timeout=_ASK_S)
                    except queue.Empty:
                        request = Look()
        except Exception as error:
            self._fail(session, error, "failed")
        finally:
            if session.is_new and not (session.folder / PICTURES).exists():
                shutil.rmtree(session.folder, ignore_errors=True)

    def _took(self, session: _Session, request: Request, report: TeachingReport) -> bool:
        """Note an answer; whether it is the last one."""
        with self._lock:
            if session is not self._active:
                return True
            if isinstance(request, Show | LeaveOut):
                session.is_pending = False
            status = replace(session.status, report=report)
            if status.state == "opening":
                session.heard_s = time.monotonic()
                status = replace(status, state="collecting", task="")
            session.status = status
            if report.verdict is None:
                return False
        write_verdict(session.folder, report.verdict, "")
        with self._lock:
            self._end(session, "taught")
        return True

    def _install(self, session: _Session, who: str) -> None:
        verdict = session.status.report.verdict
        assert verdict is not None
        try:
            why = f"taught on {session.camera} with {verdict.n_pictures} pictures"
            model = self._install_bundle(session.folder / "versions" / str(verdict.version), who, why)
            write_verdict(session.folder, verdict, model)
        except Exception as error:
            self._fail(session, error, "taught")
            return
        with self._lock:
            session.status = replace(session.status, model=model)
            self._end(session, "installed")

    def _fail(self, session: _Session, error: Exception, state: State) -> None:
        if not isinstance(error, EdgeadError):
            _LOG.exception("teaching on %s failed", session.camera, exc_info=error)
        problem = (
            f"{error.message} {error.hint}" if isinstance(error, EdgeadError) else f"{type(error).__name__}: {error}"
        )
        with self._lock:
            if session is self._active:
                self._end(session, state, problem.strip())

    # With the lock held

    def _begin(self, session: _Session, run: Callable[[], None]) -> None:
        self._sessions[session.camera] = self._active = session
        self._thread = threading.Thread(target=run, name="edgead teaching", daemon=True)
        self._thread.start()

    def _end(self, session: _Session, state: State, problem: str = "") -> None:
        session.status = replace(session.status, state=state, problem=problem, task="", done=0, total=0)
        self._active = None
        session.inbox.put(None)
        if session.worker is not None:
            session.worker.kill()
            session.worker = None

    def _collecting(self, camera: str) -> _Session:
        session = self._active
        if session is None or session.camera != camera or session.status.state != "collecting":
            raise ConfigError(f"No parts are being shown on {camera}.", hint="Start a teaching there.")
        return session

    def _status(self, camera: str) -> TeachingStatus:
        session, active = self._sessions.get(camera), self._active
        last = None if session is not None and session is active else self._teachings.last(camera)
        status = session.status if session is not None else self._teachings.stored(last)
        if active is not None and active is not session:
            status = replace(status, busy=f"{active.status.who} teaches on {active.camera}.")
        if status.state == "collecting" and session is not None:
            status = replace(status, silent_s=max(0.0, time.monotonic() - session.heard_s))
        if status.state not in RUNNING and last is not None:
            status = replace(status, earlier=self._teachings.earlier(last))
        if len(self._cameras) > 1:
            others = (
                f"This line has {len(self._cameras)} cameras and one model, and the taught one would judge all of them."
            )
            status = replace(status, warning=others)
        return status

    def _require_picture(self, status: TeachingStatus, file: str) -> None:
        if file not in status.report.pictures:
            raise DataError("There is no such picture.", hint="It may have been left out.")
