"""A small circuit board: green solder mask, traces, tinned pads, chips, resistors and a silk screen."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.surface import Field, Size, Surface, grid, mix, shrink, smooth_noise

_SCALE = 3
_PINS = 8
_HEIGHT_STEPS = 50  # steps per pixel of height on an 8-bit canvas
_HALF = 0.82
_MASK, _TRACE, _TIN = (14, 82, 52), (26, 112, 70), (196, 198, 200)
_GOLD, _SILK, _HOLE = (206, 170, 92), (222, 226, 220), (9, 10, 11)
_CHIP, _PRINT = (38, 38, 41), (136, 138, 140)
# (x, y, half width, half height) in half sides of the image; the part that may be missing is one of _SMALL.
_CHIPS = ((-0.30, -0.26, 0.24, 0.24, "EA90"), (0.38, 0.30, 0.22, 0.15, "LM7"))
_SMALL = (
    (0.20, -0.58, True), (0.42, -0.58, True), (0.20, -0.40, True), (0.42, -0.40, False),
    (0.20, -0.20, True), (0.42, -0.20, False), (-0.60, 0.24, False), (-0.36, 0.24, True),
    (-0.60, 0.44, True), (-0.36, 0.44, True), (-0.12, 0.44, False), (-0.12, 0.24, True),
)  # fmt: skip
_TRACES = (
    ((-0.06, -0.40), (0.06, -0.40), (0.10, -0.58), (0.14, -0.58)), ((0.26, -0.58), (0.36, -0.58)),
    ((-0.06, -0.32), (0.08, -0.32), (0.12, -0.40), (0.14, -0.40)), ((0.26, -0.40), (0.36, -0.40)),
    ((-0.06, -0.16), (0.14, -0.20)), ((0.26, -0.20), (0.36, -0.20)), ((0.48, -0.20), (0.62, -0.08), (0.62, 0.22)),
    ((0.48, -0.40), (0.68, -0.34), (0.68, 0.38), (0.60, 0.38)), ((-0.30, -0.02), (-0.30, 0.10), (-0.36, 0.16), (-0.36, 0.24)),
    ((-0.40, -0.02), (-0.40, 0.08), (-0.60, 0.16), (-0.60, 0.24)), ((-0.20, -0.02), (-0.20, 0.12), (-0.12, 0.18), (-0.12, 0.24)),
    ((-0.60, 0.30), (-0.60, 0.40)), ((-0.36, 0.30), (-0.36, 0.40)), ((-0.12, 0.30), (-0.12, 0.40)),
    ((-0.06, 0.44), (0.08, 0.44), (0.10, 0.38), (0.16, 0.38)), ((-0.06, 0.24), (0.16, 0.24)),
    ((-0.60, 0.50), (-0.60, 0.68)), ((-0.36, 0.50), (-0.40, 0.68)), ((-0.12, 0.50), (-0.20, 0.68)),
    ((0.38, 0.50), (0.38, 0.58), (0.20, 0.68)), ((-0.54, -0.40), (-0.70, -0.40), (-0.72, -0.2), (-0.72, 0.5)),
)  # fmt: skip
_VIAS = ((0.10, -0.32), (0.62, -0.08), (-0.72, -0.2), (0.08, 0.06), (-0.06, 0.06), (0.66, 0.60), (0.04, -0.08))


def draw_board(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """Draw one board; a flaw leaves out a resistor or capacitor chosen by `rng`, with its pads bare."""
    component = int(rng.integers(len(_SMALL)))
    colour, height, inside = _design(size, component if flaw else None)
    tone = 1.0 + 0.025 * smooth_noise(rng, size, 5) + 0.02 * rng.standard_normal(size, dtype=np.float32)
    tint = np.float32(1.0) + 0.02 * rng.standard_normal(3, dtype=np.float32)
    return Surface((colour * tone[:, :, None] * tint).astype(np.float32), height, inside, gloss=0.35)


class _Drawing:
    """Canvas of three times the size, with lengths in half sides of the image."""

    def __init__(self, size: Size) -> None:
        height, width = size[0] * _SCALE, size[1] * _SCALE
        self.half = min(height, width) / 2
        self.centre = np.array([width / 2, height / 2])
        self.colour: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)
        self.height: NDArray[np.uint8] = np.zeros((height, width), np.uint8)
        self.inside: NDArray[np.uint8] = np.zeros((height, width), np.uint8)

    def at(self, x: float, y: float) -> tuple[int, int]:
        return round(self.centre[0] + x * self.half), round(self.centre[1] + y * self.half)

    def length(self, value: float) -> int:
        return max(1, round(value * self.half))

    def box(self, x: float, y: float, w: float, h: float, colour: tuple[int, int, int], height: float = 0.0) -> None:
        corners = self.at(x - w, y - h), self.at(x + w, y + h)
        cv2.rectangle(self.colour, *corners, colour, cv2.FILLED)
        if height:
            cv2.rectangle(self.height, *corners, round(height * _HEIGHT_STEPS), cv2.FILLED)

    def dot(self, x: float, y: float, r: float, colour: tuple[int, int, int]) -> None:
        cv2.circle(self.colour, self.at(x, y), self.length(r), colour, cv2.FILLED)

    def text(self, text: str, x: float, y: float, size: float, colour: tuple[int, int, int]) -> None:
        factor = self.half * size / 22
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, factor, 1)
        left, bottom = self.at(x, y)
        origin = (left - width // 2, bottom + height // 2)
        thickness = self.length(size * 0.13)
        cv2.putText(self.colour, text, origin, cv2.FONT_HERSHEY_SIMPLEX, factor, colour, thickness, cv2.LINE_AA)


@lru_cache(maxsize=32)
def _design(size: Size, missing: int | None) -> tuple[Field, Field, Field]:
    drawing = _Drawing(size)
    drawing.box(0, 0, _HALF, _HALF, _MASK, height=1.0)
    corners = drawing.at(-_HALF, -_HALF), drawing.at(_HALF, _HALF)
    cv2.rectangle(drawing.inside, *corners, 255, cv2.FILLED)
    _draw_copper(drawing)
    for index, (x, y, resistor) in enumerate(_SMALL):
        _draw_small(drawing, x, y, resistor=resistor, placed=index != missing)
        drawing.text(f"{'R' if resistor else 'C'}{index + 1}", x, y - 0.085, 0.034, _SILK)
    for x, y, w, h, name in _CHIPS:
        _draw_chip(drawing, x, y, w, h, name)
    drawing.text("EA-1 REV C", 0.48, 0.735, 0.042, _SILK)
    for x in (-0.72, 0.72):
        for y in (-0.72, 0.72):
            if (x, y) == (0.72, 0.72):
                continue
            drawing.dot(x, y, 0.075, _GOLD)
            drawing.dot(x, y, 0.046, _HOLE)
            cv2.circle(drawing.inside, drawing.at(x, y), drawing.length(0.044), 0, cv2.FILLED)
    relief = shrink(drawing.height, size) * np.float32(255 / _HEIGHT_STEPS * min(size) / 320)
    return shrink(drawing.colour, size), relief, shrink(drawing.inside, size)


def _draw_copper(drawing: _Drawing) -> None:
    for points in _TRACES:
        line = np.array([drawing.at(x, y) for x, y in points], np.int32)
        cv2.polylines(drawing.colour, [line], False, _TRACE, drawing.length(0.022))
    for x, y in _VIAS:
        drawing.dot(x, y, 0.026, _TIN)
        drawing.dot(x, y, 0.012, _HOLE)
    for index in range(5):
        drawing.dot(-0.60 + 0.20 * index, 0.70, 0.048, _GOLD)
        drawing.dot(-0.60 + 0.20 * index, 0.70, 0.022, _HOLE)


def _draw_small(drawing: _Drawing, x: float, y: float, *, resistor: bool, placed: bool) -> None:
    drawing.box(x - 0.06, y, 0.030, 0.042, _TIN)
    drawing.box(x + 0.06, y, 0.030, 0.042, _TIN)
    if not placed:
        return
    drawing.box(x, y, 0.066, 0.036, (208, 208, 204), height=2.6)
    drawing.box(x, y, 0.042, 0.036, (30, 30, 33) if resistor else (150, 118, 84), height=2.6)
    if resistor:
        drawing.text("103", x, y, 0.030, (196, 196, 192))


def _draw_chip(drawing: _Drawing, x: float, y: float, w: float, h: float, name: str) -> None:
    for index in range(_PINS):
        offset = (index - (_PINS - 1) / 2) * (2 * h / (_PINS + 0.5))
        for side in (-1, 1):
            drawing.box(x + side * (w + 0.028), y + offset, 0.034, 0.42 * h / _PINS, _TIN, height=1.6)
    drawing.box(x, y, w, h, _CHIP, height=4.0)
    drawing.text(name, x, y - 0.03, 0.060, _PRINT)
    drawing.text("2431", x, y + 0.07, 0.045, _PRINT)
    drawing.dot(x - w + 0.045, y - h + 0.045, 0.018, (20, 20, 22))


def solder_bridge(surface: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A blob of solder that joins two or three neighbouring pins of a chip."""
    size = (surface.height.shape[0], surface.height.shape[1])
    x, y, w, h, _ = _CHIPS[int(rng.integers(len(_CHIPS)))]
    first, side = int(rng.integers(_PINS - 1)), int(rng.choice((-1, 1)))
    pitch = 2 * h / (_PINS + 0.5)
    centre_y = y + (first + 0.5 - (_PINS - 1) / 2) * pitch
    grid_x, grid_y = grid(size)
    along = (grid_y - np.float32(centre_y)) / np.float32(pitch * (0.9 + 0.5 * strength))
    across = (grid_x - np.float32(x + side * (w + 0.034))) / np.float32(0.034 + 0.016 * strength)
    distance = np.hypot(along, across) + 0.12 * smooth_noise(rng, size, 20)
    blob = np.clip((1.0 - distance) * 4.0, 0, 1)
    dome = np.sqrt(np.clip(1.0 - distance * distance, 0, 1)) * np.float32(min(size) * 0.016)
    tin = tuple(value / 255 for value in _TIN)
    colour = mix(surface.colour, (tin[0], tin[1], tin[2]), blob.astype(np.float32))
    return replace(surface, colour=colour, height=(surface.height + dome).astype(np.float32))
