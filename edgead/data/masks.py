"""Masks of defects, and the one rule that reads them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.data.dataset import Mask
from edgead.data.decoding import decode
from edgead.data.file_checks import read_content
from edgead.data.shapes import draw_shapes
from edgead.errors import DataError

FEW_VALUES = 16
MANY_COLOURS = 1024
_NEAR = 16  # of 255: values so close to black or white may be noise of a compressed mask


def read_mask(mask: Mask | Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read the ground truth of a defect: the union of its files and shapes.

    One rule reads every file. An alpha channel that varies is the mask; otherwise the largest colour channel counts.
    A file with at most 16 different values holds labels: every value but 0 marks the defect. A file with more values
    has soft edges: values above half of full scale mark the defect, or above half of the largest value where none
    reaches that far. A palette without black has its first colour as background.

    Args:
        mask: Files and shapes, or one file.
        size: `(height, width)` of the image in pixels.

    Returns:
        `(height, width)`, True where the part is defective.

    Raises:
        DataError: If a file cannot be read, is a photograph, or has another size than the image.
    """
    if isinstance(mask, Path):
        mask = Mask((mask,))
    if mask.size is not None and mask.size != size:
        raise _wrong_size(str(mask.origin), mask.size, size)
    marked = draw_shapes(mask.shapes, size)
    for path in mask.files:
        part = _read_file(path, mask.background)
        if part.shape != size:
            raise _wrong_size(str(path), (part.shape[0], part.shape[1]), size)
        marked |= part
    return marked


def is_empty(mask: Mask) -> bool:
    """Whether a mask marks nothing; its size is not compared with an image's.

    Raises:
        DataError: If a file cannot be read.
    """
    return not mask.shapes and not any(_read_file(path, mask.background).any() for path in mask.files)


def _read_file(path: Path, background: tuple[int, int, int] | None) -> NDArray[np.bool_]:
    content = read_content(path)
    decoded = decode(content, str(path))
    if decoded.ndim == 3 and decoded.shape[2] == 1:
        decoded = decoded[:, :, 0]
    if background is not None:
        colours = np.repeat(decoded[:, :, None], 3, axis=2) if decoded.ndim == 2 else decoded[:, :, 2::-1]
        return np.asarray((colours != np.array(background, decoded.dtype)).any(axis=2), np.bool_)
    if decoded.ndim == 3 and decoded.shape[2] == 4 and np.ptp(decoded[:, :, 3]) > 0:
        return _marked(decoded[:, :, 3], is_lossy=False)
    colours = decoded if decoded.ndim == 2 else decoded[:, :, :3]
    if colours.ndim == 3:
        _refuse_photograph(path, colours)
        first = _first_palette_colour(content)
        if first is not None and colours.any(axis=2).all():
            return np.asarray((colours[:, :, ::-1] != np.array(first, colours.dtype)).any(axis=2), np.bool_)
        colours = colours.max(axis=2)
    return _marked(colours, is_lossy=content.startswith(b"\xff\xd8"))


def _marked(values: NDArray[Any], *, is_lossy: bool) -> NDArray[np.bool_]:
    """Apply the rule of few and many values to one channel `(H, W)`."""
    levels = np.unique(values)
    full = _full_scale(levels)
    if not is_lossy and len(levels) <= FEW_VALUES and not _is_noisy(levels, full):
        return np.asarray(values != 0, np.bool_)
    peak = float(levels[-1])
    return np.asarray(values > (full if peak > full / 2 else peak) / 2, np.bool_)


def _full_scale(levels: NDArray[Any]) -> float:
    if np.issubdtype(levels.dtype, np.floating):
        return next((scale for scale in (1.0, 255.0) if levels[-1] <= scale), 65535.0)
    # 8-bit values are often saved in files of 16 bits
    return 255.0 if levels[-1] <= 255 else 65535.0


def _is_noisy(levels: NDArray[Any], full: float) -> bool:
    """Whether several values lie near black and several near white, as after a compression with losses."""
    near = _NEAR * full / 255
    low, high = levels[(levels > 0) & (levels < near)], levels[levels > full - near]
    return len(low) > 1 and len(high) > 1 and len(low) + len(high) + 1 >= len(levels)


def _refuse_photograph(path: Path, colours: NDArray[Any]) -> None:
    spread = np.ptp(colours.astype(np.float32), axis=2)
    if (spread > 8).mean() < 0.1:
        return  # grey
    if len(np.unique(colours.reshape(-1, 3), axis=0)) > MANY_COLOURS:
        raise DataError(
            f"The mask {path} has more than {MANY_COLOURS} colours: it is a photograph, or one with the defect painted on it.",
            hint="Export the mask alone: 0 where the part is good, another value where it is defective.",
        )


def _first_palette_colour(content: bytes) -> tuple[int, int, int] | None:
    """RGB of entry 0 of a PNG's palette; None for other files."""
    if not content.startswith(b"\x89PNG") or len(content) < 26 or content[25] != 3:
        return None
    position = 8
    while position + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        if content[position + 4 : position + 8] == b"PLTE" and length >= 3:
            return content[position + 8], content[position + 9], content[position + 10]
        position += 12 + length
    return None


def _wrong_size(name: str, found: tuple[int, int], size: tuple[int, int]) -> DataError:
    return DataError(
        f"The mask {name} is {found[1]} x {found[0]} px, but its image is {size[1]} x {size[0]} px.",
        hint="A mask must have the size of its image; export it again at that size.",
    )
