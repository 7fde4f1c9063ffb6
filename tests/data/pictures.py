"""Tiny photographs and masks for tests of what a folder holds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (24, 32)


def write_photo(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """An image with many colours, which depend on its path alone."""
    seed = int.from_bytes(path.as_posix().encode(), "big") % 2**32
    return write(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def write_mask(path: Path, *, box: tuple[int, int, int, int] | None = (4, 10, 6, 20), value: int = 255) -> Path:
    """A mask that is `value` in the rows and columns of `box`; without a box it is empty."""
    mask = np.zeros(SIZE, np.uint8)
    if box is not None:
        mask[box[0] : box[1], box[2] : box[3]] = value
    return write(path, mask)


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    """Write an array as OpenCV has it, BGR, in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), pixels)[1].tobytes())
    return path
