"""Pills and capsules, of one shape and table, and hazelnuts."""

from __future__ import annotations

import numpy as np

from edgead.data.synthetic.kinds.marks import SPECK_RADIUS, band, draw_specks
from edgead.data.synthetic.kinds.shapes import capsule_distance, choose, dome, edge, surface, text_cover
from edgead.data.synthetic.surface import Field, Size, Surface, fractal_noise, grid, mix, pixel, smooth_noise, soft_step

HALF_LENGTH, RADIUS = 0.44, 0.31
_WHITE, _CREAM = (0.80, 0.79, 0.76), (0.80, 0.74, 0.62)
_PILLS = (_WHITE, _CREAM, (0.78, 0.66, 0.62))
# left half, right half; the first is that of the white pill
_CAPSULES = ((_WHITE, _WHITE), (_CREAM, (0.72, 0.36, 0.14)), ((0.55, 0.16, 0.13), _WHITE))
N_SPECKS = 34


def draw_pill(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A pressed tablet with specks of pigment all over; the flaw `no_specks` leaves them out in one half."""
    colour = choose(rng, _PILLS)
    half = min(size) / 2
    t, r = rng.uniform(-1, 1, N_SPECKS), rng.uniform(-1, 1, N_SPECKS)
    bare = rng.integers(2) * 2 - 1
    places = np.stack([t * (HALF_LENGTH + 0.6 * RADIUS), r * 0.86 * RADIUS], 1)
    kept = np.hypot(np.maximum(np.abs(places[:, 0]) - HALF_LENGTH, 0), places[:, 1]) < 0.9 * RADIUS
    if flaw == "no_specks":
        kept &= t * bare < 0.1
    grain = smooth_noise(rng, size, 80)
    blank = _body(size, colour * (1 + 0.015 * grain + 0.02 * fractal_noise(rng, size, 6, 2))[:, :, None], 0.10 * grain)
    middle = (size[1] / 2, size[0] / 2)
    radii = rng.uniform(*SPECK_RADIUS, N_SPECKS)
    return draw_specks(blank, (places * half + middle)[kept], (radii * half)[kept])


def draw_capsule(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A capsule of two halves with a band where they meet and a number; `misprint` smears and shifts the number."""
    left, right = _CAPSULES[int(rng.integers(len(_CAPSULES)))]
    tone = np.float32(rng.uniform(0.97, 1.03))
    seed = int(rng.integers(2**32))
    x, _ = grid(size)
    colour = mix(np.full((*size, 3), left, np.float32), right, soft_step(x, 2 * pixel(size))) * tone
    grain = smooth_noise(rng, size, 80)
    whole = _body(size, colour * (1 + 0.01 * fractal_noise(rng, size, 5, 2))[:, :, None], 0.03 * grain)
    whole = band(whole, np.random.default_rng(seed), 0.4)
    dark = 0.16 if float(np.mean(right)) > 0.5 else 0.92
    off = (0.05, 0.06) if flaw == "misprint" else (0.0, 0.0)
    number = text_cover(size, "5O" if flaw == "misprint" else "500", 0.30 + off[0], 0.0 + off[1], 0.135)
    colour = mix(whole.colour, (dark, dark, dark), np.asarray(number * 0.8, np.float32))
    return surface(colour, whole.height, whole.inside, 0.35)


def draw_hazelnut(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A nut in its shell: ribs that run from the tip to a pale base; no two have one outline."""
    x, y = grid(size)
    waves = rng.normal(0, (0.030, 0.022, 0.014), 3)
    turns = rng.uniform(0, 2 * np.pi, 3)
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    outline = np.float32(rng.uniform(0.56, 0.63)) * (1 + 0.07 * np.cos(angle) ** 3)
    for order, (wave, turn) in enumerate(zip(waves, turns, strict=True), start=2):
        outline = outline * (1 + np.float32(wave) * np.cos(order * angle + np.float32(turn)))
    share = np.asarray(radius / outline, np.float32)
    inside = edge(np.asarray((share - 1) * 0.6, np.float32), size)
    # ribs: noise over the angle as seen from the tip
    around = np.arctan2(y, x - np.float32(0.75))
    profile = np.repeat(rng.standard_normal(180, dtype=np.float32), 4)
    profile = np.asarray(np.convolve(profile, np.ones(5, np.float32) / 5, "same"), np.float32)
    ribs = np.take(profile, ((around + np.pi) / (2 * np.pi) * (len(profile) - 1)).astype(np.intp))
    shell = choose(rng, ((0.52, 0.31, 0.16), (0.43, 0.24, 0.12), (0.60, 0.40, 0.23)), 0.06)
    tone = 1 + 0.10 * ribs + 0.08 * fractal_noise(rng, size, 7, 3)
    base = np.clip((-x / outline - 0.52 + 0.07 * fractal_noise(rng, size, 6, 2)) * 7, 0, 1)
    rough = 1 + 0.13 * smooth_noise(rng, size, 60)
    colour = mix(
        shell * np.asarray(tone, np.float32)[:, :, None], (0.66, 0.53, 0.38), np.asarray(base * 0.8, np.float32)
    )
    colour = colour * np.where(base > 0.5, rough, 1)[:, :, None]
    return surface(colour, dome(share, 1.0, size, 0.42) + 0.10 * ribs, inside, 0.22)


def _body(size: Size, colour: Field, relief: Field) -> Surface:
    distance = capsule_distance(size, HALF_LENGTH)
    inside = edge(np.asarray(distance - RADIUS, np.float32), size)
    return surface(colour, dome(distance, RADIUS, size, 0.75) + relief, inside, 0.22)
