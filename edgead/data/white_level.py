"""White level of images of more than 8 bits: the value that becomes 255."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LEVELS = (255, 1023, 4095, 16383, 65535, 2**24 - 1, 2**31 - 1)
FLOAT_LEVELS = (1, *LEVELS)
_SHARE_OF_PIXELS = 0.001
_LEAST_PIXELS = 4
_SHARE_OF_IMAGES = 0.75
_NAMED = 3


@dataclass(frozen=True)
class Depth:
    """Brightness of an image of more than 8 bits.

    Attributes:
        name: Name of the image.
        class_name: Class of the image.
        is_float: Whether its values are floats.
        peak: Value of `robust_peak`.
        largest: Largest value.
    """

    name: str
    class_name: str
    is_float: bool
    peak: float
    largest: float


@dataclass(frozen=True)
class WhiteLevels:
    """White levels of a set of images.

    Attributes:
        integer: White level of integers; 255 if all images have 8 bits.
        floating: White level of floats; None if no image has floats.
        notes: Sentences for the user; none if all images have 8 bits.
    """

    integer: float
    floating: float | None
    notes: tuple[str, ...]


def robust_peak(array: NDArray[Any]) -> float:
    """Brightness that at most one pixel in a thousand exceeds, without single bright pixels, rows and columns.

    Args:
        array: Image `(H, W)` or `(H, W, C)` of integers or floats, of at least 3 x 3 px.
    """
    brightest = array if array.ndim == 2 else array[:, :, :3].max(axis=2)
    if brightest.dtype != np.uint16:
        brightest = brightest.astype(np.float32)
    # a stuck pixel, row or column of a sensor is less than half of any 3 x 3 px inside the image
    inside = cv2.medianBlur(np.ascontiguousarray(brightest), 3)[1:-1, 1:-1].ravel()
    rank = max(0, inside.size - 1 - max(_LEAST_PIXELS, int(inside.size * _SHARE_OF_PIXELS)))
    return float(np.partition(inside, rank)[rank])


def smallest_level(peak: float, levels: Sequence[int] = LEVELS) -> int:
    """Smallest white level that holds a brightness.

    >>> smallest_level(900.0), smallest_level(1024.0)
    (1023, 4095)
    """
    return next((level for level in levels if peak <= level), levels[-1])


def find_white_levels(depths: Sequence[Depth], setting: float | None = None) -> WhiteLevels:
    """Choose the white levels of a set of images.

    A level holds the brightness of three quarters of the images of each class, so that a few overexposed images, or
    files of another camera, do not make all others darker.

    Args:
        depths: Brightness of every image of more than 8 bits.
        setting: White level that the user chose; None = choose.
    """
    integers = [depth for depth in depths if not depth.is_float]
    floats = [depth for depth in depths if depth.is_float]
    integer = setting or _level(integers, LEVELS, 255)
    floating = (setting or _level(floats, FLOAT_LEVELS, 1)) if floats else None
    notes = [*_notes(integers, integer, "integers of more than 8 bits", setting)]
    if floating is not None:
        notes += _notes(floats, floating, "floats", setting)
    return WhiteLevels(integer, floating, tuple(notes))


def _level(depths: Sequence[Depth], levels: Sequence[int], default: int) -> int:
    needed: dict[str, list[int]] = defaultdict(list)
    for depth in depths:
        needed[depth.class_name].append(smallest_level(depth.peak, levels))
    chosen = [sorted(values)[int(np.ceil(_SHARE_OF_IMAGES * len(values))) - 1] for values in needed.values()]
    return max(chosen, default=default)


def _notes(depths: Sequence[Depth], level: float, kind: str, setting: float | None) -> list[str]:
    if not depths:
        return []
    origin = "as set" if setting else "from the brightness of most of them"
    notes = [
        f"{len(depths)} {'image holds' if len(depths) == 1 else 'images hold'} {kind}: 0 becomes black and {level:g} white, "
        f"{origin} (data.white_level)."
    ]
    above = [depth for depth in depths if depth.largest > level]
    if above:
        largest = max(depth.largest for depth in above)
        names = ", ".join(depth.name for depth in above[:_NAMED])
        more = f" and {len(above) - _NAMED} more" if len(above) > _NAMED else ""
        notes.append(
            f"Warning: {len(above)} of {len(depths)} images {'has' if len(above) == 1 else 'have'} values above the white "
            f"level {level:g}, up to {largest:g}, which become white: {names}{more}. Dead pixels do no harm; if it is the "
            "part, set data.white_level."
        )
    return notes
