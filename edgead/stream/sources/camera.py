"""V4L2 cameras."""

from __future__ import annotations

import logging
import os
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
# links that name a camera by its maker and serial number, or by the port that it is plugged into
_LINKS = ("v4l/by-id", "v4l/by-path")
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
        link: Path that leads to the same camera after a restart, `/dev/v4l/by-id/...` if there is one, else by-path.
    """

    index: int
    path: Path
    name: str
    modes: tuple[CameraMode, ...] = ()
    captures_video: bool = True
    link: Path | None = None

    def __str__(self) -> str:
        if not self.captures_video:
            return f"{self.path} ({self.name}; gives no pictures)"
        place = f"{self.path} = {self.link}" if self.link else str(self.path)
        return f"{place} ({self.name}{': ' + describe_modes(self.modes) if self.modes else ''})"


def list_cameras(devices: Path = DEVICES, sysfs: Path = SYSFS) -> list[CameraDevice]:
    """Every `/dev/videoN` with its driver's name and its modes, by number."""
    cameras, links = [], _links(devices)
    for path in devices.glob("video*"):
        if not (match := re.fullmatch(r"video(\d+)", path.name)):
            continue
        try:
            name = (sysfs / path.name / "name").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = "unknown"
        facts = device_facts(path)
        modes, captures_video = (facts.modes, facts.captures_video) if facts else ((), True)
        cameras.append(CameraDevice(int(match[1]), path, name, modes, captures_video, links.get(path.name)))
    return sorted(cameras, key=lambda camera: camera.index)


def _links(devices: Path) -> dict[str, Path]:
    """The most lasting link to each device, by the device's name."""
    found: dict[str, Path] = {}
    for folder in _LINKS:
        for link in sorted(devices.glob(f"{folder}/*")):
            found.setdefault(os.path.basename(os.path.realpath(link)), link)
    return found


def names_camera(text: str) -> bool:
    """Whether a source without a scheme is a V4L2 camera: a number, a device, or a path that leads to one.

    A path below `/dev/v4l` is one even while the camera is unplugged.
    """
    if re.fullmatch(r"\d+|/dev/video\d+|/dev/v4l/by-(id|path)/[^/]+", text):
        return True
    return text.startswith("/") and _index_of(Path(text)) is not None


def _index_of(path: Path) -> int | None:
    """N of the `/dev/videoN` that a path leads to now; None if it leads to no such device."""
    match = re.fullmatch(r"/dev/video(\d+)", os.path.realpath(path))
    return int(match[1]) if match else None


def camera_source(uri: str, options: SourceOptions) -> LiveSource:
    """A camera by `camera:N`, `N`, `/dev/videoN`, or a path that leads to one, such as `/dev/v4l/by-id/...`.

    A path is resolved at every connection: a camera that was plugged in again may have another number.

    Raises:
        SourceError: If the text names no camera, or `options.camera_format` no format.
    """
    place = uri.removeprefix("camera:")
    match = re.fullmatch(r"(?:/dev/video)?(\d+)", place)
    if match is None and not place.startswith("/"):
        raise SourceError(
            f"{uri!r} names no camera.",
            hint="Give its number, for example camera:0, or its path, for example /dev/v4l/by-id/NAME.",
        )
    name = f"camera:{match[1]}" if match else place
    wanted = parse_camera_format(options.camera_format)

    def connect() -> Capture:
        index = int(match[1]) if match else _index_of(Path(place))
        if index is None:
            raise link_missing(place, list_cameras())
        asked = CameraFormat()
        if options.camera_format:
            facts = device_facts(DEVICES / f"video{index}")
            asked = choose_mode(wanted, facts.modes if facts else (), f"Camera {place if match is None else index}")
        capture = open_camera_capture(index, asked, read_timeout_s=options.read_timeout_s)
        if capture is None:
            raise camera_missing(index, list_cameras())
        given = camera_format_of(capture)
        source.report.format = str(given)
        if differs(given, asked):
            _LOG.warning("%s gives %s where %s was asked for", name, given, asked)
        return capture

    source = LiveSource(name, connect, options, has_times=True)
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


def link_missing(place: str, cameras: list[CameraDevice]) -> SourceError:
    """Error for a path that leads to no camera now, with a list of the cameras of this machine."""
    found = ", ".join(map(str, cameras))
    lead = "is there, but leads to no /dev/videoN" if os.path.lexists(place) else "is not there"
    return SourceError(
        f"There is no camera {place}: that path {lead}. This machine has: {found or 'no camera'}.",
        hint="Plug the camera in. `ls -l /dev/v4l/by-id /dev/v4l/by-path` and `edgead doctor` show what each is called; "
        "/dev/v4l/by-path names the port, and also tells two cameras without serial numbers apart.",
        retryable=True,
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
