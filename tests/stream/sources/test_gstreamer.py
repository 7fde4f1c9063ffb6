"""Pipelines of GStreamer: launch lines on real elements, and a Jetson's elements as stand-ins around software ones."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from edgead.errors import MissingDependencyError, SourceError
from edgead.stream.frame import Frame
from edgead.stream.sources.camera_format import CameraFormat, parse_camera_format
from edgead.stream.sources.gst_binding import make_element
from edgead.stream.sources.gst_pipelines import Element, csi_camera, decoding, rtsp_source, to_frames
from edgead.stream.sources.registry import source_from_uri

from ...stalls import Stalls
from ..fakes import SOURCE_OPTIONS
from ..servers import ROOT, needs_gstreamer

BARS = "gst:videotestsrc is-live=true pattern=red ! video/x-raw,width=66,height=50,framerate=50/1"
SOFTWARE = {"rtph264depay", "rtph265depay", "rtpjpegdepay", "h264parse", "avdec_h264", "jpegdec"}
JETSON = SOFTWARE | {"nvv4l2decoder", "nvvidconv", "nvarguscamerasrc", "h265parse"}


def names(elements: tuple[Element, ...] | None) -> list[str]:
    assert elements is not None
    return [element.factory for element in elements]


def refused(uri: str) -> tuple[str, str]:
    """The error of an opening; what it held on to is free afterwards."""
    try:
        source_from_uri(uri, replace(SOURCE_OPTIONS, open_timeout_s=1.0)).__enter__()
    except SourceError as error:
        return error.message, error.hint
    raise AssertionError("it opened")


def frames_of(uri: str, n_frames: int, **changes: object) -> list[Frame]:
    with source_from_uri(uri, replace(SOURCE_OPTIONS, **changes)) as source:  # type: ignore[arg-type]
        return list(islice(source.frames(threading.Event()), n_frames))


def test_hardware_is_taken_where_it_is() -> None:
    """On a Jetson NVIDIA's decoder comes first, elsewhere one of the software decoders; an unknown codec has none."""
    assert names(decoding("H264", JETSON.__contains__)) == ["rtph264depay", "h264parse", "nvv4l2decoder"]
    assert names(decoding("H265", JETSON.__contains__)) == ["rtph265depay", "h265parse", "nvv4l2decoder"]
    assert names(decoding("h264", SOFTWARE.__contains__)) == ["rtph264depay", "h264parse", "avdec_h264"]
    without_parser = (SOFTWARE - {"h264parse", "avdec_h264"}) | {"openh264dec"}
    assert names(decoding("H264", without_parser.__contains__)) == ["rtph264depay", "openh264dec"]
    assert names(decoding("JPEG", SOFTWARE.__contains__)) == ["rtpjpegdepay", "jpegdec"]
    assert names(decoding("JPEG", JETSON.__contains__)) == ["rtpjpegdepay", "jpegdec"]
    half_a_jetson = JETSON - {"nvvidconv"}
    assert names(decoding("H264", half_a_jetson.__contains__))[-1] == "avdec_h264"
    assert decoding("H265", SOFTWARE.__contains__) is None
    assert decoding("VP8", JETSON.__contains__) is None
    assert "nvvidconv" in names(to_frames(in_hardware=True, is_live=True))
    assert "nvvidconv" not in names(to_frames(in_hardware=False, is_live=True))


def test_a_csi_camera_is_asked_for_its_format() -> None:
    """Size and rate go to the sensor, the flip to the converter, and what is left open is left to the driver."""
    elements = csi_camera(1, parse_camera_format("1920x1080@29.97"), 2)
    assert names(elements)[:3] == ["nvarguscamerasrc", "capsfilter", "nvvidconv"]
    assert elements[0].properties == {"sensor-id": 1}
    assert elements[1].properties["caps"] == (
        "video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=29970/1000"
    )
    assert elements[2].properties == {"flip-method": 2}
    assert csi_camera(0, CameraFormat(), 0)[1].properties["caps"] == "video/x-raw(memory:NVMM),format=NV12"


def test_latency_and_transport_reach_the_camera_element() -> None:
    """The options become properties of the element; a URL without credentials sets none."""
    found = rtsp_source("rtsp://cam/live", replace(SOURCE_OPTIONS, rtsp_latency_ms=50, rtsp_transport="udp")).properties
    assert (found["latency"], found["protocols"], found["location"]) == (50, "udp", "rtsp://cam/live")
    assert "user-id" not in found


@needs_gstreamer
def test_a_launch_line_gives_frames() -> None:
    """A line in GStreamer's words becomes RGB frames of its own size, also one whose rows are padded."""
    with Stalls() as stalls:
        frames = frames_of(BARS, 5)
    assert [frame.source for frame in frames] == ["gst:videotestsrc …"] * 5
    assert frames[0].image.shape == (50, 66, 3)
    assert frames[0].image[20:30, 20:30].mean(axis=(0, 1)) == pytest.approx([255, 0, 0], abs=6)
    assert np.ptp(frames[0].image, axis=(0, 1)).max() <= 6, "padding at the end of rows would show"
    first_s, last_s = frames[0].captured_at_s, frames[-1].captured_at_s
    assert last_s - first_s - stalls.lost_s(first_s, last_s) < 0.5


@needs_gstreamer
def test_only_the_newest_frame_waits() -> None:
    """Who looks away for a while gets the frame of now, not those in between."""
    line = BARS.replace("pattern=red", "pattern=ball")
    with source_from_uri(line, SOURCE_OPTIONS) as source, Stalls() as stalls:
        frames = source.frames(threading.Event())
        next(frames)
        time.sleep(0.5)
        first, now_s = next(frames), time.monotonic()
        assert now_s - first.captured_at_s - stalls.lost_s(first.captured_at_s, now_s) < 0.2
        assert source.fps == 50.0


@needs_gstreamer
def test_a_line_that_is_no_camera_is_read_to_its_end() -> None:
    """A finite line keeps its own pace, loses nothing but the unsure first frames, and ends."""
    line = "gst:videotestsrc num-buffers=20 ! video/x-raw,width=64,height=48,framerate=50/1"
    with source_from_uri(line, SOURCE_OPTIONS) as source:
        assert 14 <= len(list(source.frames(threading.Event()))) <= 18
        assert source.report.restarts == 0


@needs_gstreamer
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("videotestsrc is-live=true ! nosuchelement key=hunter2", "nosuchelement"),
        ("videotestsrc pattern=hunter2", "pattern"),
        ("videotestsrc nosuch=hunter2", "nosuch"),
        ("videotestsrc ! fakesink", "could not link"),
        ("videotestsrc ! ! hunter2", "launch line"),
        ("audiotestsrc is-live=true", "cannot be opened|cannot connect"),
        ("filesrc location=/nowhere/hunter2.mp4 ! decodebin", "cannot be opened"),
    ],
)
def test_a_wrong_line_says_what_is_wrong(line: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Unknown elements and properties, a sink, no pictures: a SourceError that shows no value, and nothing on stderr."""
    message, hint = refused(f"gst:{line}")
    assert re.search(said, message), message
    assert message.startswith("gst:")
    assert "hunter2" not in message + hint
    gc.collect()
    assert capfd.readouterr().err == "", "GStreamer complains about pipelines that were not shut down"


@needs_gstreamer
def test_a_failing_pipeline_says_why() -> None:
    """An error in the middle of a running pipeline ends the connection with GStreamer's own reason."""
    line = "gst:videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=50/1 ! identity error-after=8"
    with source_from_uri(line, replace(SOURCE_OPTIONS, max_restarts=0)) as source:
        with pytest.raises(SourceError, match="was lost") as caught:
            list(source.frames(threading.Event()))
    assert "Failed after iterations as requested" in caught.value.message


@needs_gstreamer
def test_pipelines_leave_nothing_behind() -> None:
    """Opening and closing twenty times leaves no thread and no file open."""
    frames_of(BARS, 1)
    gc.collect()
    before = (threading.active_count(), len(list(Path("/proc/self/fd").iterdir())))
    for _ in range(20):
        with source_from_uri(BARS, SOURCE_OPTIONS):
            pass
    gc.collect()
    assert threading.active_count() == before[0]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before[1] + 2


@needs_gstreamer
def test_csi_without_a_jetson_says_so() -> None:
    """A computer without NVIDIA's elements names them and the package that brings them."""
    with pytest.raises(SourceError, match="no nvarguscamerasrc and no nvvidconv") as caught:
        source_from_uri("csi:0", SOURCE_OPTIONS).__enter__()
    assert "nvidia-l4t-camera" in caught.value.hint


@needs_gstreamer
def test_properties_that_do_not_exist_are_refused_and_optional_ones_are_not() -> None:
    """A property that must be there is named; one that only some versions have is left out."""
    with pytest.raises(SourceError, match="queue has no property nosuch"):
        make_element(Element("queue", {"nosuch": 1}))
    assert make_element(Element("queue", optional={"nosuch": 1})) is not None
    with pytest.raises(SourceError, match="no element nosuchelement"):
        make_element(Element("nosuchelement"))


def test_without_the_binding_the_error_says_how_to_get_it() -> None:
    """Where `gi` cannot be imported, a pipeline is refused with the way to install it, and RTSP goes through FFmpeg."""
    code = """
import sys
sys.modules["gi"] = None
from edgead.errors import MissingDependencyError
from edgead.stream.sources.gst_binding import decodes_in_hardware, decodes_rtsp
from edgead.stream.sources.registry import source_from_uri
from tests.stream.fakes import SOURCE_OPTIONS
assert not decodes_in_hardware() and not decodes_rtsp()
for uri in ("csi:0", "gst:videotestsrc"):
    try:
        source_from_uri(uri, SOURCE_OPTIONS).__enter__()
    except MissingDependencyError as error:
        print(error.message, error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'gi', which is not installed") == 2
    assert "--system-site-packages" in done.stdout
    assert issubclass(MissingDependencyError, Exception)


@needs_gstreamer
def test_the_pipelines_of_a_jetson_run_on_stand_ins() -> None:
    """With NVIDIA's elements played by software ones that demand and give NVMM memory, CSI and RTSP give frames.

    It shows that the pipelines fit together, and nothing of NVIDIA's own elements.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.stream.jetson_stand_ins"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["csi (720, 1280, 3) 25.0 sensor 1 flip 2", "rtsp (320, 320, 3) nvv4l2decoder"]
