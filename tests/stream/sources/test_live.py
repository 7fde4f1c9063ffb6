"""A live source that is lost and found: pauses, budget, state, and frames that are too old."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest
from cv2.typing import MatLike

from edgead.errors import SourceError
from edgead.stream.frame import Frame
from edgead.stream.sources.capture import Capture, capture_fps
from edgead.stream.sources.live import LiveSource
from edgead.stream.sources.restart import MAX_DELAY_S, RestartBudget
from edgead.stream.sources.source import SourceOptions

from ..fakes import SOURCE_OPTIONS, ManualClock, plain

INTERVAL_S = 0.04
# the first frames of each connection are not shown: they may have waited in a buffer
N_UNSURE = 2


class ScriptedCapture:
    """Gives a frame each 40 ms of the clock, `n_frames` in all, and then fails."""

    def __init__(
        self, n_frames: int, clock: ManualClock, *, count: float = 0.0, late_s: tuple[float, ...] = ()
    ) -> None:
        self.n_left = n_frames
        self.is_released = False
        self._clock = clock
        self._count = count
        self._late_s = list(late_s)
        self._stream_s = 5.0

    def read(self) -> tuple[bool, MatLike]:
        self.n_left -= 1
        self._stream_s += INTERVAL_S
        self._clock.now_s += INTERVAL_S + (self._late_s.pop(0) if self._late_s else 0.0)
        return self.n_left >= 0, plain(9)

    def get(self, property_id: int, /) -> float:
        return {
            cv2.CAP_PROP_FPS: 90000.0, cv2.CAP_PROP_FRAME_COUNT: self._count,
            cv2.CAP_PROP_POS_MSEC: self._stream_s * 1e3,
        }[property_id]  # fmt: skip

    def release(self) -> None:
        self.is_released = True


class ImpatientEvent(threading.Event):
    """An event whose waits move the clock instead of taking time, and are noted."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self._clock.now_s += timeout
        return self.is_set()


def live_source(
    captures: list[Capture | None], clock: ManualClock, options: SourceOptions, *, retryable: bool = True
) -> LiveSource:
    def connect() -> Capture:
        capture = captures.pop(0)
        if capture is None:
            raise SourceError("no answer", retryable=retryable)
        return capture

    return LiveSource("fake", connect, options, has_times=True, clock=clock)


def test_lost_connection_is_opened_again_with_growing_pauses() -> None:
    """A live source goes on after a loss, numbering frames on, until the budget is spent; then the error names it."""
    clock = ManualClock()
    first = ScriptedCapture(3 + N_UNSURE, clock)
    captures: list[Capture | None] = [first, None, ScriptedCapture(2 + N_UNSURE, clock), None, None]
    source = live_source(captures, clock, replace(SOURCE_OPTIONS, max_restarts=4))
    stop, frames = ImpatientEvent(clock), list[Frame]()
    with source, pytest.raises(SourceError, match=r"fake was lost.*4 reconnections.*no answer"):
        frames.extend(source.frames(stop))
    assert [frame.index for frame in frames] == [2, 3, 4, 7, 8]
    assert stop.waits == [0.5, 1.0, 2.0, 4.0]
    assert source.report.restarts == 4
    assert source.report.stale_frames == 2 * N_UNSURE
    assert first.is_released
    assert source.fps is None


def test_first_connection_gets_one_attempt() -> None:
    """A wrong address fails at once instead of being tried for minutes."""
    clock = ManualClock()
    with pytest.raises(SourceError, match="no answer"):
        live_source([None, ScriptedCapture(1, clock)], clock, SOURCE_OPTIONS).__enter__()


def test_one_camera_of_several_rests_and_comes_back() -> None:
    """With `give_up` off a spent budget is waited for until the window allows a restart, from the first connection on."""
    clock = ManualClock()
    captures: list[Capture | None] = [None, None, None, ScriptedCapture(1 + N_UNSURE, clock), None, None, None, None]
    source = live_source(captures, clock, replace(SOURCE_OPTIONS, max_restarts=2, give_up=False))
    stop = ImpatientEvent(clock)
    assert source.state.phase == "connecting"
    with source:
        assert source.state.phase == "reconnecting"
        frames = source.frames(stop)
        started_s = clock.now_s
        assert next(frames).captured_at_s >= started_s + SOURCE_OPTIONS.restart_window_s
        assert source.state.phase == "running"
        assert source.state.last_error == "no answer"
        stop.waits.clear()
        captures[:] = [None] * 8
        states = set()
        clock_wait = stop.wait

        def watching_wait(timeout: float | None = None) -> bool:
            states.add(source.state.phase)
            if len(stop.waits) == 5:
                stop.set()
            return clock_wait(timeout)

        stop.wait = watching_wait  # type: ignore[method-assign]
        assert list(frames) == []
    assert states == {"reconnecting", "resting"}


@pytest.mark.parametrize("give_up", [True, False])
def test_a_budget_of_none_ends_the_source(give_up: bool) -> None:
    """With `max_restarts` 0 the source ends at the first loss, also with several cameras."""
    clock = ManualClock()
    options = replace(SOURCE_OPTIONS, max_restarts=0, give_up=give_up)
    source = live_source([ScriptedCapture(4, clock)], clock, options)
    with source, pytest.raises(SourceError, match="was lost"):
        list(source.frames(ImpatientEvent(clock)))


def test_what_no_retry_can_mend_is_not_retried() -> None:
    """An error that says so ends the source, also with `give_up` off."""
    clock = ManualClock()
    source = live_source([None], clock, replace(SOURCE_OPTIONS, give_up=False), retryable=False)
    with pytest.raises(SourceError, match="no answer"):
        source.__enter__()


def test_state_says_why_and_since_when() -> None:
    """The state holds the reason of the last loss and the time of the change."""
    clock = ManualClock()

    class Failing(ScriptedCapture):
        def read(self) -> tuple[bool, MatLike]:
            if self.n_left == 0:
                raise SourceError("the cable is cut", retryable=True)
            return super().read()

    source = live_source([Failing(5, clock), None], clock, replace(SOURCE_OPTIONS, max_restarts=1))
    with source:
        frames = source.frames(ImpatientEvent(clock))
        running_s = next(frames).captured_at_s
        next(frames)
        assert (source.state.phase, source.state.since_s) == ("running", running_s)
        next(frames)
        with pytest.raises(SourceError, match="no answer"):
            next(frames)
    assert source.state.phase == "reconnecting"
    assert source.state.since_s > running_s


def test_a_video_file_behind_a_url_ends() -> None:
    """A capture that knows its frame count ends after it, and none of its frames counts as old."""
    clock = ManualClock()
    source = live_source([ScriptedCapture(4, clock, count=4)], clock, SOURCE_OPTIONS)
    with source:
        assert len(list(source.frames(threading.Event()))) == 4
    assert source.report.restarts == 0


def test_stop_while_waiting_for_a_reconnection() -> None:
    """A stop ends the pause before a reconnection."""
    clock, stop = ManualClock(), threading.Event()
    source = live_source([ScriptedCapture(1 + N_UNSURE, clock)], clock, SOURCE_OPTIONS)
    with source:
        frames = source.frames(stop)
        next(frames)
        threading.Timer(0.05, stop.set).start()
        assert list(frames) == []


def test_a_backlog_that_does_not_end_is_left_by_reconnecting() -> None:
    """Frames above the age limit are dropped; a backlog that lasts longer than the read limit ends the connection."""
    clock = ManualClock()
    # after the stall they come 15 % faster than they were captured
    delayed = ScriptedCapture(200, clock, late_s=(0.0,) * 10 + (1.9,) + (-0.15 * INTERVAL_S,) * 189)
    options = replace(SOURCE_OPTIONS, read_timeout_s=2.0)
    source = live_source([delayed, ScriptedCapture(1 + N_UNSURE, clock)], clock, options)
    frames = []
    with source:
        for frame in source.frames(ImpatientEvent(clock)):
            frames.append(frame)
            if source.report.restarts:
                break
    assert len(frames) == 10 - N_UNSURE + 1
    assert source.report.restarts == 1
    assert "late" in source.state.last_error
    waited = round(options.read_timeout_s / INTERVAL_S / 0.85)
    assert abs(source.report.stale_frames - 2 * N_UNSURE - waited) <= 3


@pytest.mark.parametrize("late_s", [0.01, -0.008, 0.001])
def test_a_camera_that_sends_at_another_rate_than_it_says_is_not_lost(late_s: float) -> None:
    """While frames have to be waited for, none is dropped as late and the connection stays, at any clock rate."""
    clock = ManualClock()
    capture = ScriptedCapture(20_000, clock, late_s=(late_s,) * 20_000)
    source = live_source([capture], clock, replace(SOURCE_OPTIONS, max_restarts=0))
    with source:
        assert len(list(islice(source.frames(threading.Event()), 19_990))) == 19_990
    assert source.report.stale_frames == N_UNSURE


def test_a_camera_that_stood_still_is_not_lost() -> None:
    """A camera that counts frames and stood still is behind its own times for good, which is no reason to reconnect."""
    clock = ManualClock()
    capture = ScriptedCapture(500, clock, late_s=(0.0,) * 10 + (1.9,))
    source = live_source([capture], clock, replace(SOURCE_OPTIONS, max_restarts=0, read_timeout_s=2.0))
    with source:
        assert len(list(islice(source.frames(threading.Event()), 480))) == 480


def test_a_frame_after_the_read_limit_is_a_loss() -> None:
    """FFmpeg ends its wait with a frame that it had held back: that is not shown, and the connection is lost."""
    clock = ManualClock()
    hanging = ScriptedCapture(200, clock, late_s=(0.0,) * 10 + (SOURCE_OPTIONS.read_timeout_s,))
    source = live_source([hanging], clock, replace(SOURCE_OPTIONS, max_restarts=0))
    frames = []
    with source, pytest.raises(SourceError, match="no more frames"):
        frames.extend(source.frames(ImpatientEvent(clock)))
    assert len(frames) == 10 - N_UNSURE


def test_restart_budget_recovers_with_time() -> None:
    """Old restarts leave the window, the pause is capped and shrinks again; the rest lasts until the oldest leaves."""
    budget = RestartBudget(8, 100.0)
    assert budget.rest_s(0.0) == 0.0
    delays = [budget.next_delay(float(second)) for second in range(8)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, MAX_DELAY_S, MAX_DELAY_S, MAX_DELAY_S]
    assert budget.next_delay(99.0) is None
    assert budget.rest_s(99.0) == 1.0
    assert budget.next_delay(100.0) is not None
    assert budget.rest_s(100.0) == 1.0
    assert budget.next_delay(300.0) == 0.5


def test_implausible_frame_rates_are_unknown() -> None:
    """A stream clock of 90000 is not a frame rate."""
    assert capture_fps(ScriptedCapture(0, ManualClock())) is None


def test_damaged_frames_are_marked_and_show_the_last_whole_one() -> None:
    """Frames that lack packets are handed on a few times a second, marked, and never as an image to judge."""
    clock = ManualClock()

    class Losing(ScriptedCapture):
        damage = ""

        def read(self) -> tuple[bool, MatLike]:
            found, image = super().read()
            self.damage = "packets are lost" if 20 <= 100 - self.n_left < 70 else ""
            return found, np.full_like(image, 255) if self.damage else image

    source = live_source([Losing(100, clock)], clock, replace(SOURCE_OPTIONS, max_restarts=0))
    with source:
        frames = list(islice(source.frames(threading.Event()), 55))
    damaged = [frame for frame in frames if frame.damage]
    assert len(damaged) == 50 * INTERVAL_S // 0.28
    assert source.report.damaged_frames == 50
    assert {int(frame.image.max()) for frame in frames} == {9}
    assert source.report.restarts == 0
    # the first whole frame after them is not taken for one that was held up
    assert next(frame.index for frame in frames if not frame.damage and frame.index > 60) == 69
