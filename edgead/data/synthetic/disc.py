"""A turned steel flange: concentric tool marks, a bore, six bolt holes, an engraved number."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from edgead.data.synthetic.surface import (
    Field,
    Size,
    Surface,
    distance_from,
    grid,
    pixel,
    shrink,
    smooth_noise,
    soft_step,
)

RADIUS, BORE, RING, HOLE = 0.84, 0.24, 0.56, 0.085
N_HOLES = 6
_STEEL = np.array([0.60, 0.615, 0.635], np.float32)


class _Design(NamedTuple):
    radius: Field
    sheen: Field
    inside: Field
    relief: Field
    engraving: Field


def draw_disc(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """Draw one flange; a flaw leaves out a bolt hole, chosen by `rng`."""
    hole = int(rng.integers(N_HOLES))
    design = _design(size, hole if flaw else None)
    marks = _tool_marks(rng, design.radius, size)
    tone = 1.0 + 0.075 * marks + 0.20 * design.sheen + 0.02 * smooth_noise(rng, size, 6)
    tone *= 1.0 - 0.38 * design.engraving
    colour = _STEEL * np.float32(rng.uniform(0.96, 1.04)) * tone[:, :, None]
    return Surface(colour.astype(np.float32), design.relief, design.inside, gloss=0.55)


def _tool_marks(rng: np.random.Generator, radius: Field, size: Size) -> Field:
    """Grooves of the lathe: random brightness over the radius, finer than the camera resolves at some radii."""
    profile = rng.standard_normal(4 * max(size), dtype=np.float32)
    profile = np.convolve(profile, np.array([0.25, 0.5, 0.25], np.float32), "same") * 1.6
    steps = np.minimum((radius * (len(profile) / 3.0)).astype(np.intp), len(profile) - 1)
    return np.asarray(np.take(profile, steps), np.float32)


@lru_cache(maxsize=16)
def _design(size: Size, missing_hole: int | None) -> _Design:
    x, y = grid(size)
    edge = pixel(size)
    radius = distance_from(size, 0, 0)
    inside = soft_step(RADIUS - radius, edge) * soft_step(radius - BORE, edge)
    relief = _chamfer(RADIUS - radius, 0.035) + _chamfer(radius - BORE, 0.03)
    # A shallow turned step between hub and rim.
    relief += soft_step(radius - 0.36, 0.02) * 0.016
    for index in range(N_HOLES):
        if index == missing_hole:
            continue
        angle = 2 * np.pi * (index + 0.5) / N_HOLES
        distance = distance_from(size, RING * np.cos(angle), RING * np.sin(angle))
        inside *= soft_step(distance - HOLE, edge)
        relief += _chamfer(distance - HOLE, 0.03)
    angle_of = np.arctan2(y, x)
    # Turned metal reflects a lamp as a bow tie: across the grooves, not along them.
    sheen = np.cos(2 * (angle_of - 0.9)) * 0.8 + np.cos(4 * (angle_of - 0.9)) * 0.3
    depth = (relief / edge).astype(np.float32)
    return _Design(radius, sheen.astype(np.float32), inside, depth, _engraving(size))


def _chamfer(distance: Field, width: float) -> Field:
    """Height of a bevelled edge: down by half its width at the edge itself."""
    return np.asarray(np.clip(distance, 0, width) * 0.5, np.float32)


def _engraving(size: Size) -> Field:
    scale = 3
    canvas = np.zeros((size[0] * scale, size[1] * scale), np.uint8)
    half = min(size) * scale / 2
    font, factor = cv2.FONT_HERSHEY_SIMPLEX, half * 0.0024
    for text, offset in (("FL-80", -0.70), ("316L", 0.74)):
        (width, height), _ = cv2.getTextSize(text, font, factor, 1)
        origin = (round(canvas.shape[1] / 2 - width / 2), round(canvas.shape[0] / 2 + offset * half + height / 2))
        cv2.putText(canvas, text, origin, font, factor, 255, max(1, round(half * 0.011)), cv2.LINE_AA)
    return shrink(canvas, size)
