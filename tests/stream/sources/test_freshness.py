"""Ages of live frames, from when they come and what the stream says of their times."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.stream.sources.freshness import FrameClock

INTERVAL_S = 0.04


def ages(arrivals: list[float], times: list[float] | None, fps: float | None = 25.0) -> list[float]:
    clock = FrameClock(fps, longest_pause_s=1.0)
    return [clock.age_s(arrived, times[i] if times else None) for i, arrived in enumerate(arrivals)]


def paced(n: int, start_s: float = 0.0, interval_s: float = INTERVAL_S) -> list[float]:
    return [start_s + interval_s * (1 + i) for i in range(n)]


@pytest.mark.parametrize("has_times", [True, False])
def test_what_waited_in_the_buffer_of_the_opening_is_old(has_times: bool) -> None:
    """Frames that come at once after the connection are of unknown age; those that have to be waited for are new."""
    burst = [0.001 * i for i in range(20)]
    arrivals = burst + paced(10, burst[-1])
    times = [INTERVAL_S * i for i in range(30)] if has_times else None
    found = ages(arrivals, times)
    assert all(math.isinf(age) for age in found[:21])
    assert found[22:] == pytest.approx([0.0] * 8, abs=0.01)


def test_a_connection_is_not_suspected_for_ever() -> None:
    """A stream that always comes in bursts is taken as it is after five seconds."""
    arrivals = [0.5 * (i // 12) + 0.0005 * (i % 12) for i in range(200)]
    found = ages(arrivals, [INTERVAL_S * i for i in range(200)])
    assert math.isinf(found[100])
    assert math.isfinite(found[150])


def test_delay_is_measured_by_the_stream_and_wears_off() -> None:
    """After two seconds without data the backlog is 2 s old, each frame of it less, and the live ones not at all."""
    start = paced(50)
    stall_s = start[-1] + 2.0
    backlog = [stall_s + 0.001 * i for i in range(50)]
    live = paced(20, backlog[-1])
    found = ages(start + backlog + live, [INTERVAL_S * i for i in range(120)])
    assert found[49] == pytest.approx(0.0)
    assert found[50] == pytest.approx(2.0 - INTERVAL_S, abs=0.01)
    assert found[75] == pytest.approx(2.0 - 26 * INTERVAL_S + 0.025, abs=0.02)
    assert found[105:] == pytest.approx([0.0] * 15, abs=0.05)


def test_a_pause_of_the_camera_is_no_delay() -> None:
    """A camera that was silent for two seconds, and whose times say so, is not late afterwards.

    Only the first frame is in doubt: a library that restarts its clock after a gap gives the same times.
    """
    arrivals = paced(20) + paced(20, 0.8 + 2.0)
    found = ages(arrivals, arrivals)
    assert found[2:20] + found[21:] == pytest.approx([0.0] * 37, abs=0.01)
    assert found[20] == pytest.approx(2.0)


def test_a_camera_that_stood_still_is_fresh_again_when_its_frames_have_to_be_waited_for() -> None:
    """A camera that counts frames and stood still for 1.5 s is behind its own times; it is late for five frames only."""
    arrivals = paced(20) + paced(1500, 0.8 + 1.5)
    found = ages(arrivals, [INTERVAL_S * i for i in range(1520)])
    assert found[20] == pytest.approx(1.5)
    assert max(found[25:]) < 0.01


def passed(fps: float, rates: list[float], jitter: list[float], n_each: int = 200) -> list[float]:
    """Ages of frames that nothing delays, from a clock that runs at each of these rates in turn."""
    clock, found, stream_s, before_s = FrameClock(fps, longest_pause_s=1.0), [], 0.0, 0.0
    for index in range(n_each * len(rates)):
        arrived_s = (index + jitter[index % len(jitter)]) / fps
        stream_s += 1 / fps / rates[index // n_each]
        before_s = max(arrived_s, before_s)
        found.append(clock.age_s(before_s, stream_s))
    return found[n_each // 4 :]


RATES = st.floats(0.995, 1.005) | st.sampled_from([25 / 20, 20 / 25, 30 / 29.97, 25 / 24]) | st.floats(0.5, 5.0)


@given(
    fps=st.floats(5, 100), rates=st.lists(RATES, min_size=1, max_size=3), jitter=st.lists(st.floats(0, 1), max_size=9)
)
def test_a_camera_with_a_wrong_clock_is_not_late(fps: float, rates: list[float], jitter: list[float]) -> None:
    """Frames that come in pace are fresh, at whatever rate the camera's clock runs, and when the rate changes."""
    assert max(passed(fps, rates, [0.0, *jitter])) < 1.0


@pytest.mark.parametrize(("claimed", "sent"), [(25, 25), (30, 29.97), (25, 24), (25, 20), (20, 15), (20, 25), (25, 5)])
def test_a_quarter_hour_with_a_wrong_clock_drops_nothing(claimed: float, sent: float) -> None:
    """A camera that claims one frame rate and sends another loses the two frames of the opening, and none after them."""
    n_frames = int(900 * sent)
    found = ages([i / sent for i in range(n_frames)], [i / claimed for i in range(n_frames)], claimed)
    assert sum(age > 1.0 for age in found) == 2
    assert max(found[-100:]) < 0.2


@given(
    rate=st.sampled_from([1.0, 1.004, 0.996, 1.25, 0.8, 2.0]),
    stall_s=st.floats(0.5, 4.5),
    pace=st.floats(0.02, 0.85),
)
def test_a_backlog_is_as_old_as_it_is(rate: float, stall_s: float, pace: float) -> None:
    """After a stall the ages of the frames that were held up are true, however wrong the clock and fast the backlog."""
    clock, arrived_s = FrameClock(25.0, longest_pause_s=1.0), 0.0
    wrong = []
    for index in range(1000):
        captured_s = index * INTERVAL_S
        is_held_up = 16 <= captured_s < 16 + stall_s
        earliest_s = 16 + stall_s if is_held_up else captured_s
        arrived_s = max(earliest_s, arrived_s + pace * INTERVAL_S)
        age_s = clock.age_s(arrived_s, captured_s / rate)
        if index > 250:
            # the first frame after a pause is in doubt
            wrong.append(
                0.0 if is_held_up and age_s > 1 and arrived_s == 16 + stall_s else abs(age_s - arrived_s + captured_s)
            )
    assert max(wrong) < 0.1


@given(ppm=st.floats(-5000, 5000))
def test_a_clock_that_runs_differently_is_no_delay(ppm: float) -> None:
    """However far the clocks of camera and computer part in hours, frames that come in pace are fresh."""
    times = [10.0 * i for i in range(2000)]
    clock = FrameClock(0.1, longest_pause_s=100.0)
    found = [clock.age_s(time * (1 + ppm * 1e-6), time) for time in times]
    assert max(found[3:]) < 0.25


def test_times_that_start_over_are_no_delay() -> None:
    """A camera that sets its clock, back or forth, is not late."""
    times = [INTERVAL_S * i for i in range(30)] + [INTERVAL_S * i - 500 for i in range(30, 60)]
    times += [INTERVAL_S * i + 9000 for i in range(60, 90)]
    assert max(ages(paced(90), times)[3:]) < 0.05


def test_times_that_stand_still_say_nothing() -> None:
    """A driver that gives every frame the same time leaves its frames fresh, once the opening is over."""
    found = ages(paced(300), [7.0] * 300)
    assert found[-1] == 0.0


def test_without_times_what_follows_a_pause_waits_for_an_empty_buffer() -> None:
    """MJPEG after a pause: the backlog is old, and the first picture that had to be waited for is not."""
    start = paced(20)
    backlog = [start[-1] + 3.0 + 0.001 * i for i in range(30)]
    found = ages(start + backlog + paced(10, backlog[-1]), None)
    assert min(found[20:50]) > 1.0
    assert found[50:] == [0.0] * 10


def test_without_times_a_slow_camera_is_shown() -> None:
    """One picture each two seconds is a slow camera and no row of pauses: at most one picture is lost."""
    found = ages(paced(30, interval_s=2.0), None, fps=None)
    assert sum(age > 1.0 for age in found) <= 4
    assert found[8:] == [0.0] * 22


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-10, 10) | st.none()), max_size=60))
def test_ages_are_never_negative_or_undefined(steps: list[tuple[float, float | None]]) -> None:
    """Whatever comes when, the age is a number of at least 0, or infinite."""
    clock = FrameClock(None, longest_pause_s=1.0)
    now_s, stream_s = 0.0, 0.0
    for wait_s, step_s in steps:
        now_s += wait_s
        stream_s += step_s or 0.0
        assert clock.age_s(now_s, None if step_s is None else stream_s) >= 0
