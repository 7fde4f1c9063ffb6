"""Artificial defects of a given size in pixels, to measure which sizes a detector can see."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.imaging import Image

# Change of brightness, as a share of the image's contrast: clearly visible to a person who looks closely.
STEP_RANGE = (0.35, 0.7)
_SCALE = 8


def make_sized_defect(
    image: Image, size: float, random: np.random.Generator, place: tuple[float, float] | None = None
) -> tuple[Image, tuple[float, float]]:
    """Put a spot or a short hair on an image; which of them, and its brightness, is drawn at random.

    Args:
        image: Good part, `(H, W, 3)`, uint8, at least twice as large as the defect on each side.
        size: Longest extent of the defect in pixels.
        random: Random generator for all choices.
        place: Centre (x, y) in shares of the width and height; None = drawn.

    Returns:
        The changed image, and the centre of the defect (x, y) in shares.
    """
    height, width = image.shape[:2]
    half = int(np.ceil(size / 2)) + 3
    drawn = random.uniform(0.08, 0.92, 2)
    across, down = drawn if place is None else place
    x = int(np.clip(across * width, half, width - half - 1))
    y = int(np.clip(down * height, half, height - half - 1))
    cover = _cover(size, half, random)
    part = image[y - half : y + half + 1, x - half : x + half + 1].astype(np.float32)
    low, high = np.percentile(image[:: max(1, height // 256), :: max(1, width // 256)], (2, 98))
    step = max(float(high - low), 20.0) * random.uniform(*STEP_RANGE)
    # away from the surface's own brightness, so that no defect is clipped away
    sign = 1.0 if part.mean() < (low + high) / 2 else -1.0
    changed = image.copy()
    part = part + np.float32(sign * step) * cover[:, :, None]
    changed[y - half : y + half + 1, x - half : x + half + 1] = np.clip(np.rint(part), 0, 255).astype(np.uint8)
    return changed, ((x + 0.5) / width, (y + 0.5) / height)


def _cover(size: float, half: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Share of each pixel that the defect covers, `(2 half + 1, 2 half + 1)`, slightly blurred as by a lens."""
    side = 2 * half + 1
    is_spot, narrow, angle = random.random() < 0.5, random.uniform(0.6, 1.0), random.uniform(0, 180)
    across = size * narrow if is_spot else max(1.5, size / 6)
    drawn = np.zeros((side * _SCALE, side * _SCALE), np.float32)
    axes = (max(1, round(size / 2 * _SCALE)), max(1, round(across / 2 * _SCALE)))
    cv2.ellipse(drawn, (drawn.shape[1] // 2, drawn.shape[0] // 2), axes, angle, 0, 360, 1.0, cv2.FILLED)
    small = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 0.6), np.float32)
