"""Capabilities and modes of V4L2 devices, read with the kernel's ioctls (linux/videodev2.h)."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgead.stream.sources.camera_format import CameraMode, SizeRange

Ioctl = Callable[[int, int, ctypes.Structure], None]

_VIDEO_CAPTURE = 1
_CAN_CAPTURE = 0x00000001 | 0x00001000  # single-planar, multi-planar
_HAS_DEVICE_CAPS = 0x80000000
_DISCRETE = 1
# Limit for drivers whose list never ends.
_MOST = 64
_USUAL_RATES = (240.0, 120.0, 90.0, 60.0, 50.0, 30.0, 25.0, 20.0, 15.0, 10.0, 5.0, 1.0)


class Capability(ctypes.Structure):
    """struct v4l2_capability."""

    _fields_ = (
        ("driver", ctypes.c_char * 16), ("card", ctypes.c_char * 32), ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32), ("capabilities", ctypes.c_uint32), ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )  # fmt: skip


class FormatDescription(ctypes.Structure):
    """struct v4l2_fmtdesc."""

    _fields_ = (
        ("index", ctypes.c_uint32), ("type", ctypes.c_uint32), ("flags", ctypes.c_uint32),
        ("description", ctypes.c_char * 32), ("pixelformat", ctypes.c_uint32), ("mbus_code", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )  # fmt: skip


class FrameSize(ctypes.Structure):
    """struct v4l2_frmsizeenum; `size` is width and height, or min, max and step of width, then those of height."""

    _fields_ = (
        ("index", ctypes.c_uint32), ("pixel_format", ctypes.c_uint32), ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32 * 6), ("reserved", ctypes.c_uint32 * 2),
    )  # fmt: skip


class FrameInterval(ctypes.Structure):
    """struct v4l2_frmivalenum; `interval` is one fraction of seconds, or min, max and step."""

    _fields_ = (
        ("index", ctypes.c_uint32), ("pixel_format", ctypes.c_uint32), ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32), ("type", ctypes.c_uint32), ("interval", ctypes.c_uint32 * 6),
        ("reserved", ctypes.c_uint32 * 2),
    )  # fmt: skip


def _request(direction: int, number: int, structure: type[ctypes.Structure]) -> int:
    """Ioctl number as encoded on most Linux architectures, including x86 and ARM."""
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


QUERYCAP = _request(2, 0, Capability)
ENUM_FMT = _request(3, 2, FormatDescription)
ENUM_FRAMESIZES = _request(3, 74, FrameSize)
ENUM_FRAMEINTERVALS = _request(3, 75, FrameInterval)


@dataclass(frozen=True)
class DeviceFacts:
    """Capabilities of a device.

    Attributes:
        captures_video: Whether it captures video; many cameras have a second device that delivers metadata only.
        modes: Supported modes, in the driver's order; empty if the driver does not list them.
    """

    captures_video: bool
    modes: tuple[CameraMode, ...]


def device_facts(path: Path, ioctl: Ioctl | None = None) -> DeviceFacts | None:
    """Query a device, even while another program uses it; None if it is no V4L2 device or cannot be opened."""
    call = ioctl or _kernel_ioctl
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        capability = Capability()
        call(descriptor, QUERYCAP, capability)
        has_own = capability.capabilities & _HAS_DEVICE_CAPS
        can = capability.device_caps if has_own else capability.capabilities
        if not can & _CAN_CAPTURE:
            return DeviceFacts(False, ())
        buffer_type = _VIDEO_CAPTURE if can & 1 else 9  # V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE
        return DeviceFacts(True, tuple(_modes(call, descriptor, buffer_type)))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _modes(call: Ioctl, descriptor: int, buffer_type: int) -> Iterator[CameraMode]:
    for index in range(_MOST):
        entry = FormatDescription(index=index, type=buffer_type)
        if not _next(call, descriptor, ENUM_FMT, entry):
            return
        code = int(entry.pixelformat)
        fourcc = code.to_bytes(4, "little").decode("ascii", "replace")
        for sizes in _sizes(call, descriptor, code):
            yield CameraMode(fourcc, sizes, _rates(call, descriptor, code, sizes.largest))


def _sizes(call: Ioctl, descriptor: int, code: int) -> Iterator[SizeRange]:
    for index in range(_MOST):
        entry = FrameSize(index=index, pixel_format=code)
        if not _next(call, descriptor, ENUM_FRAMESIZES, entry):
            return
        if entry.type == _DISCRETE:
            width, height = entry.size[0], entry.size[1]
            yield SizeRange((height, width), (height, width))
            continue
        widths, heights = tuple(entry.size[:3]), tuple(entry.size[3:])
        step = (max(heights[2], 1), max(widths[2], 1))
        yield SizeRange((heights[0], widths[0]), (heights[1], widths[1]), step)
        return


def _rates(call: Ioctl, descriptor: int, code: int, size: tuple[int, int]) -> tuple[float, ...]:
    rates = set()
    for index in range(_MOST):
        entry = FrameInterval(index=index, pixel_format=code, width=size[1], height=size[0])
        if not _next(call, descriptor, ENUM_FRAMEINTERVALS, entry):
            break
        numbers = list(entry.interval)
        if entry.type == _DISCRETE:
            rates.add(_rate(numbers[0], numbers[1]))
            continue
        highest, lowest = _rate(numbers[0], numbers[1]), _rate(numbers[2], numbers[3])
        rates |= {highest, lowest, *(rate for rate in _USUAL_RATES if lowest < rate < highest)}
        break
    return tuple(sorted((rate for rate in rates if rate > 0), reverse=True))


def _rate(numerator: int, denominator: int) -> float:
    return round(denominator / numerator, 3) if numerator else 0.0


def _next(call: Ioctl, descriptor: int, request: int, entry: ctypes.Structure) -> bool:
    """Whether the driver's list has an entry of that index; False also if there is no list at all."""
    try:
        call(descriptor, request, entry)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODATA):
            return False
        raise
    return True


def _kernel_ioctl(descriptor: int, request: int, argument: ctypes.Structure) -> None:
    import fcntl  # Linux and macOS only

    fcntl.ioctl(descriptor, request, argument, True)
