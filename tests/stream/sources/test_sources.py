"""Files, folders, cameras and synthetic parts as sources, with everything that can be wrong with them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.errors import ShapeError, SourceError
from edgead.imaging import png_from_rgb, silence_opencv, usual_reading
from edgead.stream.frame import Frame
from edgead.stream.pipeline import run_stream
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.source import Source
from edgead.stream.sources.video import VideoSource

from ..fakes import OPTIONS, SOURCE_OPTIONS, CollectingConsumer, camera, plain, scorer
from ..servers import ROOT, needs_gstreamer


def write_video(path: Path, n_frames: int, codec: str, fps: float = 12.5) -> None:
    silence_opencv()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    for index in range(n_frames):
        writer.write(plain(index * 5))
    writer.release()


def read_all(source: Source) -> list[Frame]:
    with source:
        return list(source.frames(threading.Event()))


def test_video_gives_every_frame_in_order(tmp_path: Path) -> None:
    """A whole video: every frame, its exact frame rate, nothing missing."""
    write_video(tmp_path / "a.mp4", 40, "mp4v")
    source = source_from_uri(str(tmp_path / "a.mp4"), SOURCE_OPTIONS)
    frames = read_all(source)
    assert [frame.index for frame in frames] == list(range(40))
    means = [float(frame.image.mean()) for frame in frames]
    assert means == pytest.approx([index * 5 for index in range(40)], abs=4)
    assert source.fps == 12.5
    assert not source.live
    assert source.report.missing_frames == 0


def write_uneven_video(path: Path, times_ms: list[int], muxer: str) -> None:
    """A video whose frames have these times, with GStreamer: OpenCV writes even ones only.

    In a process of its own: encoders bring a second OpenMP into it, which torch does not bear.
    """
    code = f"""
from edgead.stream.sources.gst_binding import gstreamer
gst = gstreamer()
pipeline = gst.parse_launch(
    "appsrc name=frames format=time caps=video/x-raw,format=GRAY8,width=64,height=48,framerate=0/1 ! videoconvert ! "
    "x264enc tune=zerolatency ! h264parse ! {muxer} ! filesink location={path}"
)
pipeline.set_state(gst.State.PLAYING)
for time_ms in {times_ms}:
    buffer = gst.Buffer.new_wrapped(bytes([100]) * 64 * 48)
    buffer.pts, buffer.duration = time_ms * gst.MSECOND, 40 * gst.MSECOND
    pipeline.get_by_name("frames").emit("push-buffer", buffer)
pipeline.get_by_name("frames").emit("end-of-stream")
pipeline.get_bus().timed_pop_filtered(10 * gst.SECOND, gst.MessageType.EOS | gst.MessageType.ERROR)
pipeline.set_state(gst.State.NULL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)


@needs_gstreamer
def test_a_video_begins_again_at_its_end(tmp_path: Path) -> None:
    """With `loop` the frames go on from the first one, and so do their numbers and times."""
    write_video(tmp_path / "a.mp4", 5, "mp4v")
    source, stop = source_from_uri(str(tmp_path / "a.mp4"), replace(SOURCE_OPTIONS, loop=True)), threading.Event()
    frames = []
    with source:
        for frame in source.frames(stop):
            frames.append(frame)
            if len(frames) == 13:
                stop.set()
    assert [frame.index for frame in frames] == list(range(13))
    assert np.array_equal(frames[0].image, frames[5].image)
    assert not np.array_equal(frames[0].image, frames[1].image)
    steps = np.diff([frame.time_s for frame in frames])
    assert steps == pytest.approx(np.full(12, steps[0]), abs=1e-3)
    assert source.report.missing_frames == 0


@pytest.mark.parametrize(("suffix", "muxer"), [("mkv", "matroskamux"), ("mp4", "mp4mux"), ("ts", "mpegtsmux")])
def test_times_of_a_video_come_from_its_container(tmp_path: Path, suffix: str, muxer: str) -> None:
    """Frames of a variable frame rate have the times at which they were taken, and none counts as missing."""
    times_ms = [0, 40, 80, 1080, 1120, 3120, 3160, 3200]
    write_uneven_video(tmp_path / f"a.{suffix}", times_ms, muxer)
    source = source_from_uri(str(tmp_path / f"a.{suffix}"), SOURCE_OPTIONS)
    consumer = CollectingConsumer()
    run_stream([camera(source)], scorer(), [consumer], OPTIONS, stop=threading.Event())
    found = [result.time_s for result in consumer.results]
    assert len(found) >= 7
    assert found == pytest.approx([time_ms / 1e3 for time_ms in times_ms[: len(found)]], abs=0.002)
    assert source.report.missing_frames == 0


def test_times_of_a_video_without_times_follow_the_rate(tmp_path: Path) -> None:
    """Where the container's times stand still, a frame comes one interval after the one before."""

    class NoTimes:
        def __init__(self) -> None:
            self.n_left = 4

        def read(self) -> tuple[bool, np.ndarray]:  # type: ignore[type-arg]
            self.n_left -= 1
            return self.n_left >= 0, plain(0)

        def get(self, property_id: int, /) -> float:
            return 10.0 if property_id == cv2.CAP_PROP_FPS else 0.0

        def release(self) -> None:
            return

    source = VideoSource(tmp_path / "a.h264")
    source._capture, source.fps = NoTimes(), 10.0
    times = [frame.time_s for frame in source.frames(threading.Event())]
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_video_that_cannot_be_decoded_names_its_codec() -> None:
    """A file that opens and gives no frame is an error with the codec's name, and not a stream without alerts."""
    with pytest.raises(SourceError, match="AV01") as caught:
        read_all(source_from_uri(str(ROOT / "tests" / "fixtures" / "av1.mp4"), SOURCE_OPTIONS))
    assert "ffmpeg" in caught.value.hint


def test_truncated_video_says_how_many_frames_are_missing(tmp_path: Path) -> None:
    """A video cut in the middle ends early without an error, and the missing frames are counted."""
    write_video(tmp_path / "a.avi", 40, "MJPG")
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: len(content) // 2])
    source = source_from_uri(str(tmp_path / "a.avi"), SOURCE_OPTIONS)
    frames = read_all(source)
    assert 0 < len(frames) < 40
    assert source.report.missing_frames == 40 - len(frames)


@pytest.mark.parametrize("damage", ["truncated", "junk", "empty"])
def test_unreadable_video_is_named(tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An mp4 without its index, a text and an empty file are refused with the file's name and a way on, quietly."""
    path = tmp_path / "a.mp4"
    write_video(path, 40, "mp4v")
    content = {"truncated": path.read_bytes()[:2000], "junk": b"hello" * 100, "empty": b""}[damage]
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.mp4 is not a video that can be read") as caught:
        read_all(source_from_uri(str(path), SOURCE_OPTIONS))
    assert caught.value.hint
    assert capfd.readouterr().err == ""


def test_stop_ends_a_video(tmp_path: Path) -> None:
    """A set stop event ends the frames after the one in hand."""
    write_video(tmp_path / "a.mp4", 40, "mp4v")
    stop = threading.Event()
    with source_from_uri(str(tmp_path / "a.mp4"), SOURCE_OPTIONS) as source:
        frames = source.frames(stop)
        next(frames)
        stop.set()
        assert list(frames) == []


def test_folder_skips_and_names_a_broken_picture(tmp_path: Path) -> None:
    """Pictures come sorted and as RGB; a broken one is skipped, named, and leaves a gap in the numbers."""
    for name, value in [("b.png", 20), ("a.png", 10), ("d.jpg", 40)]:
        cv2.imwrite(str(tmp_path / name), plain(value))
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    blue = plain(0)
    blue[:, :, 2] = 200
    (tmp_path / "e.png").write_bytes(png_from_rgb(blue))
    (tmp_path / "notes.txt").write_text("no picture")
    source = source_from_uri(str(tmp_path), SOURCE_OPTIONS)
    frames = read_all(source)
    assert [(frame.index, Path(frame.source).name) for frame in frames] == [
        (0, "a.png"),
        (1, "b.png"),
        (3, "d.jpg"),
        (4, "e.png"),
    ]
    assert source.report.broken == [str(tmp_path / "c.png")]
    assert np.array_equal(frames[-1].image, blue)
    assert source.fps == SOURCE_OPTIONS.folder_fps


def test_16_bit_pictures_use_the_white_level(tmp_path: Path) -> None:
    """A 12-bit camera's pictures are scaled by the bundle's white level, as in training."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64), 4095, np.uint16))
    from dataclasses import replace

    frames = read_all(
        source_from_uri(str(tmp_path), replace(SOURCE_OPTIONS, reading={**usual_reading(), "white_level": 4095}))
    )
    assert frames[0].image.min() == 255


@pytest.mark.parametrize("content", [{}, {"a.png": b"junk", "b.png": b""}])
def test_folder_without_a_readable_picture_is_an_error(tmp_path: Path, content: dict[str, bytes]) -> None:
    """An empty folder and one with broken pictures only are refused by name."""
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=str(tmp_path)):
        read_all(source_from_uri(str(tmp_path), SOURCE_OPTIONS))


def test_a_single_picture_is_a_source(tmp_path: Path) -> None:
    """A picture's own path gives one frame."""
    cv2.imwrite(str(tmp_path / "a.png"), plain(10))
    assert len(read_all(source_from_uri(str(tmp_path / "a.png"), SOURCE_OPTIONS))) == 1


def test_synthetic_parts_are_a_source() -> None:
    """`synthetic` streams the first part, `synthetic:PART` that part; an unknown one is refused with the list."""
    source = source_from_uri("synthetic:disc", SOURCE_OPTIONS)
    assert source.name == "synthetic:disc"
    with source:
        frame = next(iter(source.frames(threading.Event())))
    assert frame.image.shape[2] == 3
    assert source_from_uri("synthetic", SOURCE_OPTIONS).name.startswith("synthetic:")
    with pytest.raises(SourceError, match="disc"):
        source_from_uri("synthetic:teapot", SOURCE_OPTIONS)


@pytest.mark.parametrize(
    "uri",
    ["missing.mp4", "ftp://host/a.mp4", "file:///nowhere/a.mp4", "camera:one", "csi:one", "watch:", "watch:/nowhere"],
)
def test_what_is_no_source_is_refused(uri: str) -> None:
    """A missing file or folder, an unknown scheme and a bad camera number say what is allowed."""
    with pytest.raises(SourceError) as caught:
        source_from_uri(uri, SOURCE_OPTIONS)
    assert caught.value.hint


@pytest.mark.skipif(any(Path("/dev").glob("video*")), reason="this machine has a video device")
def test_no_camera_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    """Without any camera the error says that nothing was found and how to list cameras, and OpenCV stays quiet."""
    with pytest.raises(SourceError, match=r"no camera 0.*no /dev/video") as caught:
        read_all(source_from_uri("camera:0", SOURCE_OPTIONS))
    assert "v4l2-ctl --list-devices" in caught.value.hint
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (0, 4, 3)])
def test_a_frame_is_a_colour_picture(shape: tuple[int, ...]) -> None:
    """Anything but a non-empty `(H, W, 3)` is refused where it enters the stream."""
    with pytest.raises(ShapeError):
        Frame(np.zeros(shape, np.uint8), 0, 0.0, "x")


def test_copied_video_under_an_odd_name_opens(tmp_path: Path) -> None:
    """Spaces, percent signs and umlauts in a path are no pattern for OpenCV."""
    write_video(tmp_path / "a.mp4", 5, "mp4v")
    odd = tmp_path / "Linie 3 %04d ä.mp4"
    shutil.copy(tmp_path / "a.mp4", odd)
    assert len(read_all(source_from_uri(str(odd), SOURCE_OPTIONS))) == 5
