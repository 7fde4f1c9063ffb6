"""The seconds before and after an alert as a video that a browser plays."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.stream.consumers.clip_file import MAX_GAP_S, packed, write_clip
from edgead.stream.consumers.clip_maker import ClipMaker, ClipOptions
from edgead.stream.consumers.clip_ring import ClipFrame, ClipRing
from edgead.stream.frame import Frame
from edgead.stream.notices import CameraLost, FaultBegan, UnjudgedFrame
from edgead.stream.spool.spool import Spool

from ..spool.builders import alert_id, opened, result, spool, verdict

OPTIONS = ClipOptions(pre_s=1.0, post_s=1.0, fps=5.0, max_side_px=64, memory_mb=1.0)


def jpeg(value: int, size: tuple[int, int] = (48, 64)) -> bytes:
    ok, encoded = cv2.imencode(".jpg", np.full((*size, 3), value, np.uint8))
    assert ok
    return encoded.tobytes()


def frames_of(path: Path) -> list[float]:
    """Mean grey value of every frame of a video."""
    capture, values = cv2.VideoCapture(str(path)), []
    while True:
        ok, image = capture.read()
        if not ok:
            break
        values.append(float(image.mean()))
    capture.release()
    return values


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400)), min_size=1, max_size=60),
    st.floats(0.1, 20), st.floats(0.0001, 0.002),
)  # fmt: skip
def test_the_ring_is_bounded_in_time_and_memory(
    steps: list[tuple[float, int]], span_s: float, memory_mb: float
) -> None:
    """Whatever comes: never more bytes than the budget, never older than the span, and otherwise everything."""
    ring, now_s, everything = ClipRing(span_s, memory_mb), 0.0, []
    for step_s, size in steps:
        now_s += step_s
        frame = ClipFrame(now_s, bytes(size))
        ring.add(frame)
        everything.append(frame)
        held = ring.cut(-1.0, 1e9)
        assert ring.n_bytes == sum(len(item.jpeg) for item in held) <= memory_mb * 1e6
        assert all(item.time_s >= now_s - span_s for item in held)
        assert held == everything[len(everything) - len(held) :]
        if len(held) < len(everything):
            before = everything[-len(held) - 1]
            assert before.time_s < now_s - span_s or ring.n_bytes + len(before.jpeg) > memory_mb * 1e6


def test_a_source_that_starts_anew_starts_a_new_ring() -> None:
    """Frames of two time lines are not mixed."""
    ring = ClipRing(10.0, 1.0)
    for time_s in (5.0, 6.0, 0.0, 1.0):
        ring.add(ClipFrame(time_s, b"x"))
    assert [frame.time_s for frame in ring.cut(0.0, 10.0)] == [0.0, 1.0]
    assert ring.n_bytes == 2


def test_a_clip_keeps_the_pace(tmp_path: Path) -> None:
    """Where frames are missing the last one stays, and a long absence is shortened."""
    times = [0.0, 0.2, 1.0, 1.2, 60.0]
    frames = [ClipFrame(time_s, jpeg(40 * index + 20)) for index, time_s in enumerate(times)]
    suffix = write_clip(io.BytesIO(b"".join(packed(frames, 5.0))), tmp_path / "clip", 5.0)
    assert suffix == ".webm"
    values = frames_of(tmp_path / "clip.webm")
    assert len(values) == 1 + 4 + 1 + MAX_GAP_S * 5 + 1
    expected = [20.0] + [60.0] * 4 + [100.0] + [140.0] * round(MAX_GAP_S * 5) + [180.0]
    assert values == pytest.approx(expected, abs=8)


def test_a_change_of_size_within_a_clip(tmp_path: Path) -> None:
    """A larger frame is fitted into the first one's size, odd sizes lose their last row."""
    frames = [ClipFrame(0.0, jpeg(50, (47, 63))), ClipFrame(0.2, jpeg(200, (96, 128)))]
    write_clip(io.BytesIO(b"".join(packed(frames, 5.0))), tmp_path / "clip", 5.0)
    assert frames_of(tmp_path / "clip.webm") == pytest.approx([50, 200], abs=8)


@pytest.mark.parametrize("content", [b"", b"".join(packed([ClipFrame(0.0, jpeg(50))], 5.0))[:-5], b"\1\0\0\0\1\0\0\0x"])
def test_a_torn_stream_makes_no_clip(tmp_path: Path, content: bytes) -> None:
    """A stream cut short, as by a killed process, raises and leaves no file."""
    with pytest.raises(ValueError, match=r"frame|JPEG"):
        write_clip(io.BytesIO(content), tmp_path / "clip", 5.0)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_is_not_whole_is_none(tmp_path: Path, limit_file_size: None) -> None:
    """The encoder says nothing of a full disk; what cannot be read to its end is no clip."""
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    frames = []
    for index in range(20):
        ok, encoded = cv2.imencode(".jpg", np.roll(noise, 9 * index, axis=1))
        assert ok
        frames.append(ClipFrame(index / 5, encoded.tobytes()))
    with pytest.raises(OSError, match="incomplete"):
        write_clip(io.BytesIO(b"".join(packed(frames, 5.0))), tmp_path / "clip", 5.0)


def watch(clip_maker: ClipMaker, values: dict[float, int], camera: str = "line 1") -> None:
    for time_s, value in values.items():
        item = result(verdict(None), value=value, index=round(time_s * 100), time_s=time_s, camera=camera)
        if clip_maker.wants(item):
            clip_maker.accept(item)


def wait_for_clip(target: Spool, number: int = 1) -> Path:
    deadline_s = time.monotonic() + 240
    while time.monotonic() < deadline_s:
        if (path := target.media(alert_id(number), "clip")) is not None:
            return path
        time.sleep(0.05)
    raise AssertionError("no clip")


def test_a_clip_shows_before_and_after(tmp_path: Path) -> None:
    """A clip spans a second before and after the opening, for every alert of the frame, while the stream continues."""
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS)
        watch(clip_maker, {index / 10: 2 * index for index in range(50)})
        for number in (1, 2):
            target.append(opened(number))
        clip_maker.request("line 1", [alert_id(1), alert_id(2)], 4.8)
        watch(clip_maker, {index / 10: 2 * index for index in range(50, 100)})
        path = wait_for_clip(target)
        assert path.name == f"{alert_id(1)}-clip.webm"
        values = frames_of(path)
        # five frames per second from 3.8 s to 5.8 s, each of the value 20 × its time
        assert values == pytest.approx([76, 80, 84, 88, 92, 96, 100, 104, 108, 112, 116], abs=6)
        assert target.media(alert_id(2), "clip") == path
        assert len(target.events()) == 2, "a finished clip is no event"
        clip_maker.finish()
        assert not [thread for thread in threading.enumerate() if thread.name == "edgead clip writer"]
        assert not list(tmp_path.glob(".*tmp*"))


@pytest.mark.slow
def test_a_long_clip_takes_its_time(tmp_path: Path) -> None:
    """Frames that take the encoder much longer than one look at it."""
    options = ClipOptions(pre_s=10.0, post_s=0.0, fps=5.0, max_side_px=640, memory_mb=50.0)
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, options)
        for index in range(25):
            item = result(verdict(None), index=index, time_s=index / 5)
            clip_maker.accept(replace(item, frame=replace(item.frame, image=np.roll(noise, index * 8, axis=1))))
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 4.8)
        assert len(frames_of(wait_for_clip(target))) == 25
        clip_maker.finish()


def python_that(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Run a line of shell in place of Python; `$PYTHON` is the real one."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\nPYTHON={sys.executable}\n{line}\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))


def test_a_hanging_encoder_is_given_up_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a stop from outside an encoder that hangs is killed, and record and log say so in words."""
    monkeypatch.setattr("edgead.stream.consumers.clip_maker._FINISH_S", 0.5)
    python_that(tmp_path, monkeypatch, "exec sleep 60")
    stop = threading.Event()
    with spool(tmp_path / "alerts") as target:
        clip_maker = ClipMaker(target, OPTIONS, stop=stop)
        watch(clip_maker, {0.0: 100})
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 0.0)
        stop.set()
        start_s = time.monotonic()
        clip_maker.finish()
        assert time.monotonic() - start_s < 30
        (alert,) = target.alerts()
        assert alert.pictures_missing == {"clip": "failed"}
    assert not [thread for thread in threading.enumerate() if thread.name == "edgead clip writer"]
    (said,) = [record.message for record in caplog.records if "clip" in record.message]
    assert said.endswith("could not be written: the stream was stopped, and its encoder did not finish in time")


def write_one_clip(target: Spool) -> None:
    """Ask for the clip of one alert and end the stream, without a stop from outside."""
    clip_maker = ClipMaker(target, OPTIONS)
    watch(clip_maker, {0.0: 100})
    target.append(opened(1))
    clip_maker.request("line 1", [alert_id(1)], 0.0)
    clip_maker.finish()


def test_the_end_of_a_file_waits_for_a_slow_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a stop from outside nothing is in a hurry: the last clip is written, however slow the machine."""
    monkeypatch.setattr("edgead.stream.consumers.clip_maker._FINISH_S", 0.1)
    python_that(tmp_path, monkeypatch, 'sleep 1; exec $PYTHON "$@"')
    with spool(tmp_path / "alerts") as target:
        write_one_clip(target)
        assert target.media(alert_id(1), "clip") is not None


def test_an_encoder_that_is_killed_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the signal, as after a shortage of memory, and shows no exception."""
    python_that(tmp_path, monkeypatch, "kill -9 $$")
    with spool(tmp_path / "alerts") as target:
        write_one_clip(target)
    (said,) = [record for record in caplog.records if "clip" in record.message]
    assert said.message.endswith("could not be written: its encoder was ended by SIGKILL")
    assert said.exc_info is None


def test_a_file_with_many_alerts_gets_every_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that can wait does so while the encoder is behind, instead of losing clips."""
    monkeypatch.setattr("edgead.stream.consumers.clip_maker._MAX_WAITING", 1)
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS, waiting={"line 1"}, untimed={"line 1"})
        for number in range(1, 6):
            watch(clip_maker, {3.0 * number: 100})
            target.append(opened(number))
            clip_maker.request("line 1", [alert_id(number)], 3.0 * number)
        clip_maker.finish()
        assert [target.media(alert_id(number), "clip") is not None for number in range(1, 6)] == [True] * 5


def test_a_fast_file_waits_until_its_clip_is_asked_for(tmp_path: Path) -> None:
    """Frames that follow the opening do not push it out of the memory while the record of the alert is written."""
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS, waiting={"line 1"}, untimed={"line 1"})
        watch(clip_maker, {index / 5: 100 for index in range(10)})

        def follow() -> None:
            clip_maker.accept(result(verdict("opened"), index=10, time_s=2.0))
            watch(clip_maker, {index / 5: 200 for index in range(11, 300)})

        frames = threading.Thread(target=follow)
        frames.start()
        time.sleep(0.3)
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 2.0)
        frames.join(20)
        clip_maker.finish()
        assert len(frames_of(wait_for_clip(target))) == 11


def test_a_slow_file_is_not_taken_for_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a file may take longer to judge than a clip is long; the clip still gets all of its own."""
    monkeypatch.setattr("edgead.stream.consumers.clip_maker._LATE_S", -0.9)
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS, waiting={"line 1"}, untimed={"line 1"})
        watch(clip_maker, {index / 5: 100 for index in range(10)})
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 1.8)
        time.sleep(0.6)
        watch(clip_maker, {index / 5: 100 for index in range(10, 20)})
        clip_maker.finish()
        assert len(frames_of(wait_for_clip(target))) == 11


def test_the_last_frames_are_in_the_last_clip(tmp_path: Path) -> None:
    """The end waits until the frames that are still on their way have arrived."""
    with spool(tmp_path) as target, ClipMaker(target, OPTIONS) as clip_maker:
        watch(clip_maker, {index / 5: 100 for index in range(10)})
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 1.8)
        ending = threading.Thread(target=clip_maker.finish)
        ending.start()
        time.sleep(0.3)
        assert clip_maker.is_busy
        watch(clip_maker, {2.0: 100, 2.2: 100})
        clip_maker.__exit__(None, None, None)
        ending.join(20)
        assert not clip_maker.is_busy
        assert len(frames_of(wait_for_clip(target))) == 8


@pytest.mark.parametrize("how", ["end", "camera lost"])
def test_a_clip_is_cut_short_when_no_frame_follows(tmp_path: Path, how: str) -> None:
    """At the end of the stream, and when the camera is lost."""
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS)
        watch(clip_maker, {index / 5: 100 for index in range(10)})
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 1.8)
        if how == "camera lost":
            notice = CameraLost("line 1", 0.0, "")
            assert clip_maker.wants(notice)
            clip_maker.accept(notice)
            wait_for_clip(target)
        clip_maker.finish()
        assert len(frames_of(wait_for_clip(target))) == 6


def test_a_pause_after_the_opening_loses_nothing(tmp_path: Path) -> None:
    """The first frame after it is too late for the clip and pushes all the others out of the memory."""
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS)
        watch(clip_maker, {index / 5: 100 for index in range(10)})
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 1.8)
        watch(clip_maker, {25.0: 200})
        assert frames_of(wait_for_clip(target)) == pytest.approx([100] * 6, abs=6)
        clip_maker.finish()


def test_a_clip_shows_pictures_that_were_not_judged(tmp_path: Path) -> None:
    """Unjudged frames are kept, as they may show the cause: a failed lamp, an object before the camera."""
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS)
        watch(clip_maker, {index / 5: 100 for index in range(10)})
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 1.8)
        black = Frame(np.zeros((48, 64, 3), np.uint8), 0, 0.0, "line")
        begins = FaultBegan("line 1", 0.0, black, 2.0, "black", "black")
        assert not clip_maker.wants(begins), "the same picture comes once more as one that was not judged"
        for index in range(20, 40):
            notice = UnjudgedFrame("line 1", 0.0, black, index / 10, "black", "black")
            if clip_maker.wants(notice):
                clip_maker.accept(notice)
        assert frames_of(wait_for_clip(target)) == pytest.approx([100] * 6 + [0] * 5, abs=6)
        clip_maker.finish()


def test_a_camera_that_falls_silent_gets_its_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watched folder may be silent for a day and a file for good, without being lost."""
    monkeypatch.setattr("edgead.stream.consumers.clip_maker._LATE_S", 0.1)
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS)
        watch(clip_maker, {index / 5: 100 for index in range(10)})
        target.append(opened(1))
        clip_maker.request("line 1", [alert_id(1)], 1.8)
        time.sleep(0.5)
        before_s = time.monotonic()
        watch(clip_maker, {2.0: 100})
        time.sleep(0.8)
        is_there = target.media(alert_id(1), "clip") is not None
        # a look that came too late, because the machine paused, shows nothing
        assert not is_there or time.monotonic() - before_s > 1.0, "its last picture is younger than the clip is long"
        assert len(frames_of(wait_for_clip(target))) == 7
        clip_maker.finish()


def test_no_clip_without_frames_or_room(tmp_path: Path) -> None:
    """The record says why there is none."""
    with spool(tmp_path, min_free_mb=1e9) as target:
        clip_maker = ClipMaker(target, OPTIONS)
        for number in (1, 2):
            target.append(opened(number))
        clip_maker.request("other", [alert_id(1)], 0.0)
        watch(clip_maker, {0.0: 10})
        target.write_media("x", b"")
        clip_maker.request("line 1", [alert_id(2)], 0.0)
        clip_maker.finish()
        found = {alert.id: alert.pictures_missing for alert in target.alerts()}
        assert found == {alert_id(1): {"clip": "failed"}, alert_id(2): {"clip": "disk_full"}}


def test_frames_are_shrunk_and_thinned(tmp_path: Path) -> None:
    """At most `fps` frames of at most `max_side_px`; repeated results are not frames."""
    with spool(tmp_path) as target:
        clip_maker = ClipMaker(target, OPTIONS)
        wanted = [clip_maker.wants(result(verdict(None), time_s=index / 30)) for index in range(60)]
        assert sum(wanted) == 10
        assert not clip_maker.wants(result(verdict(None), time_s=50.0, is_repeat=True))
        clip_maker.accept(result(verdict(None), size=(300, 200), time_s=3.0))
        (frame,) = clip_maker._rings["line 1"].cut(0.0, 10.0)
        image = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (64, 43, 3)


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which a browser finds it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


PAGE = """<video id=v muted></video><p id=said>nothing</p><script>
const video = document.getElementById("v"), said = document.getElementById("said");
video.onerror = () => { said.textContent = "error " + video.error.message };
video.onloadeddata = () => { said.textContent = `shows ${video.videoWidth}x${video.videoHeight} ${video.duration}` };
video.src = "clip.webm";</script>"""


@pytest.mark.slow
def test_a_browser_plays_the_clip(pages: tuple[Path, str]) -> None:
    """Headless Chromium decodes it and knows its size and duration."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium")
    folder, address = pages
    frames = [ClipFrame(index / 5, jpeg(5 * index)) for index in range(50)]
    write_clip(io.BytesIO(b"".join(packed(frames, 5.0))), folder / "clip", 5.0)
    (folder / "index.html").write_text(PAGE)
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=10000",
        "--dump-dom",
        address,
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False).stdout
    assert "shows 64x48 10" in shown
