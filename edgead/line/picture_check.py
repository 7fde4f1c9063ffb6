"""Check of a camera's frames for camera faults before inference, based on the bundle's good images."""

from __future__ import annotations

from collections.abc import Callable

from edgead.bundle import Bundle
from edgead.config.stream import StreamConfig
from edgead.imaging import Image
from edgead.stream.camera import PictureCheck
from edgead.stream.picture_faults import PictureFaultOptions, PictureMonitor, PictureReference


def picture_check(bundle: Bundle, config: StreamConfig, *, live: bool) -> Callable[[Image, float], PictureCheck] | None:
    """Make the check of one camera; None if disabled. Only live ones are checked for freezing: files may be alike."""
    if not config.check_pictures:
        return None
    options = PictureFaultOptions(
        black_ratio=config.black_ratio,
        white_margin=config.white_margin,
        blur_ratio=config.blur_ratio,
        frozen_s=config.frozen_s if live else 0.0,
    )
    monitor = PictureMonitor(PictureReference.from_images(bundle.calibration_images()), options)

    def check(image: Image, time_s: float) -> PictureCheck:
        fault = monitor.observe(image, time_s)
        if fault is None:
            return PictureCheck(None, is_usable=not monitor.is_suspect)
        return PictureCheck(fault.message, is_usable=False, kind=fault.kind)

    return check
