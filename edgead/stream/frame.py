"""Frame: one image from a source."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    image: Image
    index: int
    captured_at_s: float
    source: str

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or 0 in self.image.shape:
            raise ShapeError("frame", expected="(H, W, 3)", actual=self.image.shape)
        if self.image.dtype != np.uint8:
            raise TypeError(f"frame must be uint8, got {self.image.dtype}")
