"""Defects of parts: each function changes a surface as the damage would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.surface import Field, Surface, fractal_noise, mix, smooth_noise, stroke

Defect = Callable[[Surface, np.random.Generator, float], Surface]
Points = NDArray[np.float64]
_LINT = ((0.92, 0.92, 0.90), (0.08, 0.08, 0.10), (0.75, 0.16, 0.14), (0.16, 0.30, 0.72))


def scratch(surface: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A slightly bent groove with bright bare material, deeper in some places than in others."""
    unit = unit_of(surface)
    length = rng.uniform(0.16, 0.30) + 0.22 * strength
    points = _bent_line(rng, place_on(surface, rng, 0.12), length * unit, bend=0.12)
    width = max(0.9, unit * (0.004 + 0.006 * strength))
    cover = stroke(surface.height.shape, points, width)
    cover *= np.clip(0.78 + 0.30 * smooth_noise(rng, surface.height.shape, 14), 0.25, 1)
    bare = np.minimum(surface.colour * 0.5 + 0.52, 1.0)
    colour = mix(surface.colour, bare, cover * np.float32(0.55 + 0.45 * strength))
    return replace(surface, colour=colour, height=surface.height - cover * np.float32(0.5 + 0.9 * strength))


def dent(surface: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A pressed-in oval with a raised lip: seen by its shading only."""
    unit = unit_of(surface)
    radius = unit * (0.030 + 0.030 * strength)
    distance = oval(surface, place_on(surface, rng, 0.06), radius, rng)
    bowl = np.exp(-0.5 * (distance / 0.55) ** 2) * np.float32(radius * (0.32 + 0.30 * strength))
    lip = np.exp(-0.5 * ((distance - 1.15) / 0.2) ** 2) * np.float32(radius * 0.05)
    return replace(surface, height=surface.height - bowl + lip)


def stain(surface: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A dried drop of oil: a ragged patch that is darker and browner, most of all at its rim."""
    unit = unit_of(surface)
    radius = unit * (0.05 + 0.055 * strength)
    distance = oval(surface, place_on(surface, rng, 0.08), radius, rng)
    distance = distance + 0.30 * fractal_noise(rng, surface.height.shape, 9, 3)
    patch = np.clip((1.0 - distance) * radius / 3.0, 0, 1)
    rim = patch * np.exp(-(((distance - 0.86) / 0.13) ** 2))
    cloudy = 1.0 + 0.16 * smooth_noise(rng, surface.height.shape, 16)
    weight = patch * cloudy * np.float32(0.28 + 0.34 * strength) + rim * np.float32(0.22)
    # On dark material oil shows as a brown film, on bright material as a darkening.
    film = surface.colour * np.array([0.58, 0.46, 0.30], np.float32) + np.array([0.055, 0.035, 0.01], np.float32)
    return replace(surface, colour=mix(surface.colour, film, np.clip(weight * 1.35, 0, 1).astype(np.float32)))


def crack(surface: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A fine dark jagged line, often with a branch or two."""
    unit, size = unit_of(surface), surface.height.shape
    start = place_on(surface, rng, 0.07)
    angle = rng.uniform(0, 2 * np.pi)
    trunk = walk(rng, start, angle, unit * (0.18 + 0.16 * strength), 0.65)
    cover = stroke(size, trunk, max(0.8, unit * (0.003 + 0.003 * strength)))
    for _ in range(int(rng.integers(3))):
        fork = trunk[int(rng.integers(len(trunk) // 4, 3 * len(trunk) // 4))]
        turn = angle + rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0)
        branch = walk(rng, fork, turn, unit * rng.uniform(0.05, 0.11), 0.65)
        cover = np.maximum(cover, stroke(size, branch, max(0.7, unit * 0.0028)))
    colour = mix(surface.colour, (0.035, 0.033, 0.033), cover * np.float32(0.62 + 0.36 * strength))
    return replace(surface, colour=colour, height=surface.height - cover * np.float32(0.9))


def fibre(surface: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A curled thread of lint lying on the part, with its shadow."""
    unit, size = unit_of(surface), surface.height.shape
    start = place_on(surface, rng, 0.10)
    curl = float(rng.uniform(-3.5, 3.5))
    points = walk(rng, start, rng.uniform(0, 2 * np.pi), unit * (0.20 + 0.22 * strength), 0.16, curl)
    width = max(0.9, unit * (0.0045 + 0.004 * strength))
    cover = stroke(size, points, width)
    shadow = cv2.GaussianBlur(stroke(size, points + 0.006 * unit, width * 1.3), (0, 0), max(0.6, 0.004 * unit))
    below = surface.colour[int(start[1]), int(start[0])]
    lint = sorted(_LINT, key=lambda colour: -float(np.abs(np.array(colour) - below).sum()))[int(rng.integers(2))]
    colour = surface.colour * (1.0 - np.float32(0.45) * np.asarray(shadow, np.float32)[:, :, None])
    colour = mix(colour, lint, cover * np.float32(0.75 + 0.25 * strength))
    # Lint lies on top: it bridges holes instead of ending at them.
    inside = np.maximum(surface.inside, cover)
    return replace(surface, colour=colour, height=surface.height + cover * np.float32(0.6), inside=inside)


def cut(surface: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A slit in cloth that gapes in its middle, with loose ends along it."""
    unit, size = unit_of(surface), surface.height.shape
    points = _bent_line(rng, place_on(surface, rng, 0.14), unit * (0.12 + 0.14 * strength), bend=0.05)
    gap = np.zeros(size, np.float32)
    for share in (1.0, 0.7, 0.4):
        rest = round(len(points) * (1 - share) / 2)
        line = points[rest : len(points) - rest]
        gap = np.maximum(gap, stroke(size, line, unit * (0.004 + 0.010 * strength) * (1.4 - share)))
    loose = np.clip(np.asarray(cv2.GaussianBlur(gap, (0, 0), 0.008 * unit), np.float32) * 2.2, 0, 1)
    loose *= np.clip(0.5 + 0.6 * smooth_noise(rng, size, 50), 0, 1)
    colour = mix(surface.colour, (0.74, 0.71, 0.66), loose * np.float32(0.7))
    return replace(surface, colour=mix(colour, (0.05, 0.05, 0.055), gap), height=surface.height * (1.0 - gap))


def crease(surface: Surface, rng: np.random.Generator, strength: float) -> Surface:
    """A fold pressed into cloth: a long soft ridge."""
    unit = unit_of(surface)
    points = _bent_line(rng, place_on(surface, rng, 0.2), unit * (0.34 + 0.3 * strength), bend=0.10)
    ridge = cv2.GaussianBlur(stroke(surface.height.shape, points, unit * 0.012), (0, 0), 0.010 * unit)
    lift = np.asarray(ridge, np.float32) * np.float32(unit * (0.020 + 0.018 * strength))
    worn = surface.colour * (1.0 + np.asarray(ridge, np.float32)[:, :, None] * np.float32(0.35 + 0.35 * strength))
    return replace(surface, colour=np.asarray(worn, np.float32), height=surface.height + lift)


def unit_of(surface: Surface) -> float:
    """Shorter side in pixels."""
    return float(min(surface.height.shape))


def place_on(surface: Surface, rng: np.random.Generator, margin: float) -> Points:
    """A random point `(x, y)` in pixels on the part, `margin` (share of the shorter side) away from its edges."""
    solid = np.pad((surface.inside > 0.99).astype(np.uint8), 1)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1]
    height, width = depth.shape
    reach = int(0.14 * min(height, width))  # the pose may shift the part: keep away from the image border
    depth[:reach], depth[height - reach :], depth[:, :reach], depth[:, width - reach :] = 0, 0, 0, 0
    places = np.flatnonzero(depth >= min(margin * unit_of(surface), 0.6 * float(depth.max())))
    index = int(places[int(rng.integers(len(places)))])
    return np.array([index % width, index // width], np.float64)


def oval(surface: Surface, centre: Points, radius: float, rng: np.random.Generator) -> Field:
    """Distance from `centre` in radii, along a random oval."""
    height, width = surface.height.shape
    angle, flat = rng.uniform(0, np.pi), rng.uniform(0.7, 1.0)
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(centre[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return np.asarray(np.hypot(x * cosine + y * sine, (y * cosine - x * sine) / np.float32(flat)) / radius, np.float32)


def _bent_line(rng: np.random.Generator, middle: Points, length: float, bend: float) -> Points:
    angle = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    t = np.linspace(-0.5, 0.5, 24)[:, None]
    return np.asarray(middle + length * (t * along + rng.uniform(-bend, bend) * (4 * t * t) * across))


def walk(
    rng: np.random.Generator, start: Points, angle: float, length: float, wobble: float, curl: float | None = None
) -> Points:
    """A path of 40 steps: jagged about a straight line, or curling smoothly by about `curl` radians in all."""
    turns = wobble * rng.standard_normal(40)
    heading = angle + (turns if curl is None else np.cumsum(turns + curl / 40))
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / 40)
    return np.vstack([start, start + np.cumsum(steps, axis=0)])
