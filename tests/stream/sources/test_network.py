"""HTTP streams from a real server that hangs up, stalls, lies, and asks for a password."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import SourceError
from edgead.imaging import Image, silence_opencv
from edgead.stream.frame import Frame
from edgead.stream.sources.registry import source_from_uri

from ...stalls import Stalls
from ..fakes import SOURCE_OPTIONS, plain
from ..servers import MjpegRequest, at_pace, jpeg, mjpeg_camera, part

pytestmark = pytest.mark.usefixtures("ahead_of_other_work")
FPS = 25.0


def picture(number: int) -> bytes:
    """A picture whose brightness is its number."""
    return part(jpeg(plain(10 + number % 200)))


def number_of(frame: Frame) -> int:
    return round(float(frame.image.mean())) - 10


def serve_paced(request: MjpegRequest, connection: int, n_frames: int = 60) -> None:
    request.begin()
    for number in at_pace(FPS, n_frames):
        request.send(picture(number))


def test_stream_is_taken_up_again_after_a_disconnect(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Frames of both connections come, then the budget is spent; no text shows the password."""

    def serve(request: MjpegRequest, connection: int) -> None:
        if connection < 2:
            serve_paced(request, connection, n_frames=10)
        else:
            request.send_error(503)

    frames: list[Frame] = []
    with mjpeg_camera(serve, user="operator", password="s3cret") as (place, logins):
        # without a limit on their age: a pause of the machine must not make frames old
        options = replace(SOURCE_OPTIONS, max_frame_age_s=0)
        source = source_from_uri(f"http://operator:s3cret@{place}/video.mjpg", options)
        with source, pytest.raises(SourceError, match="was lost") as caught:
            frames.extend(source.frames(threading.Event()))
    assert 10 <= len(frames) <= 20
    assert sum(number_of(frame) == 8 for frame in frames) == 2
    assert frames[0].image.shape == (48, 64, 3)
    assert source.report.restarts == SOURCE_OPTIONS.max_restarts
    assert any(login.startswith("Basic ") for login in logins)
    texts = [caught.value.message, caught.value.hint, repr(source), source.name, frames[0].source, caplog.text]
    texts += [repr(source.report)]
    assert not [text for text in texts if "s3cret" in text]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_unreachable_url_says_what_to_check(scheme: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An unreachable URL raises a retryable error with the redacted address and a hint."""
    source = source_from_uri(f"{scheme}://operator:secret@127.0.0.1:9/live", SOURCE_OPTIONS)
    with pytest.raises(SourceError, match=r"\*\*\*@127\.0\.0\.1:9/live cannot be opened") as caught:
        source.__enter__()
    assert caught.value.retryable
    assert "secret" not in caught.value.message + caught.value.hint
    assert capfd.readouterr().err == ""


def test_silent_server_hits_the_open_limit() -> None:
    """A server that accepts and says nothing is given up after the time limit."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = source_from_uri(
            f"http://127.0.0.1:{listener.getsockname()[1]}/",
            replace(SOURCE_OPTIONS, open_timeout_s=0.8, read_timeout_s=0.8),
        )
        start = time.monotonic()
        with pytest.raises(SourceError, match="cannot be opened"):
            source.__enter__()
        assert time.monotonic() - start < 15


def test_a_server_that_stops_sending_hits_the_read_limit() -> None:
    """A connection that stays open without pictures is left after the read limit."""
    leave = threading.Event()

    def serve(request: MjpegRequest, connection: int) -> None:
        if connection == 0:
            serve_paced(request, connection, n_frames=15)
            leave.wait(60)
        else:
            request.send_error(503)

    options = replace(SOURCE_OPTIONS, read_timeout_s=0.4, max_restarts=1)
    try:
        with mjpeg_camera(serve) as (place, _):
            source = source_from_uri(f"http://{place}/", options)
            start = time.monotonic()
            with source, pytest.raises(SourceError, match="was lost"):
                list(source.frames(threading.Event()))
            assert time.monotonic() - start < 15 / FPS + 20
            leave.set()
    finally:
        leave.set()


def test_a_web_page_is_no_camera() -> None:
    """An answer that is no video is refused as such within the limit."""

    def serve(request: MjpegRequest, connection: int) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/html")
        request.end_headers()
        request.send(b"<html>please log in</html>" * 100)

    with mjpeg_camera(serve) as (place, _), pytest.raises(SourceError, match="cannot be opened"):
        source_from_uri(f"http://{place}/", SOURCE_OPTIONS).__enter__()


def test_a_wrong_password_is_refused_without_being_shown() -> None:
    """401 is no video, and the error shows neither user nor password."""
    with mjpeg_camera(serve_paced, user="operator", password="right") as (place, logins):
        source = source_from_uri(f"http://operator:wr0ng@{place}/", SOURCE_OPTIONS)
        with pytest.raises(SourceError, match="cannot be opened") as caught:
            source.__enter__()
    assert logins
    assert "wr0ng" not in caught.value.message + caught.value.hint
    assert "operator" not in caught.value.message
    assert "Check user and password" in caught.value.hint


def test_a_camera_that_is_retried_says_what_to_check() -> None:
    """The state of a source that is tried again has the advice too: of several cameras nothing else is shown."""
    with mjpeg_camera(serve_paced, user="operator", password="right") as (place, _):
        options = replace(SOURCE_OPTIONS, give_up=False)
        with source_from_uri(f"http://operator:wr0ng@{place}/", options) as source:
            state = source.report.state
    assert state is not None
    assert "HTTP status 401" in state.last_error
    assert "Check user and password in the address" in state.last_error


def noisy(number: int) -> Image:
    """A picture with detail everywhere, brighter with its number."""
    noise = np.random.default_rng(0).integers(60, 160, (12, 16, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(noise, (640, 480)) + np.uint8(number), np.uint8)


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.98])
def test_half_a_picture_is_not_shown(kept: float, says_length: bool) -> None:
    """Truncated images are dropped and counted, with or without a length header; all whole ones are delivered."""

    def serve(request: MjpegRequest, connection: int) -> None:
        request.begin()
        for number in at_pace(100.0, 40):
            content = jpeg(noisy(number))
            content = content[: int(len(content) * kept)] if number % 10 == 5 else content
            head = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"
            request.send(part(content) if says_length else head + content + b"\r\n")

    with mjpeg_camera(serve) as (place, _):
        with source_from_uri(f"http://{place}/", replace(SOURCE_OPTIONS, max_frame_age_s=0)) as source:
            frames = list(islice(source.frames(threading.Event()), 30))
    means = [float(frame.image.mean()) for frame in frames]
    whole = [float(noisy(number).mean()) for number in range(40) if number % 10 != 5][:30]
    assert means == pytest.approx(whole, abs=0.4)
    assert source.report.damaged_frames == 3


@pytest.mark.parametrize("boundary", ["frame", "--frame", '"frame"'])
def test_boundaries_are_read_as_cameras_write_them(boundary: str) -> None:
    """With dashes, in quotes or plain, with or without a preamble: the pictures come."""

    def serve(request: MjpegRequest, connection: int) -> None:
        request.send_response(200)
        request.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={boundary}")
        request.end_headers()
        request.send(b"\r\n")
        for number in at_pace(FPS, 20):
            request.send(picture(number))

    # a machine that pauses would skip frames that have become old
    options = replace(SOURCE_OPTIONS, max_frame_age_s=0)
    with mjpeg_camera(serve) as (place, _), source_from_uri(f"http://{place}/", options) as source:
        numbers = [number_of(frame) for frame in islice(source.frames(threading.Event()), 3)]
    assert numbers == [0, 1, 2]


def test_a_boundary_inside_a_picture_is_no_boundary() -> None:
    """A picture whose length is said is taken whole, whatever its bytes happen to be."""
    whole = jpeg(plain(50))
    comment = b"\r\n--frame"
    odd = whole[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + whole[2:]

    def serve(request: MjpegRequest, connection: int) -> None:
        request.begin()
        for _ in at_pace(FPS, 20):
            request.send(part(odd))

    with mjpeg_camera(serve) as (place, _), source_from_uri(f"http://{place}/", SOURCE_OPTIONS) as source:
        assert len(list(islice(source.frames(threading.Event()), 5))) == 5
        assert source.report.damaged_frames == 0


@given(password=st.text(st.characters(codec="latin-1", exclude_categories=("C",)), min_size=1, max_size=20))
@settings(max_examples=10)
def test_any_password_reaches_the_server(password: str) -> None:
    """User and password arrive as they are, escaped in the URL."""
    place = f"operator:{quote(password, safe='')}@"

    def serve(request: MjpegRequest, connection: int) -> None:
        request.begin()
        request.send(picture(0))

    with mjpeg_camera(serve, user="operator", password=password) as (address, _):
        with source_from_uri(f"http://{place}{address}/", SOURCE_OPTIONS):
            pass


def test_a_video_file_behind_a_url_is_played_to_its_end(tmp_path: Path) -> None:
    """A URL that is not MJPEG goes to FFmpeg, which delivers every frame of a file before the source ends."""
    silence_opencv()
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
    for number in range(30):
        writer.write(plain(number * 5))
    writer.release()
    content = (tmp_path / "a.mp4").read_bytes()

    def serve(request: MjpegRequest, connection: int) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.send(content)

    with mjpeg_camera(serve) as (place, _), source_from_uri(f"http://{place}/a.mp4", SOURCE_OPTIONS) as source:
        assert len(list(source.frames(threading.Event()))) == 30


def test_pictures_of_before_a_pause_are_not_shown_after_it() -> None:
    """A server that was held up sends what it had kept: the newest is shown, none that is older than allowed."""
    sent_s: dict[int, float] = {}

    def serve(request: MjpegRequest, connection: int) -> None:
        request.begin()
        kept = b""
        for number in at_pace(FPS, 190):
            sent_s[number] = time.monotonic()
            kept += picture(number)
            if not 15 <= number < 45:  # 1.2 s without a picture, and then all of them at once
                request.send(kept)
                kept = b""

    options = replace(SOURCE_OPTIONS, max_frame_age_s=0.5)
    with mjpeg_camera(serve) as (place, _), Stalls() as stalls:
        with source_from_uri(f"http://{place}/", options) as source:
            ages = {}
            for frame in source.frames(threading.Event()):
                number, now_s = number_of(frame), time.monotonic()
                ages[number] = now_s - sent_s[number] - stalls.lost_s(sent_s[number], now_s)
                if number >= 60:
                    break
    assert max(ages.values()) < options.max_frame_age_s + 0.15
    assert source.report.restarts == 0


@pytest.mark.parametrize("gap_s", [0.0, 0.004])
def test_of_each_burst_the_newest_frame_is_shown(gap_s: float) -> None:
    """A network that holds frames back and delivers five at once shows the last of them, and the others count as stale."""
    sent_s: dict[int, float] = {}

    def serve(request: MjpegRequest, connection: int) -> None:
        request.begin()
        for number in at_pace(FPS, 190):
            sent_s[number] = time.monotonic()
            if number % 5 == 4:
                for held in range(number - 4, number + 1):
                    request.send(picture(held))
                    time.sleep(gap_s)

    with mjpeg_camera(serve) as (place, _), Stalls() as stalls:
        with source_from_uri(f"http://{place}/", SOURCE_OPTIONS) as source:
            frames = list(islice(source.frames(threading.Event()), 12))
    numbers = [number_of(frame) for frame in frames]
    # a busy machine may tear a burst apart, and one that pauses does so to more of them
    n_torn = 1 + round(2 * stalls.lost_s() / 0.2)
    assert sum(number % 5 == 4 for number in numbers[2:]) >= 10 - n_torn
    assert source.report.stale_frames >= 40 - 4 * n_torn
    taken = [(sent_s[number], frame.captured_at_s) for frame, number in zip(frames, numbers, strict=True)]
    assert max(at_s - sent - stalls.lost_s(sent, at_s) for sent, at_s in taken) < 0.2


def test_an_image_address_is_asked_again_and_again() -> None:
    """An address that answers with one image is a camera: it is polled at the set rate, with its login, and never ends."""
    asked_s: list[float] = []

    def serve(request: MjpegRequest, connection: int) -> None:
        asked_s.append(time.monotonic())
        content = jpeg(plain(10 + len(asked_s)))
        request.send_response(200)
        request.send_header("Content-Type", kinds[len(asked_s) % len(kinds)])
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.send(content)

    kinds = ["image/jpeg"]
    options = replace(SOURCE_OPTIONS, snapshot_fps=20.0)
    with mjpeg_camera(serve, user="operator", password="s3cret") as (place, _):
        with source_from_uri(f"http://operator:s3cret@{place}/snap.jpg", options) as source:
            frames = list(islice(source.frames(threading.Event()), 8))
            assert source.fps == 20.0
    assert [number_of(frame) for frame in frames] == list(range(1, 9))
    # the middle one: a pause of the machine makes one of them long
    assert np.median(np.diff(asked_s[:8])) == pytest.approx(0.05, abs=0.04)
    # cheap cameras do not say that it is an image
    asked_s.clear()
    kinds = ["application/octet-stream", "text/plain"]
    with mjpeg_camera(serve) as (place, _), source_from_uri(f"http://{place}/snap", options) as source:
        assert len(list(islice(source.frames(threading.Event()), 3))) == 3


def test_an_image_address_that_fails_is_lost_and_found() -> None:
    """An error or half an image is a loss with its reason, and the polling goes on afterwards."""
    n_asked = 0

    def serve(request: MjpegRequest, connection: int) -> None:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 4:
            request.send_error(503)
            return
        content = jpeg(noisy(n_asked))
        request.send_response(200)
        request.send_header("Content-Type", "image/jpeg")
        request.end_headers()
        request.send(content[: len(content) // 2] if n_asked == 7 else content)

    options = replace(SOURCE_OPTIONS, snapshot_fps=20.0, max_restarts=5)
    errors = []
    with mjpeg_camera(serve) as (place, _), source_from_uri(f"http://{place}/snap.jpg", options) as source:
        for frame in islice(source.frames(threading.Event()), 8):
            assert frame.image.shape == (480, 640, 3)
            errors.append(source.state.last_error)  # type: ignore[attr-defined]
    assert source.report.restarts == 2
    assert "HTTP status 503" in " ".join(errors)
    assert "no whole image" in errors[-1]
