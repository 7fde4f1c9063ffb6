"""The status line on a terminal and in a log file."""

from __future__ import annotations

from dataclasses import replace

from edgead.stream.meter import StreamStatus
from edgead.stream.status import StatusLine, status_line

from .fakes import ManualClock

STATUS = StreamStatus("camera:0", 3.0, 75, 2, 1, 24.96, 18.24, 0.5, 0.75, False)


def test_line_says_what_matters() -> None:
    """Verdict, score against threshold, rate, latency, frames, alerts and drops."""
    expected = "ok      score 0.500 / 0.750 · 25.0 fps · engine 18.2 ms · 75 frames · 1 alert · 2 skipped"
    assert status_line(STATUS) == expected
    assert status_line(replace(STATUS, score=0.8)).startswith("ANOMALY score 0.800")
    assert status_line(replace(STATUS, is_alert_open=True)).startswith("ALERT")
    assert status_line(replace(STATUS, score=None)) == "waiting for the first frame of camera:0 (3 s)"


def test_terminal_line_is_overwritten_in_one_write() -> None:
    """On a terminal each status is one write over the last one, at most five times a second."""
    written: list[str] = []
    clock = ManualClock()
    line = StatusLine(written.append, is_terminal=True, clock=clock)
    for _ in range(10):
        line(STATUS)
        clock.now_s += 0.125
    line.finish()
    assert len(written) == 6
    assert all(text.startswith("\r") and text.endswith("\x1b[K") for text in written[:-1])
    assert written[-1] == "\n"


def test_log_gets_a_line_every_five_seconds() -> None:
    """Without a terminal there are whole lines and no control characters."""
    written: list[str] = []
    clock = ManualClock()
    line = StatusLine(written.append, is_terminal=False, clock=clock)
    for _ in range(110):
        line(STATUS)
        clock.now_s += 0.1
    line.finish()
    assert written == [status_line(STATUS) + "\n"] * 3
