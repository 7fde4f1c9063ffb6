"""The status line on a terminal and in a log file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgead.stream.monitoring.meter import CameraStatus, StreamStatus
from edgead.stream.monitoring.status import StatusLine, status_line

from ..fakes import ManualClock

CAMERA = CameraStatus(
    name="line", source="camera:0", state="running", fault=None, n_captured=77, n_processed=75, n_dropped=2,
    n_unjudged=0, n_alerts=1, restarts=0, fps=24.96, zone="picture", score=0.5, threshold=0.75, is_anomalous=False,
    is_alert_open=False, is_held=False,
)  # fmt: skip
STATUS = StreamStatus(3.0, 18.24, (CAMERA,))


def line_of(**changes: Any) -> str:
    return status_line(replace(STATUS, cameras=(replace(CAMERA, **changes),)))


def test_line_says_what_matters() -> None:
    """Verdict, score against threshold, rate, latency, frames, alerts and drops."""
    expected = "ok      score 0.500 / 0.750 · 25.0 fps · engine 18.2 ms · 75 frames · 1 alert · 2 skipped"
    assert status_line(STATUS) == expected
    assert line_of(score=0.8, is_anomalous=True).startswith("ANOMALY score 0.800")
    assert line_of(is_alert_open=True).startswith("ALERT   score 0.500")
    assert line_of(is_held=True).startswith("HELD")
    assert line_of(fault="The picture is black: it is.").startswith("FAULT line (The picture is black) · 25.0 fps")
    assert line_of(state="lost", is_alert_open=True).startswith("LOST line with an open ALERT · 25.0 fps")
    assert line_of(n_processed=0) == "waiting for the first frame of line (3 s)"
    assert line_of(n_processed=0, fault="It is black.") == "FAULT line (It is black) · 3 s, no frame judged"


def test_of_several_cameras_the_line_names_those_that_need_somebody() -> None:
    """Frames and alerts are added up; fine cameras are counted, the others named."""
    second = replace(CAMERA, name="left", is_alert_open=True)
    third = replace(CAMERA, name="right", state="failed")
    assert status_line(replace(STATUS, cameras=(CAMERA, CAMERA))) == (
        "ok      2 cameras · 49.9 fps · engine 18.2 ms · 150 frames · 2 alerts · 4 skipped"
    )
    assert status_line(replace(STATUS, cameras=(CAMERA, second, third))).startswith(
        "ALERT left · FAILED right · 74.9 fps"
    )


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
