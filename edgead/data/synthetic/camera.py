"""Simulated inspection camera: lamp, conveyor, lens and sensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.surface import Field, Size, Surface, grid, smooth_noise
from edgead.imaging import Image

_LAMP = np.array([-0.37, -0.45, 0.81], np.float32)  # unit vectors: towards the lamp, and half way to the lens
_HALFWAY = np.array([-0.19, -0.24, 0.95], np.float32)
_BELT = np.array([0.115, 0.125, 0.13], np.float32)
_SPARE = 64


@dataclass(frozen=True)
class Placement:
    """Pose and lighting of one part, constant while it is under the camera.

    Attributes:
        angle_deg: Rotation of the part.
        shift: Displacement `(x, y)` of the part, as shares of the shorter side.
        belt: Offset `(x, y)` of the conveyor below, in pixels.
        slope: Change of brightness across the image in x and y, as shares.
        exposure: Overall brightness, about 1.
        scale: Size of the part in the image; parts that move need a margin around them.
        lamp_deg: Direction of the lamp, turned from the upper left; None for a lamp that turns with the part.
        ground: Colour of a plain table under the part, RGB 0..1; None for the conveyor.
    """

    angle_deg: float
    shift: tuple[float, float]
    belt: tuple[int, int]
    slope: tuple[float, float]
    exposure: float
    scale: float = 1.0
    lamp_deg: float | None = None
    ground: tuple[float, float, float] | None = None

    @property
    def lamp_turn_deg(self) -> float:
        """Direction of the lamp as the part sees it, turned from the upper left."""
        return 0.0 if self.lamp_deg is None else self.lamp_deg + self.angle_deg


def random_placement(rng: np.random.Generator) -> Placement:
    """Draw a placement as a feeder makes it: within a few degrees and a few pixels."""
    return Placement(
        angle_deg=float(np.clip(rng.normal(0, 1.2), -3, 3)),
        shift=(
            float(np.clip(rng.normal(0, 0.006), -0.015, 0.015)),
            float(np.clip(rng.normal(0, 0.006), -0.015, 0.015)),
        ),
        belt=(int(rng.integers(_SPARE)), int(rng.integers(_SPARE))),
        slope=(float(rng.normal(0.05, 0.02)), float(rng.normal(0.04, 0.02))),
        exposure=float(rng.uniform(0.95, 1.05)),
    )


def shade(surface: Surface, lamp_turn_deg: float = 0.0) -> Field:
    """Light a part from the upper left, or from a lamp turned about the part.

    Returns:
        `(H, W, 4)`, float32, RGB and coverage, each 0..1.
    """
    lamp, halfway = _turned(_LAMP, lamp_turn_deg), _turned(_HALFWAY, lamp_turn_deg)
    slope_x = cv2.Scharr(surface.height, cv2.CV_32F, 1, 0, scale=1 / 32)
    slope_y = cv2.Scharr(surface.height, cv2.CV_32F, 0, 1, scale=1 / 32)
    length = np.sqrt(slope_x * slope_x + slope_y * slope_y + np.float32(1.0))
    diffuse = (lamp[2] - slope_x * lamp[0] - slope_y * lamp[1]) / (length * lamp[2])
    towards = np.maximum((halfway[2] - slope_x * halfway[0] - slope_y * halfway[1]) / length, 0)
    for _ in range(5):  # to the power of 32, five times faster than np.power
        towards = towards * towards
    shine = towards - _HALFWAY[2] ** 32
    diffuse = np.maximum(np.float32(0.25) + np.float32(0.75) * diffuse, np.float32(0.05))
    lit = surface.colour * diffuse[:, :, None] + (shine * np.float32(0.7 * surface.gloss))[:, :, None]
    return np.asarray(np.dstack([lit, surface.inside]), np.float32)


def expose(
    layers: Field, placement: Placement, jitter: tuple[float, float] = (0.0, 0.0), flicker: float = 1.0
) -> Field:
    """Render a part before noise: pose, conveyor, shadow, uneven light and lens blur.

    Args:
        layers: Shaded part, from `shade`.
        placement: Pose and lighting of the part.
        jitter: Vibration `(x, y)` in pixels.
        flicker: Factor on the exposure.

    Returns:
        `(H, W, 3)`, float32, RGB 0..255, not clipped.
    """
    height, width = size = (layers.shape[0], layers.shape[1])
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), placement.angle_deg, placement.scale)
    matrix[:, 2] += np.array(placement.shift) * min(size) + np.array(jitter)
    # cloth goes on beyond the image; around any other part there is conveyor
    border = cv2.BORDER_REFLECT_101 if float(layers[:, :, 3].min()) == 1.0 else cv2.BORDER_CONSTANT
    posed = cv2.warpAffine(layers, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
    scene, inside = np.asarray(posed[:, :, :3], np.float32), np.asarray(posed[:, :, 3:], np.float32)
    if float(inside.min()) < 1.0:
        scene = _on_belt(scene, inside, placement, size)
    x, y = grid(size)
    light = (
        1.0
        + np.float32(placement.slope[0]) * x
        + np.float32(placement.slope[1]) * y
        - np.float32(0.05) * (x * x + y * y)
    )
    scene = scene * (light * np.float32(255 * placement.exposure * flicker))[:, :, None]
    return np.asarray(cv2.GaussianBlur(scene, (3, 3), 0.55), np.float32)


def sensor_noise(rng: np.random.Generator, size: Size) -> Field:
    """Draw unit noise of a colour sensor, `(H, W, 3)`: fine in brightness, coarser in colour."""
    height, width = size
    fine = rng.standard_normal((height, width, 1), dtype=np.float32)
    coarse = rng.standard_normal(((height + 1) // 2, (width + 1) // 2, 3), dtype=np.float32)
    return np.asarray(fine + cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) * 0.7, np.float32)


def develop(exposed: Field, noise: Field) -> Image:
    """Add noise that grows with brightness, and round to 8 bits."""
    spread = np.sqrt(np.clip(exposed, 0, 255) * np.float32(0.012) + np.float32(0.8))
    return np.asarray(np.clip(np.rint(exposed + noise * spread), 0, 255), np.uint8)


def visible_change(good: Field, defective: Field, least_levels: float = 6.0) -> NDArray[np.bool_]:
    """Mask of a defect: pixels that it changes by at least `least_levels` grey levels, with pinholes closed."""
    change = np.abs(np.clip(good, 0, 255) - np.clip(defective, 0, 255)).max(axis=2)
    seen = (change >= least_levels).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)), np.bool_)


def _on_belt(part: Field, inside: Field, placement: Placement, size: Size) -> Field:
    height, width = size
    left, top = placement.belt
    belt = (_belt(size) if placement.ground is None else _table(size, placement.ground))[
        top : top + height, left : left + width
    ]
    reach = min(size) * 0.016
    fall = _turned(np.array([reach, reach * 1.2, 0], np.float32), placement.lamp_deg or 0.0)
    move = np.array([[1, 0, fall[0]], [0, 1, fall[1]]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(inside, move, (width, height)), (0, 0), max(0.8, reach * 0.7))
    ground = belt * (1.0 - np.float32(0.55) * np.asarray(shadow, np.float32)[:, :, None])
    return np.asarray(ground + (part - ground) * inside, np.float32)


def _turned(vector: NDArray[np.float32], angle_deg: float) -> NDArray[np.float32]:
    """Turn a vector `(x, y, z)` about the view, clockwise in the image."""
    if angle_deg == 0:
        return vector
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    x, y, z = vector
    return np.array([cosine * x - sine * y, sine * x + cosine * y, z], np.float32)


@lru_cache(maxsize=16)
def _table(size: Size, colour: tuple[float, float, float]) -> Field:
    """Draw a plain matt table, `_SPARE` pixels larger than the image each way."""
    rng = np.random.default_rng(20240608)
    large = (size[0] + _SPARE, size[1] + _SPARE)
    tone = 1.0 + 0.015 * rng.standard_normal(large, dtype=np.float32) + 0.012 * smooth_noise(rng, large, 6)
    return np.asarray(np.array(colour, np.float32) * tone[:, :, None], np.float32)


@lru_cache(maxsize=4)
def _belt(size: Size) -> Field:
    """Draw worn rubber belt, `_SPARE` pixels larger than the image each way."""
    rng = np.random.default_rng(20240607)
    height, width = size[0] + _SPARE, size[1] + _SPARE
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    pitch = max(3.0, min(size) / 64)
    studs = np.cos(2 * np.pi * (x + y) / pitch / 2) * np.cos(2 * np.pi * (x - y) / pitch / 2)
    worn = np.repeat(smooth_noise(rng, (height, 8), 8)[:, :1], width, axis=1)
    tone = 1.0 + 0.16 * studs + 0.07 * rng.standard_normal((height, width)) + 0.05 * worn
    return np.asarray(_BELT * tone[:, :, None], np.float32)
