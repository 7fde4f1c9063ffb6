"""Consumer that lets another model judge a share of the frames."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from typing_extensions import Self

from edgead.errors import EdgeadError
from edgead.stream.consumers.consumer import Item
from edgead.stream.notices import CameraFailed, CameraLost, FaultBegan, ModelChanged
from edgead.stream.result import FrameResult
from edgead.stream.shadow.report import ShadowReport
from edgead.stream.shadow.session import ShadowSession

_LOG = logging.getLogger(__name__)
# Frames that may wait for the shadow of a live stream; a further one is skipped.
QUEUE = 8


class Shadow:
    """A consumer with at most one watch at a time.

    Frames of live sources are skipped while the shadow is busy; files wait for it, so that every frame of its share is
    judged. An error of the shadow ends its watch, and the stream goes on.

    Args:
        waits: Whether the stream waits for the shadow.
        on_end: Called with the last report of every watch.
        queue: Number of waiting frames at which a further one is skipped, if the stream does not wait; at most the length
            of the consumer's queue.
        stop: Event that ends the stream from outside; frames that wait then are not judged, unless the stream waits.

    Attributes:
        limit: Number of waiting frames at which a further one is skipped; None = the stream waits.
    """

    name = "shadow"
    lossless = True

    def __init__(
        self,
        *,
        waits: bool,
        on_end: Callable[[ShadowReport], None],
        queue: int = QUEUE,
        stop: threading.Event | None = None,
    ) -> None:
        self.limit = None if waits else queue
        self._on_end = on_end
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._working = threading.Lock()
        self._session: ShadowSession | None = None
        self._picked: deque[tuple[ShadowSession, bool]] = deque()
        self._last: ShadowReport | None = None

    def begin(self, session: ShadowSession) -> None:
        """Begin a watch; one that runs ends."""
        self.end("another shadow took its place")
        with self._lock:
            self._session = session

    def end(self, why: str, problem: str = "") -> None:
        """End the watch; nothing happens without one."""
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            return
        with self._working:
            report = session.close(why, problem)
        self._last = report
        for sentence in report.sentences:
            _LOG.warning("%s", sentence)
        self._on_end(report)

    @property
    def is_watching(self) -> bool:
        return self._session is not None

    @property
    def is_busy(self) -> bool:
        """Whether it waits for its engine, whose calls have a time limit."""
        return self._working.locked()

    def report(self) -> ShadowReport | None:
        """Report of the watch that runs, or of the last one; None before the first."""
        session = self._session
        return self._last if session is None else session.report()

    def wants(self, item: Item) -> bool:
        session = self._session
        if session is None:
            return False
        if isinstance(item, FrameResult):
            if item.is_repeat:
                return False
            taken, begins = session.pick(item, self.limit)
            if taken:
                self._picked.append((session, begins))
            return taken
        if isinstance(item, FaultBegan | CameraLost | CameraFailed):
            session.break_off(item.camera)
        return isinstance(item, ModelChanged)

    def accept(self, item: Item) -> None:
        if isinstance(item, ModelChanged):
            self.end(f"{item.who} changed the model")
            return
        assert isinstance(item, FrameResult)
        session, begins = self._picked.popleft()
        try:
            with self._working:
                is_late = self.limit is not None and self._stop.is_set()
                if session is not self._session or is_late:
                    session.forget()
                    return
                session.judge(item, begins=begins)
        except Exception as error:  # the stream must go on without its shadow
            _LOG.exception("the shadow ends")
            message = error.message if isinstance(error, EdgeadError) else f"{type(error).__name__}: {error}"
            self.end("it failed", message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end("the stream ended")
