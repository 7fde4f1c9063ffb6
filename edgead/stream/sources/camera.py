"""V4L2 cameras."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import cv2

from edgead.errors import SourceError
from edgead.stream.sources.camera_format import (
    CameraFormat,
    CameraMode,
    choose_mode,
    describe_modes,
    parse_camera_format,
)
from edgead.stream.sources.capture import Capture, capture_fps, open_camera_capture
from edgead.stream.sources.live import LiveSource
from edgead.stream.sources.source import SourceOptions
from edgead.stream.sources.v4l2 import device_facts

DEVICES = Path("/dev")
SYSFS = Path("/sys/class/video4linux")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CameraDevice:
    """A video device known to the kernel.

    Attributes:
        index: N of `/dev/videoN`.
        path: Path of the device.
        name: Name reported by the driver.
        modes: Supported modes; empty if they could not be queried.
        captures_video: Whether it captures video; many cameras have a second device that delivers metadata only.
    """

    index: int
    path: Path
    name: str
    modes: tuple[CameraMode, ...] = ()
    captures_video: bool = True

    def __str__(self) -> str:
        if not self.captures_video:
            return f"{self.path} ({self.name}; gives no pictures)"
        return f"{self.path} ({self.name}{': ' + describe_modes(self.modes) if self.modes else ''})"


def list_cameras(devices: Path = DEVICES, sysfs: Path = SYSFS) -> list[CameraDevice]:
    """Every `/dev/videoN` with its driver's name and its modes, by number."""
    cameras = []
    for path in devices.glob("video*"):
        if not (match := re.fullmatch(r"video(\d+)", path.name)):
            continue
        try:
            name = (sysfs / path.name / "name").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = "unknown"
        facts = device_facts(path)
        modes, captures_video = (facts.modes, facts.captures_video) if facts else ((), True)
        cameras.append(CameraDevice(int(match[1]), path, name, modes, captures_video))
    return sorted(cameras, key=lambda camera: camera.index)


def camera_source(uri: str, options: SourceOptions) -> LiveSource:
    """A camera by `camera:N`, `N` or `/dev/videoN`.

    Raises:
        SourceError: If the text names no camera, or `options.camera_format` no format.
    """
    match = re.fullmatch(r"(?:camera:|/dev/video)?(\d+)", uri)
    if match is None:
        raise SourceError(f"{uri!r} names no camera.", hint="Give its number, for example camera:0.")
    index = int(match[1])
    wanted = parse_camera_format(options.camera_format)

    def connect() -> Capture:
        asked = CameraFormat()
        if options.camera_format:
            facts = device_facts(DEVICES / f"video{index}")
            asked = choose_mode(wanted, facts.modes if facts else (), f"Camera {index}")
        capture = open_camera_capture(index, asked, read_timeout_s=options.read_timeout_s)
        if capture is None:
            raise camera_missing(index, list_cameras())
        given = camera_format_of(capture)
        source.report.format = str(given)
        if differs(given, asked):
            _LOG.warning("camera:%d gives %s where %s was asked for", index, given, asked)
        return capture

    source = LiveSource(f"camera:{index}", connect, options, has_times=True)
    return source


def camera_format_of(capture: Capture) -> CameraFormat:
    """Format that an open camera reports."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = code.to_bytes(4, "little", signed=code < 0).decode("ascii", "replace")
    height, width = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    size = (height, width) if height > 0 and width > 0 else None
    return CameraFormat(letters if letters.isprintable() and letters.strip() else None, size, capture_fps(capture))


def differs(given: CameraFormat, asked: CameraFormat) -> bool:
    """Whether a camera delivers another format than requested; properties left open do not count."""
    return (
        asked.fourcc not in (None, given.fourcc)
        or asked.size not in (None, given.size)
        or (asked.fps is not None and abs((given.fps or 0.0) - asked.fps) > 0.05 * asked.fps)
    )


def camera_missing(index: int, cameras: list[CameraDevice]) -> SourceError:
    """Error for a camera that does not open, with a list of the cameras of this machine."""
    found = ", ".join(map(str, cameras))
    if any(camera.index == index and not camera.captures_video for camera in cameras):
        message = f"/dev/video{index} is no camera but the metadata device of one. This machine has: {found}."
        hint = "Take the number of a device that gives pictures, mostly the one before."
    elif any(camera.index == index for camera in cameras):
        message = f"Camera {index} (/dev/video{index}) does not give pictures. This machine has: {found}."
        hint = (
            "Another program may be using it (`fuser /dev/video*`), your user may not be in the group `video`, or it is "
            "the metadata device of a camera: try the next number."
        )
    elif cameras:
        first = next((camera for camera in cameras if camera.captures_video), cameras[0])
        message = f"There is no camera {index} (/dev/video{index}). This machine has: {found}."
        hint = f"Use for example --camera {first.index}. `v4l2-ctl --list-devices` lists every camera."
    else:
        message = f"There is no camera {index}: this machine has no /dev/video* device at all."
        hint = (
            "Plug the camera in and check `ls /dev/video*` or `v4l2-ctl --list-devices` (package v4l-utils); in a "
            "container pass --device /dev/video0. Without a camera: --source VIDEO, FOLDER, URL or synthetic."
        )
    return SourceError(message, hint=hint, retryable=True)
