"""Drawing functions and poses shared by the kinds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.camera import Placement
from edgead.data.synthetic.surface import Field, Size, Surface, grid, pixel, shrink, soft_step

Colour = tuple[float, float, float]
_LAMPS_DEG = (0.0, 75.0, -60.0)
_EXPOSURES = (0.88, 1.0, 1.1)
_BELT_SPARE = 64


@dataclass(frozen=True)
class Pose:
    """How the parts of a kind lie under the camera, and under which lights.

    Attributes:
        angles_deg: Angles of which each part has one; empty for any angle.
        spread_deg: Standard deviation about it.
        shift: Standard deviation of the position, as a share of the shorter side.
        scale: Smallest and largest size.
        grounds: Colours of the tables that they lie on, RGB 0..1; empty for the conveyor.
    """

    angles_deg: tuple[float, ...] = (0.0,)
    spread_deg: float = 1.5
    shift: float = 0.008
    scale: tuple[float, float] = (1.0, 1.0)
    grounds: tuple[Colour, ...] = ()

    def __call__(self, rng: np.random.Generator) -> Placement:
        """Draw a placement: one of three lamps, one of three exposures, and a little of everything else."""
        anywhere, place, lamp, level, ground = rng.uniform(size=5)
        turn = rng.normal(0, self.spread_deg)
        base = self.angles_deg[int(place * len(self.angles_deg))] if self.angles_deg else 360.0 * anywhere
        shift = np.clip(rng.normal(0, self.shift, 2), -2.5 * self.shift, 2.5 * self.shift)
        belt = rng.integers(_BELT_SPARE, size=2)
        slope = rng.normal((0.05, 0.04), 0.03)
        return Placement(
            angle_deg=float(base + np.clip(turn, -2.5 * self.spread_deg, 2.5 * self.spread_deg)),
            shift=(float(shift[0]), float(shift[1])),
            belt=(int(belt[0]), int(belt[1])),
            slope=(float(slope[0]), float(slope[1])),
            exposure=float(_EXPOSURES[int(level * len(_EXPOSURES))] + rng.uniform(-0.03, 0.03)),
            scale=float(rng.uniform(*self.scale)),
            lamp_deg=float(_LAMPS_DEG[int(lamp * len(_LAMPS_DEG))] + rng.normal(0, 6)),
            ground=self.grounds[int(ground * len(self.grounds))] if self.grounds else None,
        )


def choose(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 0.03) -> NDArray[np.float32]:
    """One of several colours, a little lighter or darker."""
    chosen = colours[int(rng.integers(len(colours)))]
    return np.asarray(np.array(chosen, np.float32) * np.float32(rng.uniform(1 - spread, 1 + spread)), np.float32)


def stretched_noise(rng: np.random.Generator, size: Size, across: int, along: int) -> Field:
    """Random field of about unit deviation with `across` cells in x and `along` in y."""
    coarse = rng.standard_normal((along + 1, across + 1), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def capsule_distance(size: Size, half_length: float) -> Field:
    """Distance from a line along x of `2 * half_length` through the middle, in the units of `grid`."""
    x, y = grid(size)
    return np.asarray(np.hypot(np.maximum(np.abs(x) - np.float32(half_length), 0), y), np.float32)


def box_distance(size: Size, x: float, y: float, half_width: float, half_height: float) -> Field:
    """Signed distance from a box, negative inside, in the units of `grid`."""
    grid_x, grid_y = grid(size)
    return np.asarray(
        np.maximum(np.abs(grid_x - np.float32(x)) - half_width, np.abs(grid_y - np.float32(y)) - half_height),
        np.float32,
    )


def dome(distance: Field, radius: float, size: Size, flat: float = 1.0) -> Field:
    """Height in pixels of a round body: a half circle over its radius, pressed by `flat`."""
    share = np.clip(distance / np.float32(radius), 0, 0.985)
    return np.asarray(np.sqrt(1 - share * share) * np.float32(radius * flat / pixel(size)), np.float32)


def edge(distance: Field, size: Size) -> Field:
    """Coverage of what lies at a negative distance, antialiased."""
    return soft_step(-distance, 1.5 * pixel(size))


def text_cover(size: Size, text: str, x: float, y: float, height: float) -> Field:
    """Coverage of a printed word centred at a point, `height` high; all in the units of `grid`."""
    scale = 3
    canvas = np.zeros((size[0] * scale, size[1] * scale), np.uint8)
    half = min(size) * scale / 2
    factor = half * height / 22
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, factor, 1)
    origin = (
        round(canvas.shape[1] / 2 + x * half - wide / 2),
        round(canvas.shape[0] / 2 + y * half + high / 2),
    )
    thickness = max(1, round(half * height * 0.13))
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_DUPLEX, factor, 255, thickness, cv2.LINE_AA)
    return shrink(canvas, size)


def surface(colour: Field, height: Field, inside: Field, gloss: float) -> Surface:
    """A surface of arrays of any float type."""
    return Surface(
        np.asarray(colour, np.float32), np.asarray(height, np.float32), np.asarray(inside, np.float32), gloss
    )
