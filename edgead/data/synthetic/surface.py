"""Surface of a part, and drawing functions shared by all parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Size = tuple[int, int]


@dataclass(frozen=True)
class Surface:
    """A part in its own frame, before pose, light and camera.

    Attributes:
        colour: Reflectance under even light, `(H, W, 3)`, float32, RGB 0..1.
        height: Height map `(H, W)`, float32, in pixels; only slopes are visible, as shading.
        inside: Coverage of the part `(H, W)`, float32, 0..1; 0 where the conveyor is visible.
        gloss: Strength of the highlights on slopes, 0..1.
    """

    colour: Field
    height: Field
    inside: Field
    gloss: float


@lru_cache(maxsize=16)
def grid(size: Size) -> tuple[Field, Field]:
    """Coordinates `(x, y)` of all pixel centres from the middle, in units of half the shorter side; read-only."""
    height, width = size
    half = min(size) / 2.0
    y, x = np.meshgrid(
        (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / half,
        (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / half,
        indexing="ij",
    )
    return x, y


def pixel(size: Size) -> float:
    """Length of one pixel in the units of `grid`."""
    return 2.0 / min(size)


def distance_from(size: Size, x: float, y: float) -> Field:
    """Distance of all pixel centres from a point, in the units of `grid`."""
    grid_x, grid_y = grid(size)
    return np.asarray(np.hypot(grid_x - np.float32(x), grid_y - np.float32(y)), np.float32)


def soft_step(distance: Field, width: float) -> Field:
    """Antialiased edge: 0 for distance <= -width/2, 1 for distance >= width/2, linear between."""
    return np.asarray(np.clip(distance / np.float32(width) + np.float32(0.5), 0, 1), np.float32)


def smooth_noise(rng: np.random.Generator, size: Size, cells: int) -> Field:
    """Random field of zero mean and about unit deviation, with blobs of 1/`cells` of the shorter side."""
    height, width = size
    step = min(size) / cells
    coarse = rng.standard_normal((int(height / step) + 3, int(width / step) + 3), dtype=np.float32)
    # Enlarged by a warp: the blobs keep their size at any aspect ratio.
    matrix = np.array([[1 / step, 0, 0.5], [0, 1 / step, 0.5]], np.float32)
    return np.asarray(
        cv2.warpAffine(coarse, matrix, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP), np.float32
    )


def fractal_noise(rng: np.random.Generator, size: Size, cells: int, octaves: int = 3) -> Field:
    """Sum of `smooth_noise` fields, each twice as fine and half as strong."""
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        total += smooth_noise(rng, size, cells * 2**octave) * np.float32(0.5**octave)
    return total


def stroke(size: Size, points: NDArray[np.float64], width_px: float) -> Field:
    """Draw an antialiased polyline.

    Args:
        size: `(height, width)` of the result.
        points: Vertices `(N, 2)` as `(x, y)` in pixels.
        width_px: Line width; fractions of a pixel make the line fainter.

    Returns:
        `(height, width)`, float32, 0..1 coverage.
    """
    scale, shift = 3, 4
    coverage = np.zeros(size, np.float32)
    # Drawn enlarged, and only around the line: enlarging the whole image would take most of the time of a part.
    margin = width_px / 2 + 2
    left, top = (int(max(0, value)) for value in points.min(axis=0) - margin)
    right, bottom = (int(min(end, value)) for end, value in zip(size[::-1], points.max(axis=0) + margin, strict=True))
    if right <= left or bottom <= top:
        return coverage
    canvas = np.zeros(((bottom - top) * scale, (right - left) * scale), np.uint8)
    line = np.rint(((points - (left, top)) * scale + (scale - 1) / 2) * 2**shift).astype(np.int32)
    cv2.polylines(canvas, [line], False, 255, max(1, round(width_px * scale)), cv2.LINE_AA, shift)
    coverage[top:bottom, left:right] = shrink(canvas, (bottom - top, right - left))
    return np.asarray(coverage * np.float32(min(1.0, width_px * scale)), np.float32)


def shrink(canvas: NDArray[np.uint8], size: Size) -> Field:
    """Reduce a large 8-bit drawing to `(height, width)` by averaging, as float32 0..1."""
    small = cv2.resize(canvas, size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small * np.float32(1 / 255), np.float32)


def mix(colour: Field, other: tuple[float, float, float] | Field, weight: Field) -> Field:
    """Blend `other` over `colour` with a weight `(H, W)` in 0..1."""
    return np.asarray(colour + (np.asarray(other, np.float32) - colour) * weight[:, :, None], np.float32)
