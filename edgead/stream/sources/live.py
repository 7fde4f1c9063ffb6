"""A live source that reconnects: the common half of cameras and network streams."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from typing_extensions import Self

from edgead.errors import SourceError
from edgead.stream.frame import Frame
from edgead.stream.sources.capture import Capture, capture_fps, frame_count
from edgead.stream.sources.restart import RestartBudget
from edgead.stream.sources.source import SourceReport

_LOG = logging.getLogger(__name__)


class LiveSource:
    """Frames of a capture that is opened again when it fails.

    Args:
        name: Redacted name.
        connect: Opens a capture; raises SourceError when it cannot.
        budget: How often and after which pause to try again. The first connection gets one attempt:
            a wrong address should say so at once.
        clock: Monotonic seconds.
    """

    live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Capture],
        budget: RestartBudget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.fps: float | None = None
        self.report = SourceReport()
        self._connect = connect
        self._budget = budget
        self._clock = clock
        self._capture: Capture | None = None

    def __repr__(self) -> str:
        return f"LiveSource({self.name!r})"

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        index = 0
        while not stop.is_set():
            capture = self._capture
            if capture is None:
                self._restart(stop)
                continue
            ok, image = capture.read()
            if ok:
                yield Frame(image, index, self._clock(), self.name)  # type: ignore[arg-type]
                index += 1
            elif self._has_ended(capture, index):
                return
            else:
                _LOG.warning("%s gives no more frames", self.name)
                self._release()

    def _has_ended(self, capture: Capture, n_read: int) -> bool:
        # A video file behind a URL ends; a stream that stops has been cut off.
        count = frame_count(capture)
        return count is not None and n_read >= count

    def _open(self) -> None:
        self._capture = self._connect()
        self.fps = capture_fps(self._capture)

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def _restart(self, stop: threading.Event) -> None:
        delay_s = self._budget.next_delay(self._clock())
        if delay_s is None:
            raise SourceError(
                f"{self.name} was lost and did not come back: {self.report.restarts} reconnections "
                "spent the budget of the restart window.",
                hint="Check the camera and its cable or network. stream.max_restarts and "
                "stream.restart_window_s set how long edgead goes on trying.",
            )
        if stop.wait(delay_s):
            return
        self.report.restarts += 1
        try:
            self._open()
        except SourceError as error:
            if not error.retryable:
                raise
            _LOG.warning("%s does not answer (attempt %d)", self.name, self.report.restarts)
        else:
            _LOG.warning("%s is back after %d reconnection(s)", self.name, self.report.restarts)
