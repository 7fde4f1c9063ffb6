"""Requested and supported camera formats: pixel format, size and frame rate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgead.errors import SourceError

_WORDS = re.compile(
    r"(?:(?P<fourcc>[A-Za-z][A-Za-z0-9]{2,3})(?![A-Za-z0-9]))?\s*"
    r"(?:(?P<width>\d{1,5})x(?P<height>\d{1,5}))?\s*(?:@\s*(?P<fps>\d{1,4}(?:\.\d{1,3})?))?"
)
_EXAMPLE = "Write for example MJPG 1280x720@30, 1280x720, MJPG or @30."
# 29.97 frames per second count as 30
_SAME_RATE = 0.01
# Defaults for what is left open: more pixels would only be thrown away.
_USUAL_FPS, _LARGEST_PX = 30.0, 1920 * 1080


@dataclass(frozen=True)
class CameraFormat:
    """A requested format; None leaves a property open.

    Attributes:
        fourcc: Four-letter code of the pixel format.
        size: `(height, width)` in pixels.
        fps: Frames per second.
    """

    fourcc: str | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None

    def __str__(self) -> str:
        return _text(self.fourcc, self.size, self.fps)


@dataclass(frozen=True)
class SizeRange:
    """Range of sizes that a camera supports, each end and the step as `(height, width)` in pixels."""

    smallest: tuple[int, int]
    largest: tuple[int, int]
    step: tuple[int, int] = (1, 1)

    def __contains__(self, size: tuple[int, int]) -> bool:
        return all(
            low <= side <= high and (side - low) % step == 0
            for side, low, high, step in zip(size, self.smallest, self.largest, self.step, strict=True)
        )


@dataclass(frozen=True)
class CameraMode:
    """One size (or range of sizes) in one pixel format.

    Attributes:
        fourcc: Pixel format.
        sizes: Range of sizes; both ends are equal for a single size.
        rates: Frames per second, highest first; empty if the driver does not list them.
    """

    fourcc: str
    sizes: SizeRange
    rates: tuple[float, ...] = ()

    def __str__(self) -> str:
        return _text(self.fourcc, self.sizes.largest, self.rates[0] if self.rates else None)


def parse_camera_format(text: str) -> CameraFormat:
    """Parse `MJPG 1280x720@30` or any part of it; an empty text leaves everything open.

    Raises:
        SourceError: If the text is no camera format.
    """
    match = _WORDS.fullmatch(text.strip())
    if match is None:
        raise SourceError(f"stream.camera_format is no camera format (got {text!r}).", hint=_EXAMPLE)
    size = (int(match["height"]), int(match["width"])) if match["width"] else None
    fps = float(match["fps"]) if match["fps"] else None
    if fps == 0 or (size and 0 in size):
        raise SourceError(f"stream.camera_format has a zero (got {text!r}).", hint=_EXAMPLE)
    return CameraFormat(match["fourcc"].upper().ljust(4) if match["fourcc"] else None, size, fps)


def choose_mode(wanted: CameraFormat, modes: Sequence[CameraMode], camera: str) -> CameraFormat:
    """Format to set: the wanted one, completed from the best matching mode of the camera.

    Of the modes that fit, the one with the nearest frame rate wins (30 if none is given), then the largest size up to
    1920x1080, then the camera's own order. If the driver lists no modes, the wanted format is requested unchanged.

    Args:
        wanted: Format that the user asks for.
        modes: Modes of the camera.
        camera: Name of the camera for the error message.

    Raises:
        SourceError: If the camera has no such mode.
    """
    if not modes:
        return wanted
    fitting = [(index, mode) for index, mode in enumerate(modes) if _fits(mode, wanted)]
    if not fitting:
        raise SourceError(
            f"{camera} does not offer {wanted}. It offers: {describe_modes(modes)}.",
            hint="Set stream.camera_format to one of these, or leave it empty.",
        )
    _, mode = min(fitting, key=lambda entry: (*_distance(entry[1], wanted), entry[0]))
    return CameraFormat(mode.fourcc, wanted.size or mode.sizes.largest, _rate(mode, wanted))


def describe_modes(modes: Sequence[CameraMode]) -> str:
    """Modes in one line: every pixel format with its sizes and the highest rate of each; ranges as from-to."""
    by_format: dict[str, list[str]] = {}
    for mode in modes:
        low, high = mode.sizes.smallest, mode.sizes.largest
        size = f"{high[1]}x{high[0]}" if low == high else f"{low[1]}x{low[0]} to {high[1]}x{high[0]}"
        by_format.setdefault(mode.fourcc, []).append(f"{size}@{mode.rates[0]:g}" if mode.rates else size)
    return "; ".join(f"{fourcc} {', '.join(sizes)}" for fourcc, sizes in by_format.items())


def _fits(mode: CameraMode, wanted: CameraFormat) -> bool:
    return (
        wanted.fourcc in (None, mode.fourcc)
        and (wanted.size is None or wanted.size in mode.sizes)
        and (wanted.fps is None or not mode.rates or _rate(mode, wanted) is not None)
    )


def _rate(mode: CameraMode, wanted: CameraFormat) -> float | None:
    """Lowest sufficient rate; if none is wanted, the one nearest to 30."""
    if not mode.rates:
        return wanted.fps
    if wanted.fps is None:
        return min(mode.rates, key=lambda rate: abs(rate - _USUAL_FPS))
    return min((rate for rate in mode.rates if rate >= wanted.fps * (1 - _SAME_RATE)), default=None)


def _distance(mode: CameraMode, wanted: CameraFormat) -> tuple[float, int]:
    target = wanted.fps or _USUAL_FPS
    height, width = wanted.size or mode.sizes.largest
    return abs((_rate(mode, wanted) or target) - target), abs(height * width - _LARGEST_PX)


def _text(fourcc: str | None, size: tuple[int, int] | None, fps: float | None) -> str:
    place = f"{size[1]}x{size[0]}" if size else ""
    rate = f"@{fps:g}" if fps else ""
    return f"{fourcc or ''} {place}{rate}".strip() or "any format"
