"""Changes of light, focus, compression and position that a camera shows: named ones, and a random mild one.

Each change has a strength in a physical unit, 0 for none. What is drawn at random (a direction, brighter or darker, the noise) does
not depend on the strength: the same generator state gives the same change, weaker or stronger.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.imaging import Image, bgr_from_rgb, rgb_from_bgr

Floats = NDArray[np.float32]
Size = tuple[int, int]
Apply = Callable[[Floats, float, np.random.Generator, Size], Floats]
# Changes that `vary` draws from; those of light, which raise most alarms, are drawn twice as often.
VARIED = ("gain", "gain", "gamma", "gamma", "shading", "colour", "noise", "jpeg")


@dataclass(frozen=True)
class Variation:
    """One change of an image.

    Attributes:
        title: Name for people.
        unit: Unit of the number.
        label: Format of a strength's number for people, for example `±{0:g} %`.
        strengths: Five strengths to evaluate at, rising.
        mild: Strength up to which a line's ordinary pictures may be changed: the stated range of an evaluation, and the
            largest strength of `vary`.
        apply: Function from float32 values `(H, W, 3)` in 0..255, a strength, a generator and the image's size in pixels of
            the model's input to changed values, which may lie outside 0..255.
        for_grey: Whether the change exists for images without colour.
        number: Function from a strength to the number that people know it by.
    """

    title: str
    unit: str
    label: str
    strengths: tuple[float, ...]
    mild: float
    apply: Apply
    for_grey: bool = True
    number: Callable[[float], float] = float

    def text(self, strength: float) -> str:
        """A strength in its unit, for example `±20 %`."""
        return self.label.format(self.number(strength))


def change_image(image: Image, name: str, strength: float, random: np.random.Generator, input_size: Size) -> Image:
    """Change an image in one way.

    Args:
        image: Image `(H, W, 3)`, uint8, RGB, in its original size.
        name: Key of `VARIATIONS`.
        strength: Strength in the unit of the change, at least 0; 0 gives the image itself.
        random: Generator of what is drawn, see `generator_of`.
        input_size: `(height, width)` of the whole image in pixels of the model's input, the unit of shifts.

    Returns:
        `(H, W, 3)`, uint8, RGB.
    """
    if strength <= 0.0 or not _applies(VARIATIONS[name], image):
        return image
    return _rounded(VARIATIONS[name].apply(_floats(image), strength, random, input_size))


def vary(image: Image, random: np.random.Generator, strength: float, input_size: Size) -> Image:
    """Change an image as an ordinary line may, in light, noise or compression: one random change at the end of its stated range.

    Copies at the ends of the ranges teach a model more than copies of all strengths.

    Args:
        image: Image `(H, W, 3)`, uint8, RGB, in its original size.
        random: Generator of all choices.
        strength: Share of the stated range, at least 0; 0 gives the image itself.
        input_size: `(height, width)` of the whole image in pixels of the model's input, the unit of shifts.

    Returns:
        `(H, W, 3)`, uint8, RGB.
    """
    name = drawn_change(image, random)
    return change_image(image, name, strength * VARIATIONS[name].mild, random, input_size)


def drawn_change(image: Image, random: np.random.Generator) -> str:
    """Name of the change that `vary` makes to an image with a generator in this state."""
    usable = [name for name in VARIED if _applies(VARIATIONS[name], image)]
    return usable[random.integers(len(usable))]


def generator_of(seed: int, name: str, number: int) -> np.random.Generator:
    """Generator of a change of an image.

    Args:
        seed: Seed of the evaluation or training, at least 0.
        name: Name of the change or of the purpose.
        number: Number of the image, at least 0.
    """
    return np.random.default_rng((seed, zlib.crc32(name.encode()), number))


def is_grey(image: Image) -> bool:
    """Whether an image has no colour at all, as those of monochrome cameras."""
    return bool((image[:, :, 0] == image[:, :, 1]).all() and (image[:, :, 1] == image[:, :, 2]).all())


def _applies(variation: Variation, image: Image) -> bool:
    return variation.for_grey or not is_grey(image)


def _sign(random: np.random.Generator) -> float:
    return 1.0 if random.random() < 0.5 else -1.0


def _direction(random: np.random.Generator) -> tuple[float, float]:
    angle = random.uniform(0.0, 2.0 * np.pi)
    return float(np.cos(angle)), float(np.sin(angle))


def _warped(values: Floats, matrix: ArrayLike) -> Floats:
    size = (values.shape[1], values.shape[0])
    affine = np.asarray(matrix, np.float64)
    return _floats(cv2.warpAffine(values, affine, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))


def _shift(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    x, y = _direction(random)
    per_row, per_column = values.shape[0] / input_size[0], values.shape[1] / input_size[1]
    return _warped(values, [[1, 0, strength * x * per_column], [0, 1, strength * y * per_row]])


def _about_centre(values: Floats, angle: float, scale: float) -> Floats:
    centre = ((values.shape[1] - 1) / 2, (values.shape[0] - 1) / 2)
    return _warped(values, cv2.getRotationMatrix2D(centre, angle, scale))


def _rotation(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    return _about_centre(values, _sign(random) * strength, 1.0)


def _scale(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    return _about_centre(values, 0.0, 1.0 + _sign(random) * strength / 100)


def _shading(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    """Light that falls linearly across the image, by `strength` per cent of its mean from the brightest corner to the darkest."""
    x, y = _direction(random)
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in values.shape[:2])
    ramp = (np.float32(y) * rows[:, None] + np.float32(x) * columns[None]) / np.float32(abs(x) + abs(y))
    return _floats(values * (1 + np.float32(strength / 200) * ramp)[:, :, None])


def _colour(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    """Warmer or colder light: red and blue change by `strength` per cent in opposite directions."""
    change = _sign(random) * strength / 100
    return _floats(values * np.array([1 + change, 1, 1 - change], np.float32))


def _gain(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    return _floats(values * np.float32(1 + _sign(random) * strength / 100))


def _blur(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    return _floats(cv2.GaussianBlur(values, (0, 0), strength, borderType=cv2.BORDER_REFLECT))


def _motion(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    """Mean along a line of `strength` pixels, through the weights of a line drawn with sub-pixel ends."""
    x, y = _direction(random)
    half = strength / 2
    side = 2 * int(np.ceil(half)) + 1
    kernel = np.zeros((side, side), np.float32)
    for at in np.linspace(-half, half, 64):
        column, row = at * x + side // 2, at * y + side // 2
        left, top = int(np.floor(column)), int(np.floor(row))
        for i, in_row in ((top, top + 1 - row), (top + 1, row - top)):
            for j, in_column in ((left, left + 1 - column), (left + 1, column - left)):
                if in_row * in_column > 0:
                    kernel[min(i, side - 1), min(j, side - 1)] += in_row * in_column
    return _floats(cv2.filter2D(values, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT))


def _gamma(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    exponent = (1 + strength) ** _sign(random)
    return _floats(255 * (np.clip(values, 0, 255) / 255) ** np.float32(exponent))


def _noise(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    is_mono = bool((values[:, :, :1] == values).all())
    shape = (*values.shape[:2], 1) if is_mono else values.shape
    return _floats(values + np.float32(strength) * random.standard_normal(shape, dtype=np.float32))


def _jpeg(values: Floats, strength: float, random: np.random.Generator, input_size: Size) -> Floats:
    quality = round(100 - min(strength, 99))
    done, content = cv2.imencode(".jpg", bgr_from_rgb(_rounded(values)), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {values.shape} as JPEG")
    return _floats(rgb_from_bgr(np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)))


def _rounded(values: Floats) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _floats(array: ArrayLike) -> Floats:
    return np.asarray(array, np.float32)


# In the order of a camera: position of the part, light, lens and motion, sensor, compression.
VARIATIONS: Mapping[str, Variation] = {
    "shift": Variation("Shift", "px of the model's input", "{0:g} input px", (0.25, 0.5, 1, 2, 4), 0.5, _shift),
    "rotation": Variation("Rotation", "degrees, either way", "±{0:g}°", (0.25, 0.5, 1, 2, 4), 0.5, _rotation),
    "scale": Variation("Scale", "% larger or smaller", "±{0:g} %", (0.5, 1, 2, 4, 8), 1, _scale),
    "shading": Variation("Shading", "% of the mean, across the image", "{0:g} %", (5, 10, 20, 30, 40), 20, _shading),
    "colour": Variation(
        "Colour cast", "% red against blue", "±{0:g} %", (2, 5, 10, 15, 20), 5, _colour, for_grey=False
    ),
    "gain": Variation("Gain", "% brighter or darker", "±{0:g} %", (10, 20, 30, 40, 50), 30, _gain),
    "blur": Variation("Blur", "px of the image (sigma)", "sigma {0:g} px", (0.5, 1, 1.5, 2, 3), 0.5, _blur),
    "motion": Variation("Motion blur", "px of the image", "{0:g} px", (1, 2, 3, 5, 8), 1, _motion),
    "gamma": Variation(
        "Gamma",
        "exponent or its inverse",
        "{0:g} or 1/{0:g}",
        (0.1, 0.25, 0.4, 0.6, 1),
        0.25,
        _gamma,
        number=lambda strength: 1 + strength,
    ),
    "noise": Variation("Noise", "grey levels (sigma)", "sigma {0:g} of 255", (1, 2, 3, 5, 8), 2, _noise),
    "jpeg": Variation(
        "JPEG", "quality", "quality {0:g}", (5, 15, 25, 35, 50), 25, _jpeg, number=lambda strength: 100 - strength
    ),
}
