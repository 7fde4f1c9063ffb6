"""A tray with a kit of small parts that lie anywhere: what is right is how many there are of each, not where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.surface import Field, Size, Surface, fractal_noise, grid, mix, pixel, shrink, soft_step

KIT = {"washer": 4, "bolt": 3, "pin": 3, "clip": 2}
CELLS = 4
CELL, JITTER = 0.40, 0.045
PLASTIC = (0.30, 0.36, 0.42)
_SCALE = 3
Canvas = NDArray[np.uint8]


@dataclass(frozen=True)
class _Item:
    kind: str
    x: float
    y: float
    angle: float


@dataclass(frozen=True)
class _Look:
    """Drawing of an item in its own frame, colour, and how far it rises, in units of half the shorter side."""

    draw: Callable[[Canvas, Callable[[float, float], tuple[int, int]], Callable[[float], int]], None]
    colour: tuple[float, float, float]
    height: float


def draw_tray(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """Draw one kit; a flaw takes an item away, adds one, or puts one in the place of another kind."""
    cells = rng.permutation(CELLS * CELLS)
    kinds = [kind for kind, count in KIT.items() for _ in range(count)]
    items = [_placed(kind, int(cell), rng) for kind, cell in zip(kinds, cells, strict=False)]
    grain, cloud = rng.standard_normal(size, dtype=np.float32), fractal_noise(rng, size, 4, 2)
    tone, wear = float(rng.uniform(0.96, 1.04)), rng.uniform(0.94, 1.06, len(items) + 1)
    if flaw:
        items = _flawed(items, int(cells[len(items)]), flaw, rng)
    colour = np.broadcast_to(np.asarray(PLASTIC, np.float32), (*size, 3)) * np.float32(tone)
    colour = colour * (1.0 + 0.03 * cloud + 0.012 * grain)[:, :, None]
    relief = 0.04 * grain
    unit = 1.0 / pixel(size)
    for item, shine in zip(items, wear, strict=False):
        look = LOOKS[item.kind]
        covered = _covered(item, look, size)
        colour = mix(colour, tuple(value * float(shine) for value in look.colour), covered)  # type: ignore[arg-type]
        rounded = cv2.GaussianBlur(covered, (0, 0), max(0.6, 0.012 * unit))
        relief = relief + np.asarray(rounded, np.float32) * np.float32(look.height * unit)
    return Surface(colour.astype(np.float32), relief.astype(np.float32), _inside(size), gloss=0.4)


def _placed(kind: str, cell: int, rng: np.random.Generator) -> _Item:
    row, column = divmod(cell, CELLS)
    x, y = ((index - (CELLS - 1) / 2) * CELL + rng.uniform(-JITTER, JITTER) for index in (column, row))
    return _Item(kind, float(x), float(y), float(rng.uniform(0.0, 2.0 * np.pi)))


def _flawed(items: list[_Item], free_cell: int, flaw: str, rng: np.random.Generator) -> list[_Item]:
    changed = int(rng.integers(len(items)))
    other = str(rng.choice([kind for kind in KIT if kind != items[changed].kind]))
    if flaw == "missing_item":
        return items[:changed] + items[changed + 1 :]
    if flaw == "extra_item":
        return [*items, _placed(items[changed].kind, free_cell, rng)]
    item = items[changed]
    return [*items[:changed], _Item(other, item.x, item.y, item.angle), *items[changed + 1 :]]


def _covered(item: _Item, look: _Look, size: Size) -> Field:
    """Coverage of an item on the canvas of the tray."""
    height, width = size
    half = min(size) / 2.0
    canvas = np.zeros((height * _SCALE, width * _SCALE), np.uint8)
    cos, sin = np.cos(item.angle), np.sin(item.angle)

    def at(x: float, y: float) -> tuple[int, int]:
        along, across = item.x + cos * x - sin * y, item.y + sin * x + cos * y
        return round((along * half + width / 2) * _SCALE), round((across * half + height / 2) * _SCALE)

    look.draw(canvas, at, lambda value: max(1, round(value * half * _SCALE)))
    return shrink(canvas, size)


def _draw_washer(canvas: Canvas, at: Callable[[float, float], tuple[int, int]], length: Callable[[float], int]) -> None:
    cv2.circle(canvas, at(0, 0), length(0.115), 255, -1)
    cv2.circle(canvas, at(0, 0), length(0.055), 0, -1)


def _draw_bolt(canvas: Canvas, at: Callable[[float, float], tuple[int, int]], length: Callable[[float], int]) -> None:
    cv2.line(canvas, at(-0.05, 0), at(0.15, 0), 255, length(0.05))
    hexagon = [at(-0.09 + 0.065 * np.cos(a), 0.065 * np.sin(a)) for a in np.arange(6) * np.pi / 3]
    cv2.fillPoly(canvas, [np.array(hexagon, np.int32)], 255)


def _draw_pin(canvas: Canvas, at: Callable[[float, float], tuple[int, int]], length: Callable[[float], int]) -> None:
    cv2.line(canvas, at(-0.13, 0), at(0.13, 0), 255, length(0.055))


def _draw_clip(canvas: Canvas, at: Callable[[float, float], tuple[int, int]], length: Callable[[float], int]) -> None:
    corners = [at(x, y) for x, y in ((-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, 0.1))]
    cv2.fillPoly(canvas, [np.array(corners, np.int32)], 255)
    cv2.line(canvas, at(0.0, 0.0), at(0.14, 0.0), 0, length(0.06))


LOOKS = {
    "washer": _Look(_draw_washer, (0.62, 0.62, 0.60), 0.015),
    "bolt": _Look(_draw_bolt, (0.50, 0.51, 0.53), 0.05),
    "pin": _Look(_draw_pin, (0.66, 0.52, 0.22), 0.03),
    "clip": _Look(_draw_clip, (0.08, 0.08, 0.09), 0.03),
}


@lru_cache(maxsize=4)
def _inside(size: Size) -> Field:
    x, y = grid(size)
    edge = np.asarray(0.94 - np.maximum(np.abs(x), np.abs(y)), np.float32)
    return soft_step(edge, pixel(size))
