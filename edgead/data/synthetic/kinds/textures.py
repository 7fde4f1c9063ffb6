"""Materials that fill the picture: wood, leather, cloth and mesh of one weave, stone tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.kinds.marks import knot_at
from edgead.data.synthetic.kinds.shapes import choose, stretched_noise, surface
from edgead.data.synthetic.surface import Field, Size, Surface, fractal_noise, grid, mix, pixel, smooth_noise, soft_step

# the second colours are those of the leather, the first of both weaves are the same
_WOODS = ((0.72, 0.53, 0.33), (0.47, 0.29, 0.17), (0.60, 0.44, 0.30))
_LEATHERS = ((0.58, 0.42, 0.28), (0.47, 0.29, 0.17), (0.34, 0.20, 0.13))
_THREADS = ((0.58, 0.53, 0.44), (0.42, 0.45, 0.48), (0.30, 0.36, 0.47))
_TILES = (
    ((0.55, 0.54, 0.52), (0.78, 0.77, 0.74), (0.20, 0.20, 0.21)),
    ((0.66, 0.57, 0.47), (0.82, 0.76, 0.68), (0.34, 0.25, 0.20)),
    ((0.33, 0.35, 0.37), (0.58, 0.60, 0.60), (0.12, 0.13, 0.14)),
)
_GROUND = np.array([0.07, 0.07, 0.075], np.float32)
N_THREADS = 26
_CLOSED, _OPEN = 0.48, 0.30


def draw_wood(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A planed board with one to three knots."""
    colour = choose(rng, _WOODS, 0.06)
    x, y = grid(size)
    height, width = size
    n_knots = int(rng.integers(1, 4))
    places = rng.uniform(0.12, 0.88, (3, 2)) * (width, height)
    bend = stretched_noise(rng, size, 4, 2) * np.float32(0.07) + stretched_noise(rng, size, 12, 3) * np.float32(0.012)
    for px, py in places[:n_knots]:
        kx, ky = (px - width / 2) * pixel(size), (py - height / 2) * pixel(size)
        near = np.exp(-(((x - np.float32(kx)) / 0.10) ** 2) - ((y - np.float32(ky)) / 0.26) ** 2)
        bend = bend + np.sign(x - np.float32(kx)) * near * np.float32(0.05)
    rings = (x + bend) * np.float32(rng.uniform(7, 13)) + np.float32(rng.uniform(0, 1))
    late = (rings - np.floor(rings)) ** 3
    pores = stretched_noise(rng, size, max(size), max(size) // 14)
    tone = 1.06 - 0.26 * late + 0.045 * pores + 0.05 * stretched_noise(rng, size, 5, 2)
    board = surface(colour * np.asarray(tone, np.float32)[:, :, None], pores * np.float32(0.12), _full(size), 0.08)
    sizes = rng.uniform(0.1, 0.9, 3)
    for place, strength in zip(places[:n_knots], sizes, strict=False):
        board = knot_at(board, place, rng, float(strength))
    return board


def draw_leather(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """Grained leather."""
    colour = choose(rng, _LEATHERS, 0.06)
    cells = int(rng.integers(34, 46))
    ridges = np.abs(smooth_noise(rng, size, cells)) + np.float32(0.6) * np.abs(smooth_noise(rng, size, 2 * cells))
    grain = np.asarray(np.minimum(ridges, 1.1), np.float32)
    tone = 0.82 + 0.22 * grain + 0.05 * fractal_noise(rng, size, 3, 3)
    return surface(colour * np.asarray(tone, np.float32)[:, :, None], grain * np.float32(0.85), _full(size), 0.22)


def draw_fabric(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A closed weave; the flaw `opening` spreads its threads as they are in the mesh of `draw_grid`."""
    return _weave(rng, size, _CLOSED, _OPEN if flaw == "opening" else None)


def draw_grid(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """An open mesh of the threads of `draw_fabric`; `closed` closes it in places, `broken` and `bent` change threads."""
    return _weave(rng, size, _OPEN, _CLOSED if flaw == "closed" else None, broken=flaw == "broken", bent=flaw == "bent")


def _weave(
    rng: np.random.Generator,
    size: Size,
    half: float,
    other: float | None,
    *,
    broken: bool = False,
    bent: bool = False,
) -> Surface:
    """Plain weave.

    Args:
        rng: Random generator.
        size: `(height, width)`.
        half: Half the width of a thread, in pitches.
        other: The same in one small place; None for none.
        broken: Leave out a piece of one thread.
        bent: Push some threads aside.
    """
    threads = np.float32(N_THREADS / 2)
    colour = choose(rng, _THREADS, 0.05)
    phase = rng.uniform(0, 1, 2)
    wave = smooth_noise(rng, size, 4)
    centre, reach = rng.uniform(-0.66, 0.66, 2).astype(np.float32), float(rng.uniform(0.9, 2.4))
    x, y = grid(size)
    u = x * threads + np.float32(phase[0]) + 0.08 * wave
    v = y * threads + np.float32(phase[1]) + 0.08 * wave[::-1]
    yarn = np.float32(1) + 0.07 * rng.standard_normal((2, 64), dtype=np.float32)
    fuzz = rng.standard_normal(size, dtype=np.float32)
    far = np.maximum(np.abs(x - centre[0]), np.abs(y - centre[1])) * threads
    if bent:
        near = np.exp(-(((x - centre[0]) * threads / 1.3) ** 2) - ((y - centre[1]) * threads / (1 + reach)) ** 2)
        u = u + near * np.float32(0.55)
    width: Field | np.float32 = np.float32(half)
    if other is not None:
        width = np.asarray(half + (other - half) * np.clip(reach + 0.5 - far, 0, 1), np.float32)
    (u_index, u_off), (v_index, v_off) = _cells(u), _cells(v)
    soft = float(threads) * pixel(size) * 1.4
    warp, weft = soft_step(width - np.abs(u_off), soft), soft_step(width - np.abs(v_off), soft)
    if broken:
        own = u_index == np.floor(centre[0] * threads + np.float32(phase[0]))
        warp = warp * (1 - own * np.clip(reach + 0.8 - np.abs(y - centre[1]) * threads, 0, 1))
    over = ((u_index + v_index) & 1) == 0
    bulge_u, bulge_v = 1 - (u_off / width) ** 2, 1 - (v_off / width) ** 2
    tone_u = (0.62 + 0.48 * bulge_u) * np.take(yarn[0], u_index & 63)
    tone_v = (0.62 + 0.48 * bulge_v) * np.take(yarn[1], v_index & 63)
    # the lower thread is in the shadow of the upper one
    upper, lower = np.where(over, warp, weft), np.where(over, weft, warp)
    upper_tone, lower_tone = np.where(over, tone_u, tone_v), np.where(over, tone_v, tone_u)
    cloth = np.broadcast_to(_GROUND, (*size, 3))
    grain = (1 + 0.05 * fuzz)[:, :, None]
    cloth = mix(np.asarray(cloth), colour * np.asarray(lower_tone * 0.72, np.float32)[:, :, None] * grain, _f(lower))
    cloth = mix(cloth, colour * np.asarray(upper_tone, np.float32)[:, :, None] * grain, _f(upper))
    height = np.maximum(upper * np.where(over, bulge_u, bulge_v), 0.4 * lower) * 0.9
    return surface(cloth, _f(height), _full(size), 0.05)


def draw_tile(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A polished tile of speckled stone."""
    base, light, dark = _TILES[int(rng.integers(len(_TILES)))]
    colour = np.asarray(np.array(base, np.float32) * np.float32(rng.uniform(0.94, 1.06)), np.float32)
    stone = colour * (1 + 0.04 * fractal_noise(rng, size, 4, 3))[:, :, None]
    for tint, cells, level in ((light, 22, 0.9), (dark, 34, 1.05), (light, 70, 1.3), (dark, 90, 1.3)):
        field = smooth_noise(rng, size, cells)
        stone = mix(stone, tint, _f(np.clip((field - level) * 4, 0, 1) * 0.75))
    return surface(stone, 0.04 * smooth_noise(rng, size, 60), _full(size), 0.5)


def _cells(value: Field) -> tuple[NDArray[np.int32], Field]:
    index = np.floor(value)
    return index.astype(np.int32), np.asarray(value - index - np.float32(0.5), np.float32)


def _f(value: NDArray[np.floating]) -> Field:
    return np.asarray(value, np.float32)


def _full(size: Size) -> Field:
    return np.ones(size, np.float32)
