"""Marks that are right on one kind and a defect on another, and defects that only the kinds have.

Each function changes a surface as those of `defects.py` do. A mark that is right on a kind is drawn by the same function.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.defects import Points, oval, place_on, unit_of
from edgead.data.synthetic.kinds.shapes import text_cover
from edgead.data.synthetic.surface import (
    Surface,
    fractal_noise,
    grid,
    mix,
    pixel,
    shrink,
    smooth_noise,
    soft_step,
)

SPECK = (0.66, 0.24, 0.16)
SPECK_RADIUS = (0.010, 0.020)
PAINT = (0.93, 0.92, 0.88)
PAINT_RADIUS = 0.062
BAND_HALF_WIDTH = 0.016


def knot(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A dark round spot with rings, as of a branch in wood or a burn in leather."""
    return knot_at(part, place_on(part, rng, 0.06), rng, strength)


def knot_at(part: Surface, centre: Points, rng: np.random.Generator, strength: float) -> Surface:
    """`knot` at a point `(x, y)` in pixels."""
    radius = unit_of(part) * (0.016 + 0.030 * strength)
    distance = oval(part, centre, radius, rng)
    distance = distance + np.float32(0.10) * smooth_noise(rng, part.height.shape, 18)
    cover = np.clip((1.15 - distance) * 2.0, 0, 1)
    rings = 0.80 + 0.20 * np.cos(distance * 9.0)
    dark = part.colour * np.array([0.42, 0.33, 0.27], np.float32) * np.asarray(rings, np.float32)[:, :, None]
    return replace(part, colour=mix(part.colour, dark, np.asarray(cover * 0.92, np.float32)))


def specks(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """Some specks of pigment close together, as they lie all over a speckled tablet."""
    unit, count = unit_of(part), 2 + round(7 * strength)
    centre = place_on(part, rng, 0.07)
    places = centre + rng.normal(0, 0.028 * unit, (9, 2))
    radii = rng.uniform(*SPECK_RADIUS, 9) * unit / 2
    return draw_specks(part, places[:count], radii[:count])


def draw_specks(part: Surface, places: NDArray[np.float64], radii: NDArray[np.float64]) -> Surface:
    """Specks at points `(n, 2)` with radii `(n,)`, both in pixels."""
    scale, shift = 3, 4
    height, width = part.height.shape
    canvas = np.zeros((height * scale, width * scale), np.uint8)
    centres = np.rint((places * scale + (scale - 1) / 2) * 2**shift).astype(int)
    for (x, y), radius in zip(centres.tolist(), radii.tolist(), strict=True):
        cv2.circle(canvas, (x, y), max(1, round(radius * scale * 2**shift)), 255, cv2.FILLED, cv2.LINE_AA, shift)
    cover = shrink(canvas, (height, width)) * part.inside
    return replace(part, colour=mix(part.colour, SPECK, np.asarray(cover * 0.85, np.float32)))


def band(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """The line around the middle where the halves of a capsule meet."""
    size = (part.height.shape[0], part.height.shape[1])
    x, y = grid(size)
    off = np.float32(rng.normal(0, 0.006))
    distance = np.abs(x - off - np.float32(0.02) * (y * y)) - np.float32(BAND_HALF_WIDTH)
    cover = soft_step(np.asarray(-distance, np.float32), 2 * pixel(size)) * part.inside
    colour = part.colour * (1 - np.float32(0.22 + 0.10 * strength) * cover)[:, :, None]
    groove = cover * np.float32((0.7 + 0.4 * strength) / 256 * min(size))
    return replace(part, colour=np.asarray(colour, np.float32), height=np.asarray(part.height - groove, np.float32))


def paint_dot(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A round dot of white paint, as one marks a tooth of a gear for assembly."""
    return paint_dot_at(part, place_on(part, rng, 0.055), rng, strength)


def paint_dot_at(part: Surface, centre: Points, rng: np.random.Generator, strength: float) -> Surface:
    """`paint_dot` at a point `(x, y)` in pixels."""
    radius = unit_of(part) / 2 * PAINT_RADIUS * (0.75 + 0.35 * strength)
    distance = oval(part, centre, radius, rng) + np.float32(0.06) * smooth_noise(rng, part.height.shape, 30)
    cover = np.asarray(np.clip((1.0 - distance) * radius / 1.6 + 0.5, 0, 1), np.float32)
    return replace(
        part, colour=mix(part.colour, PAINT, cover * np.float32(0.94)), height=part.height + cover * np.float32(0.4)
    )


def pinhole(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A small round hole with a dark inside and a sharp rim, from about 1 permille of the picture."""
    radius = unit_of(part) * (0.010 + 0.020 * strength)
    distance = oval(part, place_on(part, rng, 0.05), radius, rng)
    cover = np.asarray(np.clip((1.0 - distance) * radius / 1.4 + 0.5, 0, 1), np.float32)
    colour = part.colour * (1 - np.float32(0.72 + 0.2 * strength) * cover)[:, :, None]
    return replace(part, colour=np.asarray(colour, np.float32), height=part.height - cover * np.float32(1.6))


def rust(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A patch of rust: orange, rough and ragged."""
    radius = unit_of(part) * (0.030 + 0.045 * strength)
    distance = oval(part, place_on(part, rng, 0.05), radius, rng)
    distance = distance + np.float32(0.45) * fractal_noise(rng, part.height.shape, 12, 3)
    cover = np.asarray(np.clip((1.0 - distance) * 2.5, 0, 1) * (0.35 + 0.35 * strength), np.float32) * part.inside
    grain = smooth_noise(rng, part.height.shape, 90)
    tone = np.array([0.52, 0.25, 0.09], np.float32) * (1 + 0.22 * grain)[:, :, None]
    return replace(
        part, colour=mix(part.colour, np.asarray(tone, np.float32), cover), height=part.height + cover * grain * 0.6
    )


def spot(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A small dried drop: slightly darker, with a darker rim."""
    radius = unit_of(part) * (0.020 + 0.040 * strength)
    distance = oval(part, place_on(part, rng, 0.05), radius, rng)
    distance = distance + np.float32(0.18) * fractal_noise(rng, part.height.shape, 10, 2)
    patch = np.clip((1.0 - distance) * radius / 3.0, 0, 1)
    rim = patch * np.exp(-(((distance - 0.84) / 0.16) ** 2))
    weight = np.asarray(patch * (0.10 + 0.16 * strength) + rim * 0.12, np.float32)
    return replace(part, colour=np.asarray(part.colour * (1 - weight)[:, :, None], np.float32))


def glue(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A drop of clear glue: a bump with a wet look that hardly changes the colour."""
    radius = unit_of(part) * (0.030 + 0.040 * strength)
    distance = oval(part, place_on(part, rng, 0.06), radius, rng)
    distance = distance + np.float32(0.14) * fractal_noise(rng, part.height.shape, 8, 2)
    bump = np.sqrt(np.clip(1 - distance * distance, 0, 1))
    cover = np.asarray(np.clip((1 - distance) * 5, 0, 1), np.float32)
    wet = part.colour * np.float32(0.80) + np.float32(0.035)
    smooth = np.asarray(cv2.GaussianBlur(part.height, (0, 0), max(1.0, radius * 0.2)), np.float32)
    height = part.height + (smooth - part.height) * cover + bump * np.float32(radius * 0.30)
    return replace(part, colour=mix(part.colour, wet, cover), height=np.asarray(height, np.float32))


def chip(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A flake broken out of the surface: a pale hollow with corners."""
    radius = unit_of(part) * (0.012 + 0.036 * strength)
    centre = place_on(part, rng, 0.045)
    corners = np.sort(rng.uniform(0, 2 * np.pi, 7))
    ring = centre + radius * np.stack([np.cos(corners), np.sin(corners)], 1) * rng.uniform(0.65, 1.15, (7, 1))
    height, width = part.height.shape
    canvas = np.zeros((height * 3, width * 3), np.uint8)
    cv2.fillPoly(canvas, [np.rint(ring * 3 + 1).astype(np.int32)], 255, cv2.LINE_AA)
    cover = shrink(canvas, (height, width)) * part.inside
    rough = fractal_noise(rng, part.height.shape, 40, 2)
    bare = np.minimum(part.colour * np.float32(0.72) + np.float32(0.20), 1) * (1 + 0.06 * rough)[:, :, None]
    hollow = cover * (np.float32(1.4 + 1.2 * strength) + np.float32(0.5) * rough)
    return replace(
        part, colour=mix(part.colour, np.asarray(bare, np.float32), cover), height=np.asarray(part.height - hollow)
    )


def print_mark(part: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """Letters printed where none belong."""
    height, width = part.height.shape
    x, y = (place_on(part, rng, 0.10) - (width / 2, height / 2)) / (min(height, width) / 2)
    word = "".join(rng.choice(list("AEHKNSTXZ2358"), 3))
    cover = text_cover((height, width), word, float(x), float(y), 0.05 + 0.05 * strength) * part.inside
    return replace(part, colour=mix(part.colour, (0.88, 0.87, 0.84), np.asarray(cover * 0.85, np.float32)))
