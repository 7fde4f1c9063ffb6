"""FFmpeg in a process of its own: what it says about damage, and that it can be ended at any time."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import SourceError
from edgead.stream.sources.capture import VideoRefused, open_url_capture
from edgead.stream.sources.ffmpeg_worker import DamageWatch, damage_of

from ..fakes import plain
from ..servers import MjpegRequest, at_pace, jpeg, mjpeg_camera, part

AV1 = Path(__file__).parents[2] / "fixtures" / "av1.mp4"


@pytest.mark.parametrize(
    "line",
    [
        "RTP: missed 3 packets", "RTP: PT=60: bad cseq 1c2d expected=1c29", "error while decoding MB 14 10",
        "corrupted macroblock 14 10 (total_coeff=-1)", "negative number of zero coeffs at 18 9",
        "mb_type 1774 in I slice too large at 2 12", "cbp too large (419) at 10 8", "Frame num gap: 5 3",
        "left block unavailable for requested intra4x4 mode -1", "Could not find ref with POC 12",
        "concealing 120 DC, 120 AC, 120 MV errors in P frame", "out of range intra chroma pred mode",
        "Packet corrupt (stream = 0).",
    ],
)  # fmt: skip
def test_damage_is_recognised(line: str) -> None:
    """What FFmpeg says when packets are lost counts as damage."""
    assert damage_of(["max delay reached. need to consume packet", line]) == line


@pytest.mark.parametrize(
    "line",
    [
        "max delay reached. need to consume packet", "Invalid timestamps stream=0, pts=1, dts=2, size=3",
        "SEI type 5 size 2016 truncated at 992", "deprecated pixel format used, make sure you did set range correctly",
        "Non-monotonous DTS in output stream",
    ],
)  # fmt: skip
def test_other_warnings_are_no_damage(line: str) -> None:
    """Warnings about times, metadata and formats, of which some cameras send many, leave frames whole."""
    assert damage_of([line]) == ""


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_frames_are_damaged_until_a_key_frame_without_errors(steps: list[tuple[bool, bool]]) -> None:
    """A frame is whole only if a key frame came after the last error, and none of the frames decoded ahead had one."""
    watch, is_broken, errors = DamageWatch(), False, [False] * DamageWatch.N_AHEAD
    for is_error, is_key in steps:
        if is_error:
            is_broken = True
        elif is_key and not any(errors[-DamageWatch.N_AHEAD :]):
            is_broken = False
        assert bool(watch.see("error while decoding MB 1 1" if is_error else "", is_key)) is is_broken
        errors.append(is_error)


def serve(request: MjpegRequest, connection: int) -> None:
    request.begin()
    for number in at_pace(25.0, 100):
        request.send(part(jpeg(plain(10 + number))))


def children() -> set[int]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return {int(number) for number in path.read_text().split()}


def test_frames_come_from_another_process_that_ends_with_the_capture() -> None:
    """Frames are RGB copies of their own; after the release no process and no descriptor is left."""
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    with mjpeg_camera(serve) as (place, _):
        capture = open_url_capture(f"http://{place}/", open_timeout_s=30.0, read_timeout_s=30.0)
        (process,) = children() - before
        assert os.getsid(process) == process, "signals to our group do not reach it"
        first, second = capture.read()[1], capture.read()[1]
        assert first.shape == (48, 64, 3)
        assert not np.shares_memory(first, second)
        capture.release()
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_process_that_is_gone_or_hangs_is_a_failed_read() -> None:
    """A worker that was killed, or stands still, ends the read within its limit, and the release does not wait for it."""
    for number, read_timeout_s in ((signal.SIGKILL, 60.0), (signal.SIGSTOP, 0.5)):
        before = children()
        with mjpeg_camera(serve) as (place, _):
            capture = open_url_capture(f"http://{place}/", open_timeout_s=30.0, read_timeout_s=read_timeout_s)
            capture.read()
            (process,) = children() - before
            os.kill(process, number)
            start_s = time.monotonic()
            assert not capture.read()[0]
            assert time.monotonic() - start_s < 20
            capture.release()


def test_what_ffmpeg_says_is_passed_on_without_secrets() -> None:
    """The reason of a refused connection is FFmpeg's own, and the password is not in it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(VideoRefused) as caught:
        open_url_capture(f"rtsp://operator:s3cret@127.0.0.1:{port}/live", open_timeout_s=2.0, read_timeout_s=1.0)
    assert "refused" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_codec_that_cannot_be_decoded_is_named() -> None:
    """Video that FFmpeg opens and cannot decode is an error with the codec's name, not a stream without frames."""
    content = AV1.read_bytes()

    def serve_file(request: MjpegRequest, connection: int) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.send(content)

    with mjpeg_camera(serve_file) as (place, _):
        capture = open_url_capture(f"http://{place}/a.mp4", open_timeout_s=30.0, read_timeout_s=30.0)
        with pytest.raises(SourceError, match="AV01"):
            capture.read()
        capture.release()
