"""V4L2 without a camera: the kernel's structures against its own header, and a device that answers from a table.

No camera was at hand and none can be simulated here (no kernel modules), so what a real driver answers is not proven.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import SourceError
from edgead.stream.sources import v4l2
from edgead.stream.sources.camera import CameraDevice, camera_format_of, camera_missing, differs, list_cameras
from edgead.stream.sources.camera_format import (
    CameraFormat,
    CameraMode,
    SizeRange,
    choose_mode,
    describe_modes,
    parse_camera_format,
)
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.v4l2 import device_facts

from ..fakes import SOURCE_OPTIONS

STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "v4l2_capability": v4l2.Capability,
    "v4l2_fmtdesc": v4l2.FormatDescription,
    "v4l2_frmsizeenum": v4l2.FrameSize,
    "v4l2_frmivalenum": v4l2.FrameInterval,
}
# where our field has another name than the kernel's, which puts it into a union
KERNEL_NAMES = {("v4l2_frmsizeenum", "size"): "discrete", ("v4l2_frmivalenum", "interval"): "discrete"}
REQUESTS = ("QUERYCAP", "ENUM_FMT", "ENUM_FRAMESIZES", "ENUM_FRAMEINTERVALS")
HEADER = Path("/usr/include/linux/videodev2.h")


@pytest.mark.skipif(not HEADER.exists() or shutil.which("gcc") is None, reason="needs gcc and the kernel's headers")
def test_structures_are_those_of_the_kernel(tmp_path: Path) -> None:
    """Size, offset of every field and number of every request are what a C compiler finds in linux/videodev2.h."""
    lines, expected = [], []
    for name, structure in STRUCTURES.items():
        lines.append(f'printf("%zu\\n", sizeof(struct {name}));')
        expected.append(ctypes.sizeof(structure))
        for field in structure._fields_:
            kernel = KERNEL_NAMES.get((name, field[0]), field[0])
            lines.append(f'printf("%zu\\n", offsetof(struct {name}, {kernel}));')
            expected.append(getattr(structure, field[0]).offset)
    for request in REQUESTS:
        lines.append(f'printf("%lu\\n", (unsigned long)VIDIOC_{request});')
        expected.append(getattr(v4l2, request))
    code = "#include <stdio.h>\n#include <stddef.h>\n#include <linux/videodev2.h>\nint main(void) {\n"
    (tmp_path / "sizes.c").write_text(code + "\n".join(lines) + "\nreturn 0; }\n")
    subprocess.run(["gcc", "-o", "sizes", "sizes.c"], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True)
    assert [int(line) for line in done.stdout.split()] == expected
    assert len(expected) > 25


def fourcc(letters: str) -> int:
    return int.from_bytes(letters.encode(), "little")


@dataclass
class FakeDevice:
    """Answers the four requests by filling in raw bytes, as the kernel does, from a table of modes."""

    capabilities: int = 0x84200001
    device_caps: int = 0x04200001
    formats: tuple[str, ...] = ("MJPG", "YUYV")
    sizes: tuple[tuple[int, int], ...] = ((1280, 720), (640, 480))
    intervals: tuple[tuple[int, int], ...] = ((1, 30), (1, 15))
    stepwise: bool = False
    refuses: int = 0
    endless: bool = False

    def __call__(self, descriptor: int, request: int, argument: Any) -> None:
        os.fstat(descriptor)
        if self.refuses:
            raise OSError(self.refuses, "refused")
        {
            v4l2.QUERYCAP: self._capability, v4l2.ENUM_FMT: self._format, v4l2.ENUM_FRAMESIZES: self._size,
            v4l2.ENUM_FRAMEINTERVALS: self._interval,
        }[request](argument)  # fmt: skip

    def _capability(self, argument: Any) -> None:
        raw = b"uvcvideo".ljust(16, b"\0") + b"HD Webcam".ljust(32, b"\0") + b"usb-1".ljust(32, b"\0")
        numbers = (0x060100, self.capabilities, self.device_caps, 0, 0, 0)
        raw += b"".join(number.to_bytes(4, "little") for number in numbers)
        ctypes.memmove(ctypes.addressof(argument), raw, len(raw))

    def _format(self, argument: Any) -> None:
        assert argument.type == (1 if (self.device_caps or self.capabilities) & 1 else 9)
        argument.pixelformat = fourcc(self._entry(self.formats, argument.index))

    def _size(self, argument: Any) -> None:
        if self.stepwise:
            assert argument.index == 0
            argument.type = 3
            argument.size[:] = (32, 1920, 2, 16, 1080, 4)
            return
        width, height = self._entry(self.sizes, argument.index)
        argument.type = 1
        argument.size[:2] = (width, height)

    def _interval(self, argument: Any) -> None:
        assert (argument.width, argument.height) in (*self.sizes, (1920, 1080))
        if self.stepwise:
            argument.type = 2
            argument.interval[:4] = (1, 60, 1, 5)
            return
        numerator, denominator = self._entry(self.intervals, argument.index)
        argument.type = 1
        argument.interval[:2] = (numerator, denominator)

    def _entry(self, table: tuple[Any, ...], index: int) -> Any:
        if self.endless:
            return table[0]
        if index >= len(table):
            raise OSError(errno.EINVAL, "no more")
        return table[index]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A file that can be opened like a device."""
    path = tmp_path / "video0"
    path.touch()
    return path


def test_a_camera_tells_what_it_offers(node: Path) -> None:
    """Formats, sizes and rates come in the camera's order, the highest rate first."""
    facts = device_facts(node, FakeDevice())
    assert facts is not None
    assert facts.captures_video
    assert describe_modes(facts.modes) == "MJPG 1280x720@30, 640x480@30; YUYV 1280x720@30, 640x480@30"
    assert facts.modes[0] == CameraMode("MJPG", SizeRange((720, 1280), (720, 1280)), (30.0, 15.0))


def test_ranges_of_sizes_and_rates_are_understood(node: Path) -> None:
    """A driver that scales offers a range in steps, and the usual rates between its slowest and its fastest."""
    facts = device_facts(node, FakeDevice(stepwise=True, formats=("NV12",)))
    assert facts is not None
    (mode,) = facts.modes
    assert mode.sizes == SizeRange((16, 32), (1080, 1920), (4, 2))
    assert (720, 1280) in mode.sizes
    assert (722, 1281) not in mode.sizes
    assert mode.rates == (60.0, 50.0, 30.0, 25.0, 20.0, 15.0, 10.0, 5.0)
    assert describe_modes([mode]) == "NV12 32x16 to 1920x1080@60"


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (FakeDevice(device_caps=0x04A00000), False),  # metadata
        (FakeDevice(capabilities=0x04200001, device_caps=0), True),  # an old driver without capabilities of its own
        (FakeDevice(device_caps=0x04201000, formats=()), True),  # multi-planar
    ],
)
def test_metadata_devices_are_told_from_cameras(node: Path, device: FakeDevice, expected: bool) -> None:
    """The device's own capabilities count, if it reports them, and not those of its driver."""
    facts = device_facts(node, device)
    assert facts is not None
    assert facts.captures_video is expected


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EACCES, errno.EIO, errno.ENODEV])
def test_a_device_that_does_not_answer_is_unknown(node: Path, number: int) -> None:
    """A device that fails to answer gives no facts and leaves no file open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert device_facts(node, FakeDevice(refuses=number)) is None
    assert device_facts(node.with_name("video9"), FakeDevice()) is None
    assert device_facts(node) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_list_without_end_is_cut(node: Path) -> None:
    """Enumeration stops at a limit when a driver repeats its entries without end."""
    facts = device_facts(node, FakeDevice(endless=True, formats=("MJPG",), sizes=((640, 480),), intervals=((1, 30),)))
    assert facts is not None
    assert 0 < len(facts.modes) <= 64 * 64


MODES = (
    CameraMode("YUYV", SizeRange((1080, 1920), (1080, 1920)), (5.0,)),
    CameraMode("YUYV", SizeRange((480, 640), (480, 640)), (30.0, 15.0)),
    CameraMode("MJPG", SizeRange((2160, 3840), (2160, 3840)), (30.0,)),
    CameraMode("MJPG", SizeRange((1080, 1920), (1080, 1920)), (60.0, 30.0)),
    CameraMode("MJPG", SizeRange((480, 640), (480, 640)), (120.0, 30.0)),
)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("MJPG 1920x1080@30", "MJPG 1920x1080@30"),
        ("mjpg 1920x1080", "MJPG 1920x1080@30"),
        ("1920x1080", "MJPG 1920x1080@30"),
        ("1920x1080@5", "YUYV 1920x1080@5"),
        ("YUYV", "YUYV 640x480@30"),
        ("640x480@100", "MJPG 640x480@120"),
        ("@30", "MJPG 1920x1080@30"),
        ("@29.97", "MJPG 1920x1080@30"),
        ("", "MJPG 1920x1080@30"),
        ("  MJPG   3840x2160 @ 30 ", "MJPG 3840x2160@30"),
    ],
)
def test_the_best_mode_is_chosen(wanted: str, chosen: str) -> None:
    """The requested values are kept and completed from the camera's modes."""
    assert str(choose_mode(parse_camera_format(wanted), MODES, "Camera 0")) == chosen


@pytest.mark.parametrize("wanted", ["MJPG 1024x768", "H264", "YUYV 1920x1080@30", "640x480@240"])
def test_what_a_camera_does_not_offer_is_refused_with_its_list(wanted: str) -> None:
    """Another size, format or rate is an error that shows everything the camera has, and no retry mends it."""
    with pytest.raises(SourceError, match=r"Camera 3 does not offer .*MJPG 3840x2160@30, 1920x1080@60") as caught:
        choose_mode(parse_camera_format(wanted), MODES, "Camera 3")
    assert not caught.value.retryable


def test_a_silent_driver_is_asked_as_the_user_says() -> None:
    """Where nothing is listed, what is wanted is set as it is."""
    wanted = parse_camera_format("MJPG 1280x720@30")
    assert choose_mode(wanted, (), "Camera 0") == wanted


@pytest.mark.parametrize("text", ["1280", "1280x", "MJPG1280x720", "toolong 1x1", "@", "0x720", "@0", "MJPG;640x480"])
def test_what_is_no_format_is_refused(text: str) -> None:
    """Half a size, nothing after the @ and zeros say how a format is written."""
    with pytest.raises(SourceError, match="camera_format") as caught:
        parse_camera_format(text)
    assert "MJPG 1280x720@30" in caught.value.hint


@given(st.text(max_size=30))
def test_any_text_is_a_format_or_an_error(text: str) -> None:
    """Nothing else than a SourceError comes of a text, and a format that was read is written as it is read again."""
    try:
        found = parse_camera_format(text)
    except SourceError:
        return
    assert parse_camera_format(str(found) if found != CameraFormat() else "") == found


class GivenCapture:
    """An open camera that says what it gives."""

    def __init__(self, letters: str, size: tuple[int, int], fps: float) -> None:
        self._values = {6: float(fourcc(letters)), 3: size[1], 4: size[0], 5: fps}

    def read(self) -> Any:
        raise NotImplementedError

    def get(self, property_id: int, /) -> float:
        return self._values[property_id]

    def release(self) -> None:
        return


@pytest.mark.parametrize(
    ("asked", "is_other"),
    [
        ("MJPG 1280x720@30", False), ("", False), ("1280x720", False), ("@30", False), ("@29.97", False),
        ("YUYV", True), ("640x480", True), ("@60", True),
    ],
)  # fmt: skip
def test_what_the_camera_gives_is_compared_with_what_was_asked(asked: str, is_other: bool) -> None:
    """Only requested values can differ."""
    given_format = camera_format_of(GivenCapture("MJPG", (720, 1280), 30.0))
    assert str(given_format) == "MJPG 1280x720@30"
    assert differs(given_format, parse_camera_format(asked)) is is_other


def test_cameras_are_listed_with_their_names(tmp_path: Path) -> None:
    """Devices come in the order of their numbers, named by the driver where it says."""
    devices, sysfs = tmp_path / "dev", tmp_path / "sys"
    devices.mkdir()
    for number in (10, 2):
        (devices / f"video{number}").touch()
    (devices / "videocodec").touch()
    (sysfs / "video2").mkdir(parents=True)
    (sysfs / "video2" / "name").write_text("USB Camera\n")
    cameras = list_cameras(devices, sysfs)
    assert [(camera.index, camera.name) for camera in cameras] == [(2, "USB Camera"), (10, "unknown")]


def test_error_for_a_missing_camera_lists_the_others() -> None:
    """The error names the other cameras with what they offer, and says why one that is there may be mute."""
    camera = CameraDevice(2, Path("/dev/video2"), "USB Camera", MODES[1:2])
    metadata = CameraDevice(1, Path("/dev/video1"), "USB Camera", captures_video=False)
    missing = camera_missing(0, [metadata, camera])
    assert "/dev/video2 (USB Camera: YUYV 640x480@30)" in missing.message
    assert "/dev/video1 (USB Camera; gives no pictures)" in missing.message
    assert "--camera 2" in missing.hint
    assert "does not give pictures" in camera_missing(2, [camera]).message
    assert "metadata" in camera_missing(1, [metadata, camera]).message


class _OneFrame:
    """An open camera that fails after three frames."""

    def __init__(self) -> None:
        self._n_left = 5

    def read(self) -> tuple[bool, Any]:
        self._n_left -= 1
        return self._n_left >= 0, np.zeros((4, 4, 3), np.uint8)

    def get(self, property_id: int, /) -> float:
        return 0.0

    def release(self) -> None:
        return


def test_a_camera_by_its_link_is_looked_up_at_each_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that is plugged in again under another number is found by the link that names it."""
    link, opened = tmp_path / "usb-Maker_Cam_1234-video-index0", list[int]()
    link.symlink_to("/dev/video7")

    def open_camera(index: int, asked: CameraFormat, *, read_timeout_s: float) -> _OneFrame:
        opened.append(index)
        link.unlink()
        if len(opened) < 3:
            link.symlink_to(f"/dev/video{7 + len(opened)}")
        return _OneFrame()

    monkeypatch.setattr("edgead.stream.sources.camera.open_camera_capture", open_camera)
    monkeypatch.setattr("edgead.stream.sources.restart.FIRST_DELAY_S", 0.0)
    source = source_from_uri(str(link), replace(SOURCE_OPTIONS, max_restarts=3, max_frame_age_s=0))
    assert source.name == str(link)
    with source, pytest.raises(SourceError, match="that path is not there"):
        list(source.frames(threading.Event()))
    assert opened == [7, 8, 9]


@pytest.mark.parametrize(
    "place",
    [
        "/dev/v4l/by-id/usb-Maker_Cam-video-index0",
        "/dev/v4l/by-path/pci-0-usb-0:2:1.0-video-index0",
        "camera:/dev/line-cam",
    ],
)
def test_a_camera_that_is_not_plugged_in_is_named_by_its_link(place: str) -> None:
    """Links below /dev/v4l are cameras, also while nothing is there, and the error is one that a retry can mend."""
    with pytest.raises(SourceError, match="that path is not there") as caught:
        source_from_uri(place, SOURCE_OPTIONS).__enter__()
    assert caught.value.retryable
    assert place.removeprefix("camera:") in caught.value.message


def test_cameras_are_listed_with_a_lasting_link(tmp_path: Path) -> None:
    """A camera is listed with its link by serial number, one that has none with the link of its port."""
    devices = tmp_path / "dev"
    for folder in ("v4l/by-id", "v4l/by-path"):
        (devices / folder).mkdir(parents=True)
    for number in (0, 2, 4):
        (devices / f"video{number}").touch()
    (devices / "v4l/by-id/usb-A").symlink_to("../../video0")
    (devices / "v4l/by-path/port-1").symlink_to("../../video0")
    (devices / "v4l/by-path/port-2").symlink_to("../../video2")
    cameras = list_cameras(devices, tmp_path / "sys")
    links = [camera.link and camera.link.relative_to(devices) for camera in cameras]
    assert links == [Path("v4l/by-id/usb-A"), Path("v4l/by-path/port-2"), None]
    assert f"= {devices}/v4l/by-id/usb-A" in str(cameras[0])
