"""Pseudo-defects: small artificial changes to good images, to choose settings without any real defect."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.imaging import Image

Floats = NDArray[np.float32]
SIZE_RANGE = (0.02, 0.10)
MIN_SHARE = 2e-4
VISIBLE = 0.05
_ATTEMPTS = 20


def make_pseudo_defect(
    image: Image, donor: Image, random: np.random.Generator, size_range: tuple[float, float] = SIZE_RANGE
) -> tuple[Image, NDArray[np.bool_]]:
    """Change a small area of a good image; the kind of change is drawn at random.

    Follows CutPaste (Li et al., 2021, arXiv:2104.04015) with more kinds of change. Pseudo-defects serve to choose
    settings, never to train.

    Args:
        image: Good part, `(H, W, 3)`, uint8.
        donor: Another good image of any size, the source of pasted patches.
        random: Random generator for all choices.
        size_range: Smallest and largest size, as shares of the image's shorter side.

    Returns:
        The changed image, and its mask `(H, W)`: True where a pixel changed by more than 5 % of the image's contrast.
    """
    low, high = np.percentile(image, (2, 98))
    contrast = max(float(high - low), 20.0)
    kinds = list(KINDS)
    for _ in range(_ATTEMPTS):
        place = _Place(image, contrast, random, size_range)
        changed = KINDS[kinds[random.integers(len(kinds))]](image.astype(np.float32), donor, place)
        result = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        mask = np.abs(result.astype(np.int16) - image).max(axis=2) > VISIBLE * contrast
        if mask.mean() >= MIN_SHARE:
            break
    return result, mask


class _Place:
    """Random position and size of a change, and soft masks there."""

    def __init__(
        self, image: Image, contrast: float, random: np.random.Generator, size_range: tuple[float, float] = SIZE_RANGE
    ) -> None:
        self.random = random
        self.contrast = contrast
        self.height, self.width = image.shape[:2]
        self.side = min(self.height, self.width)
        self.y = int(self.height * random.uniform(0.08, 0.92))
        self.x = int(self.width * random.uniform(0.08, 0.92))
        self.size = float(self.side * np.exp(random.uniform(*np.log(size_range))))

    def blob(self) -> Floats:
        """Draw an ellipse with a soft edge: `(H, W, 1)`, 0..1."""
        mask = np.zeros((self.height, self.width), np.float32)
        axes = (
            max(1, int(self.size * self.random.uniform(0.5, 1))),
            max(1, int(self.size * self.random.uniform(0.5, 1))),
        )
        cv2.ellipse(mask, (self.x, self.y), axes, self.random.uniform(0, 180), 0, 360, 1.0, cv2.FILLED)
        return self.soften(mask, max(0.6, self.size * 0.12))

    def soften(self, mask: Floats, sigma: float) -> Floats:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32)[:, :, None]

    def step(self, low: float, high: float) -> float:
        """Draw a brightness change, darker or lighter, between two shares of the contrast."""
        return float(self.contrast * self.random.uniform(low, high) * self.random.choice((-1.0, 1.0)))


def _scratch(image: Floats, donor: Image, place: _Place) -> Floats:
    random = place.random
    angle, length = random.uniform(0, np.pi), place.side * random.uniform(0.06, 0.25)
    points, x, y = [], float(place.x), float(place.y)
    for _ in range(8):
        points.append((np.clip(x, 0, place.width - 1), np.clip(y, 0, place.height - 1)))
        angle += random.normal(0, 0.25)
        x, y = x + length / 7 * np.cos(angle), y + length / 7 * np.sin(angle)
    mask = np.zeros((place.height, place.width), np.float32)
    thickness = max(1, int(place.side * random.uniform(0.003, 0.012)))
    cv2.polylines(mask, [np.array(points, np.int32)], False, 1.0, thickness)
    return _floats(image + place.soften(mask, 0.6) * place.step(0.25, 0.7))


def _stain(image: Floats, donor: Image, place: _Place) -> Floats:
    return _floats(image + place.blob() * place.step(0.15, 0.5))


def _paste(image: Floats, donor: Image, place: _Place) -> Floats:
    height, width = (max(3, int(place.size * place.random.uniform(0.7, 1.4))) for _ in range(2))
    height, width = min(height, donor.shape[0], place.height), min(width, donor.shape[1], place.width)
    y0 = place.random.integers(donor.shape[0] - height + 1)
    x0 = place.random.integers(donor.shape[1] - width + 1)
    y, x = min(place.y, place.height - height), min(place.x, place.width - width)
    changed = image.copy()
    changed[y : y + height, x : x + width] = np.rot90(donor[y0 : y0 + height, x0 : x0 + width], 2)
    return _floats(changed)


def _grain(image: Floats, donor: Image, place: _Place) -> Floats:
    grain = place.random.normal(size=image.shape[:2]).astype(np.float32)
    grain = place.soften(grain, place.random.uniform(0.5, 2.0))
    strength = place.contrast * place.random.uniform(0.1, 0.35)
    return _floats(image + place.blob() * grain / grain.std() * strength)


def _blur(image: Floats, donor: Image, place: _Place) -> Floats:
    blurred = cv2.GaussianBlur(image, (0, 0), max(1.5, place.size * place.random.uniform(0.2, 0.5)))
    return _floats(image + place.blob() * (blurred - image))


def _grow(image: Floats, donor: Image, place: _Place) -> Floats:
    side = max(3, int(place.size * place.random.uniform(0.15, 0.5)) | 1)
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    change = cv2.erode if place.random.random() < 0.5 else cv2.dilate
    return _floats(image + place.blob() * (change(image, element) - image))


def _warp(image: Floats, donor: Image, place: _Place) -> Floats:
    blob = place.blob()[:, :, 0] * np.float32(place.size * place.random.uniform(0.3, 0.7))
    angle = place.random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[: place.height, : place.width].astype(np.float32)
    map_x, map_y = x + blob * np.float32(np.cos(angle)), y + blob * np.float32(np.sin(angle))
    return _floats(cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def _gap(image: Floats, donor: Image, place: _Place) -> Floats:
    reach = int(2 * place.size) + 1
    around = image[max(0, place.y - reach) : place.y + reach, max(0, place.x - reach) : place.x + reach]
    level = np.percentile(around, place.random.choice((5, 95)))
    return _floats(image + place.blob() * (level - image))


def _floats(array: ArrayLike) -> Floats:
    return np.asarray(array, np.float32)


KINDS: dict[str, Callable[[Floats, Image, _Place], Floats]] = {
    "scratch": _scratch,
    "stain": _stain,
    "paste": _paste,
    "grain": _grain,
    "blur": _blur,
    "grow": _grow,
    "warp": _warp,
    "gap": _gap,
}
