"""Frame: one image from a source."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from edgead.errors import ShapeError
from edgead.imaging import Image


@dataclass(frozen=True)
class Frame:
    """An image from a source, with its index and capture time.

    Attributes:
        image: Image `(H, W, 3)`, uint8, RGB.
        index: Number of the frame in its source, from 0; gaps are frames that the source skipped.
        captured_at_s: Monotonic time at which the frame was taken from the source, in seconds.
        source: Redacted name of the source; for a folder, the image file.
        damage: Reason why the frame is not to be judged, for example lost packets; empty for a whole one. The image may
            then be the last whole one.
        time_s: Time on the source's own time line, in seconds from an unknown start; None if the source has none.
    """

    image: Image
    index: int
    captured_at_s: float
    source: str
    damage: str = ""
    time_s: float | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or 0 in self.image.shape:
            raise ShapeError("frame", expected="(H, W, 3)", actual=self.image.shape)
        if self.image.dtype != np.uint8:
            raise TypeError(f"frame must be uint8, got {self.image.dtype}")


def taken_at(frame: Frame) -> str:
    """When a frame was taken from its source, by the system's present clock: UTC, ISO 8601, to the millisecond."""
    return utc_text(time.time() - (time.monotonic() - frame.captured_at_s))


def utc_text(unix_s: float) -> str:
    """Seconds since 1970 as UTC, ISO 8601, to the millisecond.

    >>> utc_text(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    at = datetime.fromtimestamp(unix_s, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
