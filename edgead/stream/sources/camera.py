"""V4L2 cameras."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgead.errors import SourceError
from edgead.stream.sources.capture import Capture, open_camera_capture
from edgead.stream.sources.live import LiveSource
from edgead.stream.sources.restart import RestartBudget
from edgead.stream.sources.source import SourceOptions

DEVICES = Path("/dev")
SYSFS = Path("/sys/class/video4linux")


@dataclass(frozen=True)
class CameraDevice:
    """A video device that the kernel knows; many cameras have a second one that gives no pictures."""

    index: int
    path: Path
    name: str


def list_cameras(devices: Path = DEVICES, sysfs: Path = SYSFS) -> list[CameraDevice]:
    """Every `/dev/videoN` with the name that its driver gives, by number."""
    cameras = []
    for path in devices.glob("video*"):
        if not (match := re.fullmatch(r"video(\d+)", path.name)):
            continue
        try:
            name = (sysfs / path.name / "name").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = "unknown"
        cameras.append(CameraDevice(int(match[1]), path, name))
    return sorted(cameras, key=lambda camera: camera.index)


def camera_source(uri: str, options: SourceOptions) -> LiveSource:
    """A camera by `camera:N`, `N` or `/dev/videoN`.

    Raises:
        SourceError: If the text names no camera.
    """
    match = re.fullmatch(r"(?:camera:|/dev/video)?(\d+)", uri)
    if match is None:
        raise SourceError(f"{uri!r} names no camera.", hint="Give its number, for example camera:0.")
    index = int(match[1])

    def connect() -> Capture:
        capture = open_camera_capture(index, read_timeout_s=options.read_timeout_s)
        if capture is None:
            raise camera_missing(index, list_cameras())
        return capture

    return LiveSource(f"camera:{index}", connect, RestartBudget(options.max_restarts, options.restart_window_s))


def camera_missing(index: int, cameras: list[CameraDevice]) -> SourceError:
    """The error for a camera that does not open, with what this machine has instead."""
    found = ", ".join(f"{camera.path} ({camera.name})" for camera in cameras)
    if any(camera.index == index for camera in cameras):
        message = f"Camera {index} (/dev/video{index}) does not give pictures. This machine has: {found}."
        hint = (
            "Another program may be using it (`fuser /dev/video*`), your user may not be in the group `video`, or it is "
            "the metadata device of a camera: try the next number."
        )
    elif cameras:
        message = f"There is no camera {index} (/dev/video{index}). This machine has: {found}."
        hint = f"Use for example --camera {cameras[0].index}. `v4l2-ctl --list-devices` lists every camera."
    else:
        message = f"There is no camera {index}: this machine has no /dev/video* device at all."
        hint = (
            "Plug the camera in and check `ls /dev/video*` or `v4l2-ctl --list-devices` (package v4l-utils); in a "
            "container pass --device /dev/video0. Without a camera: --source VIDEO, FOLDER, URL or synthetic."
        )
    return SourceError(message, hint=hint, retryable=True)
