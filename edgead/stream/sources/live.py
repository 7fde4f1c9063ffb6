"""Live source with reconnection, shared by cameras and network streams."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from cv2.typing import MatLike
from typing_extensions import Self

from edgead.errors import SourceError
from edgead.stream.frame import Frame
from edgead.stream.sources.capture import Capture, capture_fps, damage_of_last, frame_count, stream_time_s
from edgead.stream.sources.freshness import FrameClock
from edgead.stream.sources.restart import RestartBudget
from edgead.stream.sources.source import Phase, SourceOptions, SourceReport, SourceState

_LOG = logging.getLogger(__name__)
_DAMAGE_PACE_S = 0.25


class LiveSource:
    """Frames of a capture that is opened again when it fails, none of them older than `options.max_frame_age_s`.

    Args:
        name: Redacted name.
        connect: Callback that opens a capture; raises SourceError on failure.
        options: Retry budget, maximum frame age and `give_up`. If `give_up` is set, the first connection gets a single
            attempt, so that a wrong address is reported at once.
        has_times: Whether the capture reports the times of its frames.
        clock: Monotonic seconds.
    """

    live = True
    paced = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Capture],
        options: SourceOptions,
        *,
        has_times: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.fps: float | None = None
        self.report = SourceReport(state=SourceState("connecting", clock()))
        self._connect = connect
        self._options = options
        self._has_times = has_times
        self._clock = clock
        self._budget = RestartBudget(options.max_restarts, options.restart_window_s)
        self._capture: Capture | None = None
        self._frame_clock: FrameClock | None = None
        self._late_since_s: float | None = None
        self._whole: MatLike | None = None
        self._shown_s = -math.inf
        self._pause_s = 0.0

    def __repr__(self) -> str:
        return f"LiveSource({self.name!r})"

    @property
    def state(self) -> SourceState:
        """State of the connection; may be read from any thread."""
        assert self.report.state is not None
        return self.report.state

    def __enter__(self) -> Self:
        try:
            self._open()
        except SourceError as error:
            if self._options.give_up or not error.retryable:
                raise
            self._lose(_told(error))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        index = 0
        n_read = 0
        while not stop.is_set():
            capture = self._capture
            if capture is None:
                n_read = 0
                self._restart(stop)
                continue
            asked_s = self._clock()
            try:
                ok, image = capture.read()
            except SourceError as error:
                self._lose(error.message)
                continue
            if not ok and self._has_ended(capture, n_read):
                return
            # after its timeout FFmpeg delivers a frame that it had held back
            if not ok or self._clock() - asked_s > self._options.read_timeout_s + self._pause_s:
                self._lose("it gives no more frames")
                continue
            n_read += 1
            if reason := damage_of_last(capture):
                damaged = self._damaged(image, reason, index)
                if damaged is not None:
                    yield damaged
                index += 1
                continue
            captured_at_s = self._captured_at(capture)
            if captured_at_s is not None:
                self._enter("running")
                self._whole, self._shown_s = image, self._clock()
                yield Frame(image, index, captured_at_s, self.name)  # type: ignore[arg-type]
            index += 1

    def _damaged(self, image: MatLike, reason: str, index: int) -> Frame | None:
        """A frame that says that no whole one came for a while, a few times a second; it is not to be judged.

        It shows the last whole frame, as a player does, or the damaged one if there was none.
        """
        now_s = self._clock()
        self.report.damaged_frames += 1
        if self._frame_clock is not None:
            self._frame_clock.excuse_pause()
        shown = self._whole if self._whole is not None else image
        if shown.size == 0 or now_s - self._shown_s < _DAMAGE_PACE_S:
            return None
        self._shown_s = now_s
        return Frame(shown, index, now_s, self.name, damage=reason)  # type: ignore[arg-type]

    def _captured_at(self, capture: Capture) -> float | None:
        """Capture time of the current frame; None if it is too old to be used."""
        now_s = self._clock()
        if self._frame_clock is None:
            return now_s
        age_s = self._frame_clock.age_s(now_s, stream_time_s(capture) if self._has_times else None)
        if age_s <= self._options.max_frame_age_s:
            self._late_since_s = None
            return now_s - age_s
        self.report.stale_frames += 1
        if self._late_since_s is None or self._frame_clock.is_awaited:
            self._late_since_s = now_s
        elif math.isfinite(age_s) and now_s - self._late_since_s > self._options.read_timeout_s:
            self._lose(f"its frames come {age_s:.1f} s late and do not catch up")
        return None

    def _has_ended(self, capture: Capture, n_read: int) -> bool:
        # A video file behind a URL ends; a live stream that stops has been interrupted.
        count = frame_count(capture)
        return count is not None and n_read >= count

    def _open(self) -> None:
        capture = self._capture = self._connect()
        self.fps = capture_fps(capture)
        is_endless = frame_count(capture) is None
        limit_s = self._options.max_frame_age_s
        # a capture that asks for each frame after a pause has none in a buffer
        self._pause_s = float(getattr(capture, "pause_s", 0.0))
        is_buffered = is_endless and self._pause_s == 0
        self._frame_clock = FrameClock(self.fps, limit_s) if is_buffered and limit_s > 0 else None
        self._late_since_s = None

    def _lose(self, reason: str) -> None:
        _LOG.debug("%s was lost: %s", self.name, reason)
        self._release()
        self._enter("reconnecting", reason)

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def _enter(self, phase: Phase, error: str = "") -> None:
        state = self.state
        if state.phase != phase:
            self.report.state = SourceState(phase, self._clock(), error or state.last_error)
        elif error:
            self.report.state = SourceState(phase, state.since_s, error)

    def _restart(self, stop: threading.Event) -> None:
        delay_s = self._budget.next_delay(self._clock())
        if delay_s is None:
            self._rest(stop)
            return
        self._enter("reconnecting")
        if stop.wait(delay_s):
            return
        self.report.restarts += 1
        try:
            self._open()
        except SourceError as error:
            if not error.retryable:
                raise
            self._enter("reconnecting", _told(error))
            _LOG.debug("%s does not answer (attempt %d)", self.name, self.report.restarts)
        else:
            _LOG.debug("%s is back after %d reconnection(s)", self.name, self.report.restarts)

    def _rest(self, stop: threading.Event) -> None:
        rest_s = self._budget.rest_s(self._clock())
        if self._options.give_up or math.isinf(rest_s):
            raise SourceError(
                f"{self.name} was lost and did not come back: {self.report.restarts} reconnections "
                f"spent the budget of the restart window. The last time: {self.state.last_error}",
                hint="Check the camera and its cable or network. stream.max_restarts and "
                "stream.restart_window_s set how long edgead keeps trying.",
            )
        _LOG.debug("%s: next reconnection in %.0f s, as the budget of the restart window is spent", self.name, rest_s)
        self._enter("resting")
        stop.wait(rest_s)


def _told(error: SourceError) -> str:
    """Why a source cannot be opened and what to do, for people who see neither terminal nor log."""
    return f"{error.message} {error.hint}" if error.hint else error.message
