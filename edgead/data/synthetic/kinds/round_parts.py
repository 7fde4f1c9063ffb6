"""Round parts seen from above: bottles, gears and caps, and the cross-section of a cable."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgead.data.synthetic.cap import PLASTIC
from edgead.data.synthetic.cap import draw_cap as draw_blue_cap
from edgead.data.synthetic.kinds.marks import paint_dot_at
from edgead.data.synthetic.kinds.shapes import choose, edge, surface
from edgead.data.synthetic.surface import (
    Field,
    Size,
    Surface,
    distance_from,
    fractal_noise,
    grid,
    mix,
    pixel,
    smooth_noise,
    soft_step,
)

# plastics that gears and caps are moulded of; a gear may be of steel too
_PLASTICS = ((0.13, 0.33, 0.62), (0.62, 0.17, 0.14), (0.55, 0.56, 0.55))
_STEEL = (0.58, 0.595, 0.61)
N_TEETH, GEAR_RADIUS, _TOOTH = 40, 0.80, 0.055
_GLASSES = ((0.30, 0.15, 0.05), (0.10, 0.24, 0.12), (0.36, 0.41, 0.42))
_CABLES = ((0.22, 0.42, 0.20), (0.16, 0.30, 0.58), (0.46, 0.30, 0.18))
_RAYS = 720


def draw_gear(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A gear with a keyway and one dot of paint near its rim; `missing_tooth` breaks a tooth off, `no_dot` lacks paint."""
    colour = choose(rng, (*_PLASTICS, _STEEL))
    dot_seed, tooth = int(rng.integers(2**32)), int(rng.integers(N_TEETH))
    inside, relief = _gear(size, tooth if flaw == "missing_tooth" else None)
    tone = 1 + 0.018 * fractal_noise(rng, size, 3, 2)
    relief = relief + np.float32(0.05) * rng.standard_normal(size, dtype=np.float32)
    whole = surface(colour * tone[:, :, None], relief, inside, 0.5)
    if flaw == "no_dot":
        return whole
    height, width = size
    centre = np.array([width / 2 + 0.50 * min(size) / 2, height / 2])
    return paint_dot_at(whole, centre, np.random.default_rng(dot_seed), 0.55)


@lru_cache(maxsize=64)
def _gear(size: Size, missing: int | None) -> tuple[Field, Field]:
    x, y = grid(size)
    radius, angle = distance_from(size, 0, 0), np.arctan2(y, x)
    tooth = np.clip(0.5 + 1.3 * np.cos(N_TEETH * angle), 0, 1)
    if missing is not None:
        off = np.angle(np.exp(1j * (angle - 2 * np.pi * missing / N_TEETH)))
        tooth = np.where(np.abs(off) < np.pi / N_TEETH, 0, tooth)
    rim = np.asarray(GEAR_RADIUS - _TOOTH * (1 - tooth), np.float32)
    keyway = np.maximum(np.abs(y) - 0.035, np.abs(x - 0.21) - 0.06)
    hole = np.minimum(radius - 0.20, keyway)
    inside = edge(np.asarray(radius - rim, np.float32), size) * edge(np.asarray(-hole, np.float32), size)
    relief = -0.05 * soft_step(radius - 0.68, 0.03) + 0.022 * soft_step(np.asarray(0.34 - radius, np.float32), 0.04)
    relief += 0.022 * soft_step(np.asarray(0.07 - np.abs(radius - 0.50) - 0.02, np.float32), 0.035)
    relief += np.clip(rim - radius, 0, 0.02) * 0.6 + np.clip(hole, 0, 0.02) * 0.6
    return inside, np.asarray(relief / pixel(size), np.float32)


def draw_cap(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A moulded screw cap in one of three plastics."""
    colour = choose(rng, _PLASTICS, 0.0)
    cap = draw_blue_cap(rng, size, flaw=flaw)
    return surface(cap.colour * (colour / PLASTIC), cap.height, cap.inside, cap.gloss)


def draw_bottle(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """The mouth of a bottle; `broken_rim` breaks a piece out of it."""
    glass = choose(rng, _GLASSES, 0.05)
    angle, bite = float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(0.06, 0.15))
    radius = distance_from(size, 0, 0)
    uneven = smooth_noise(rng, size, 5)
    # body, shoulder, thread, lip, and the dark inside
    knots = (0.0, 0.30, 0.37, 0.40, 0.52, 0.55, 0.62, 0.66, 0.80, 0.86)
    tones = (0.20, 0.24, 0.30, 1.35, 1.55, 0.70, 0.62, 1.05, 0.90, 0.55)
    heights = (0.0, 0.0, 0.0, 0.08, 0.08, 0.03, 0.03, 0.02, -0.02, -0.12)
    tone = np.interp(radius, knots, tones) + 0.03 * uneven
    relief = np.interp(radius, knots, heights)
    sheen = _rays(rng, size) * np.clip(tone - 0.3, 0, 1)
    colour = glass * np.asarray(tone, np.float32)[:, :, None] + np.asarray(0.10 * sheen, np.float32)[:, :, None]
    inside = edge(np.asarray(radius - 0.86, np.float32), size)
    relief = relief / pixel(size) + 0.03 * uneven
    if flaw == "broken_rim":
        away = distance_from(size, 0.50 * np.cos(angle), 0.50 * np.sin(angle))
        ragged = np.asarray(away / bite - 1 + 0.28 * fractal_noise(rng, size, 12, 2), np.float32)
        gone = np.clip(0.5 - ragged * 6, 0, 1)
        fresh = np.asarray(glass * 0.55 + 0.10, np.float32) * (1 + 0.3 * smooth_noise(rng, size, 40))[:, :, None]
        colour = mix(np.asarray(colour, np.float32), np.asarray(fresh, np.float32), np.asarray(gone, np.float32))
        relief = relief - gone * 3
    return surface(np.asarray(colour, np.float32), np.asarray(relief, np.float32), inside, 0.45)


def _rays(rng: np.random.Generator, size: Size) -> Field:
    """Reflections on a round wall: bright and dark sectors."""
    x, y = grid(size)
    profile = np.convolve(np.repeat(rng.standard_normal(_RAYS // 40, dtype=np.float32), 40), np.ones(41) / 41, "same")
    steps = ((np.arctan2(y, x) + np.pi) / (2 * np.pi) * (_RAYS - 1)).astype(np.intp)
    return np.asarray(np.take(profile, steps), np.float32)


def draw_cable(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """Three wires of three colours in a sheath; `missing_wire` lacks one, `swapped` has one colour twice."""
    turn = float(rng.normal(0, 0.06))
    wrong = int(rng.integers(3))
    sheath = choose(rng, ((0.52, 0.53, 0.54), (0.16, 0.16, 0.17), (0.62, 0.60, 0.55)))
    radius = distance_from(size, 0, 0)
    uneven = smooth_noise(rng, size, 9)
    colour = np.asarray(sheath * (1 + 0.03 * uneven)[:, :, None], np.float32)
    hollow = edge(np.asarray(radius - 0.72, np.float32), size)
    colour = mix(colour, (0.05, 0.05, 0.055), hollow)
    height = 3.0 * (1 - hollow)
    tints = [np.array(tint, np.float32) * np.float32(rng.uniform(0.93, 1.07)) for tint in _CABLES]
    spots = rng.normal(0, 0.012, (3, 2))
    starts = rng.uniform(0, 2 * np.pi, 3)
    for index in range(3):
        if flaw == "missing_wire" and index == wrong:
            continue
        tint = tints[(index + 1) % 3] if flaw == "swapped" and index == wrong else tints[index]
        angle = turn + 2 * np.pi * index / 3 - np.pi / 2
        cx, cy = 0.375 * np.array([np.cos(angle), np.sin(angle)]) + spots[index]
        distance = distance_from(size, float(cx), float(cy))
        cover, core = (edge(np.asarray(distance - r, np.float32), size) for r in (0.318, 0.205))
        colour = mix(colour, np.asarray(tint, np.float32) * (1 + 0.04 * uneven)[:, :, None], cover)
        strands = _strands(size, float(cx), float(cy), float(starts[index]))
        copper = np.array([0.70, 0.42, 0.24], np.float32) * (0.45 + 0.65 * strands)[:, :, None]
        colour = mix(colour, np.asarray(copper, np.float32), core)
        height = height * (1 - cover) + cover * (3.0 + core * strands * 1.6)
    return surface(colour, height, edge(np.asarray(radius - 0.84, np.float32), size), 0.3)


def _strands(size: Size, cx: float, cy: float, turn: float) -> Field:
    """Ends of copper strands in a hexagonal packing, 0 between and 1 in the middle of each."""
    x, y = grid(size)
    total = np.zeros(size, np.float32)
    for index in range(3):
        angle = turn + index * np.pi / 3
        along = (x - np.float32(cx)) * np.float32(np.cos(angle)) + (y - np.float32(cy)) * np.float32(np.sin(angle))
        total += np.cos(np.float32(2 * np.pi / 0.072) * along)
    return np.asarray(np.clip((total + 1.0) / 4.0, 0, 1), np.float32)
