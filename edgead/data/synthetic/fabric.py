"""A woven cloth that fills the image: twill of two threads with uneven yarn."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.surface import Field, Size, Surface, fractal_noise, grid, smooth_noise

N_THREADS = 40
_YARNS = np.array([[0.40, 0.39, 0.37], [0.50, 0.47, 0.42]], np.float32)  # weft, warp
_TABLE = np.array([0.06, 0.06, 0.065], np.float32)


def draw_fabric(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """Draw one piece of cloth; a flaw tears a hole with frayed edges where `rng` puts it."""
    centre, extent = rng.uniform(-0.5, 0.5, 2).astype(np.float32), rng.uniform(0.07, 0.13, 2).astype(np.float32)
    phase = rng.uniform(0, 1, 2)
    wave = smooth_noise(rng, size, 4)
    x, y = grid(size)
    # Real yarn is not straight: both systems of threads wander a little.
    u = (x * np.float32(N_THREADS / 2) + np.float32(phase[0]) + 0.10 * wave).astype(np.float32)
    v = (y * np.float32(N_THREADS / 2) + np.float32(phase[1]) + 0.10 * wave[::-1]).astype(np.float32)
    u_index, v_index = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    u_offset, v_offset = u - u_index.astype(np.float32), v - v_index.astype(np.float32)
    warp_on_top = ((u_index + v_index) & 3) < 2
    across = np.where(warp_on_top, u_offset, v_offset) - np.float32(0.5)
    along = np.where(warp_on_top, v_offset, u_offset) - np.float32(0.5)
    bulge = 1.0 - 4.0 * across * across
    fuzz = rng.standard_normal(size, dtype=np.float32)
    tone = (0.50 + 0.46 * bulge - 0.30 * along * along) * _yarn(rng, u_index, v_index, warp_on_top) + 0.035 * fuzz
    tone *= np.float32(1.25 * rng.uniform(0.97, 1.03))
    colour = np.take(_YARNS, warp_on_top.view(np.uint8), axis=0) * tone[:, :, None]
    height = bulge * np.float32(0.55)
    if flaw:
        ragged = fractal_noise(rng, size, 30, 2)
        colour, height = _tear(colour, height, x - centre[0], y - centre[1], extent, ragged)
    inside = _everywhere(size)
    return Surface(colour.astype(np.float32), height.astype(np.float32), inside, gloss=0.05)


def _yarn(
    rng: np.random.Generator, u_index: NDArray[np.int32], v_index: NDArray[np.int32], warp_on_top: NDArray[np.bool_]
) -> Field:
    """Brightness of each thread: every one differs a little."""
    threads = 1.0 + 0.06 * rng.standard_normal((2, 256), dtype=np.float32)
    of_warp, of_weft = np.take(threads[0], u_index & 255), np.take(threads[1], v_index & 255)
    return np.asarray(np.where(warp_on_top, of_warp, of_weft), np.float32)


def _tear(
    colour: Field, height: Field, x: Field, y: Field, extent: NDArray[np.float32], ragged: Field
) -> tuple[Field, Field]:
    distance = np.hypot(x / extent[0], y / extent[1]) - 1.0 + 0.22 * ragged
    gone = np.clip(0.5 - distance * 8.0, 0, 1)[:, :, None]
    frayed = np.exp(-((distance - 0.12) ** 2) * 30.0)[:, :, None]
    torn = colour * (1.0 - 0.35 * frayed)
    return torn + (_TABLE - torn) * gone, height * (1.0 - gone[:, :, 0])


@lru_cache(maxsize=4)
def _everywhere(size: Size) -> Field:
    return np.ones(size, np.float32)
