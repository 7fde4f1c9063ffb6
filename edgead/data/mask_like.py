"""Recognition of masks by their pixels: a photograph of a part has more than a few colours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgead.data.dataset import evenly_spaced
from edgead.data.decoding import decode
from edgead.data.file_checks import beginning_of, read_content
from edgead.data.image_header import read_header
from edgead.errors import DataError

Look = Literal["blank", "two values", "few values", "photograph", "unreadable"]
FEW_COLOURS = 16
_BYTES_PER_PIXEL = {"PNG": 0.4, "JPEG": 0.1}  # no mask takes more, and few photographs take less
_ALWAYS_DECODED = 16_384
_NEAR = 24
_MAX_THREADS = 4
MOST_LOOKED_AT = 2000
_NAMED_SAMPLE = 6


def look_of(path: Path) -> Look:
    """Kind of picture by its pixels.

    A JPEG counts by what it was before compression: nearly all pixels close to black or white are two values.

    Returns:
        `blank`: one colour; `two values`; `few values`: 3 to 16 colours; `photograph`: more; `unreadable`.
    """
    header = read_header(beginning_of(path, _ALWAYS_DECODED))
    try:
        if header is not None and header.kind in _BYTES_PER_PIXEL:
            most = _BYTES_PER_PIXEL[header.kind] * header.size[0] * header.size[1]
            if path.stat().st_size > max(_ALWAYS_DECODED, most):
                return "photograph"
        content = read_content(path)
        decoded = decode(content, str(path))
    except (OSError, DataError):
        return "unreadable"
    return _look(decoded, is_lossy=content.startswith(b"\xff\xd8"))


def looks_of(paths: Sequence[Path]) -> list[Look | None]:
    """Kinds of several pictures, on a few threads; of more than 2000 only as many, evenly spaced, are looked at.

    Returns:
        The kind of each picture; None for one that was not looked at.
    """
    if len(paths) > MOST_LOOKED_AT:
        chosen = evenly_spaced(range(len(paths)), MOST_LOOKED_AT)
        found = dict(zip(chosen, looks_of([paths[index] for index in chosen]), strict=True))
        return [found.get(index) for index in range(len(paths))]
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(look_of, paths))


def are_photographs(paths: Sequence[Path]) -> bool:
    """Whether a few images of a folder, evenly spaced, are all photographs and not soft masks in black and white."""
    sample = evenly_spaced(paths, _NAMED_SAMPLE)
    return bool(sample) and all(_is_photograph(path) for path in sample)


def are_mostly_photographs(paths: Sequence[Path]) -> bool:
    """Whether most of a few images, evenly spaced, are photographs; false for line art and other near-binary images."""
    sample = evenly_spaced(paths, _NAMED_SAMPLE)
    return sum(_is_photograph(path) for path in sample) > len(sample) / 2


def _is_photograph(path: Path) -> bool:
    try:
        decoded = decode(read_content(path), str(path))
    except DataError:
        return False
    if _look(decoded, is_lossy=False) != "photograph":
        return False
    if decoded.ndim == 3 and decoded.shape[2] == 4 and np.ptp(decoded[:, :, 3]) > 0:
        return False
    return _extreme_share(decoded) < 0.6


def _look(decoded: NDArray[np.generic], *, is_lossy: bool) -> Look:
    values = decoded.reshape(decoded.shape[0] * decoded.shape[1], -1)
    if is_lossy:
        step = max(1, min(decoded.shape[:2]) // 64)
        if _extreme_share(decoded[::step, ::step]) < 0.9 and np.ptp(decoded[::step, ::step]) > _NEAR // 4:
            return "photograph"
        if np.ptp(values) <= _NEAR // 4:
            return "blank"
        return "two values" if _extreme_share(decoded) > 0.97 else "photograph"
    # most photographs show it in their first pixels
    if _n_colours(values[:: max(1, len(values) // 4096)]) > FEW_COLOURS:
        return "photograph"
    n_colours = _n_colours(values)
    if n_colours > FEW_COLOURS:
        return "photograph"
    return "blank" if n_colours == 1 else "two values" if n_colours == 2 else "few values"


def _n_colours(values: NDArray[np.generic]) -> int:
    """Number of different rows `(N, channels)`."""
    # one number per colour is much faster to compare than a row
    if values.dtype.kind == "f":
        codes = values.astype(np.float64) @ np.array([1.0, 1.618034, 2.718282, 3.141593][: values.shape[1]])
    else:
        weights = np.array([1, 65_537, 1_048_583, 16_777_259][: values.shape[1]], np.uint64)
        codes = (values.astype(np.uint64) * weights).sum(axis=1)
    return len(np.unique(codes))


def _extreme_share(decoded: NDArray[np.generic]) -> float:
    """Share of pixels close to black or to the brightest value, in all channels."""
    values = decoded[:, :, :3].astype(np.float32) if decoded.ndim == 3 else decoded.astype(np.float32)[:, :, None]
    peak = max(float(values.max()), 1.0)
    near = _NEAR * peak / 255
    low, high = (values <= near).all(axis=2), (values >= peak - near).all(axis=2)
    return float((low | high).mean())
