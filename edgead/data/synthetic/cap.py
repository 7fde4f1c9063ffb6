"""A moulded screw cap: knurled rim, raised ring, embossed mark, fine mould grain."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from edgead.data.synthetic.surface import (
    Field,
    Size,
    Surface,
    distance_from,
    fractal_noise,
    grid,
    pixel,
    shrink,
    smooth_noise,
    soft_step,
)

RADIUS, N_RIBS = 0.80, 44
_RIB_DEPTH = 0.035
PLASTIC = np.array([0.13, 0.33, 0.62], np.float32)


def draw_cap(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """Draw one cap; a flaw breaks a piece out of the rim, at an angle chosen by `rng`."""
    angle, depth, span = rng.uniform(-np.pi, np.pi), rng.uniform(0.13, 0.24), rng.uniform(0.14, 0.26)
    inside, relief = _design(size)
    grain = rng.standard_normal(size, dtype=np.float32)
    flow = fractal_noise(rng, size, 3, 2)
    relief = relief + np.float32(0.05) * grain
    tone = 1.0 + 0.018 * flow
    colour = PLASTIC * np.float32(rng.uniform(0.96, 1.04)) * tone[:, :, None]
    if flaw:
        ragged = smooth_noise(rng, size, 24)
        left = _left_of_break(size, float(angle), float(depth), float(span), ragged)
        relief = relief + np.clip(left, 0, 3) * np.float32(0.9)
        inside = inside * np.clip(left + 0.5, 0, 1)
    return Surface(colour.astype(np.float32), relief.astype(np.float32), inside, gloss=0.5)


@lru_cache(maxsize=8)
def _design(size: Size) -> tuple[Field, Field]:
    x, y = grid(size)
    edge = pixel(size)
    radius = distance_from(size, 0, 0)
    ribs = np.asarray(0.5 + 0.5 * np.cos(N_RIBS * np.arctan2(y, x)), np.float32)
    rim = RADIUS - _RIB_DEPTH * (1 - ribs) ** 2
    inside = soft_step(rim - radius, edge)
    # Skirt falling outward, a rounded shoulder, a plateau, a raised ring and a dished middle.
    relief = -0.30 * np.clip(radius - 0.66, 0, 1) + 0.012 * ribs * soft_step(radius - 0.67, 0.03)
    relief += -0.02 * soft_step(radius - 0.62, 0.06)
    relief += 0.022 * soft_step(0.07 - np.abs(radius - 0.50), 0.035)
    relief += -0.016 * soft_step(0.40 - radius, 0.05)
    relief += 0.016 * cv2.GaussianBlur(_mark(size), (0, 0), max(0.5, 0.004 / edge))
    gate = distance_from(size, 0, 0.27)  # where the plastic was injected: a small pip
    relief += 0.014 * np.exp(-((gate / 0.022) ** 2)) - 0.006 * np.exp(-((gate / 0.055) ** 2))
    return inside, np.asarray(relief / edge, np.float32)


def _mark(size: Size) -> Field:
    """The embossed sign: a triangle of recycling with the resin's number."""
    scale = 3
    canvas = np.zeros((size[0] * scale, size[1] * scale), np.uint8)
    half = min(size) * scale / 2
    centre = np.array([canvas.shape[1], canvas.shape[0]]) / 2
    corners = np.array([[0.0, -0.24], [0.208, 0.12], [-0.208, 0.12]]) * half + centre
    cv2.polylines(canvas, [np.rint(corners).astype(np.int32)], True, 255, max(1, round(half * 0.028)), cv2.LINE_AA)
    (width, height), _ = cv2.getTextSize("5", cv2.FONT_HERSHEY_DUPLEX, half * 0.0052, 1)
    origin = (round(centre[0] - width / 2), round(centre[1] + height / 2 - 0.01 * half))
    thickness = max(1, round(half * 0.02))
    cv2.putText(canvas, "5", origin, cv2.FONT_HERSHEY_DUPLEX, half * 0.0052, 255, thickness, cv2.LINE_AA)
    return shrink(canvas, size)


def _left_of_break(size: Size, angle: float, depth: float, span: float, ragged: Field) -> Field:
    """Distance in pixels from a bite out of the rim; negative where material is gone."""
    x, y = grid(size)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)) - np.float32(RADIUS)
    across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    distance = np.hypot(along / np.float32(depth), across / np.float32(span)) - 1.0 + 0.10 * ragged
    return np.asarray(distance * min(depth, span) / pixel(size), np.float32)
