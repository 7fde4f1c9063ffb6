"""Check of a camera's frames for camera faults before inference, based on the bundle's good images."""

from __future__ import annotations

from collections.abc import Callable

from edgead.bundle import Bundle
from edgead.config.stream import StreamConfig
from edgead.imaging import Image
from edgead.stream.camera import FrameCheck
from edgead.stream.frame_faults import FrameFaultMonitor, FrameFaultOptions, FrameReference

# Without good images of the line only what no picture of parts is: hardly any light, or hardly anything but white.
_ANY_PICTURE = FrameReference(least_peak=50.0, most_white=1.0, least_sharpness=0.0)


def plain_frame_check() -> Callable[[Image, float], FrameCheck]:
    """Make a check that needs no bundle: black and over-exposed frames."""
    return _check(FrameFaultMonitor(_ANY_PICTURE, FrameFaultOptions(frozen_s=0.0)))


def frame_check(bundle: Bundle, config: StreamConfig, *, live: bool) -> Callable[[Image, float], FrameCheck] | None:
    """Make the check of one camera; None if disabled. Only live ones are checked for freezing: files may be alike."""
    if not config.check_pictures:
        return None
    options = FrameFaultOptions(
        black_ratio=config.black_ratio,
        white_margin=config.white_margin,
        blur_ratio=config.blur_ratio,
        frozen_s=config.frozen_s if live else 0.0,
    )
    return _check(FrameFaultMonitor(FrameReference.from_images(bundle.overviews()), options))


def _check(monitor: FrameFaultMonitor) -> Callable[[Image, float], FrameCheck]:
    def check(image: Image, time_s: float) -> FrameCheck:
        fault = monitor.observe(image, time_s)
        if fault is None:
            return FrameCheck(None, is_usable=not monitor.is_suspect)
        return FrameCheck(fault.message, is_usable=False, kind=fault.kind)

    return check
