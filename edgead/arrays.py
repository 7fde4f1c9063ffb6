"""Reading and writing `.npz` files, which may be damaged or hostile: sizes are checked before anything is decompressed.

Images are stored as differences of neighbouring pixels and channels, modulo 256, which compress to about half.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgead.errors import EdgeadError

# All arrays of one file together; the largest bundle has a few hundred megabytes of images.
MAX_BYTES = 4 << 30
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


# Added to the name of an array of images that is stored as differences.
DIFFERENCES = ".differences"


class DamagedArraysError(EdgeadError):
    """File of arrays that is damaged, incomplete or larger than allowed."""


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, level: int = 6) -> None:
    """Write a compressed `.npz` file for `load_arrays`; images `(..., H, W, 3)` uint8 become differences.

    Args:
        path: The file.
        arrays: Arrays by name.
        level: Effort of the compression, 1..9. Images at 1 are 6 % larger than at 6 and take a quarter of its time.

    Raises:
        OSError: If the file cannot be written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, value in arrays.items():
            is_image = value.dtype == np.uint8 and value.ndim >= 3 and value.shape[-1] == 3
            stored = f"{name}{DIFFERENCES}" if is_image else name
            with archive.open(f"{stored}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _differences(value) if is_image else value, allow_pickle=False)


def load_arrays(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), max_bytes: int = MAX_BYTES
) -> dict[str, NDArray[Any]]:
    """Read arrays of an `.npz` file; pickled objects are refused.

    Args:
        path: The file.
        names: Arrays to read.
        optional: Arrays to read if they are there.
        max_bytes: Largest size of these arrays together, uncompressed.

    Raises:
        DamagedArraysError: If the file is damaged, an array is missing, or the arrays are larger than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                info.filename.removesuffix(".npy").removesuffix(DIFFERENCES): info for info in archive.infolist()
            }
            missing = [name for name in names if name not in members]
            if missing:
                raise ValueError(f"it has no array {', '.join(missing)}")
            wanted = {name: members[name] for name in (*names, *optional) if name in members}
            total = sum(info.file_size for info in wanted.values())
            if total > max_bytes:
                raise ValueError(f"its arrays have {total / 1e6:.0f} MB, at most {max_bytes / 1e6:.0f} MB are allowed")
            found = {}
            for name, info in wanted.items():
                with archive.open(info) as member:
                    found[name] = _read_array(member, name, info.file_size)
                if info.filename.removesuffix(".npy").endswith(DIFFERENCES):
                    found[name] = _summed(found[name], name)
            return found
    except (*_DAMAGE, MemoryError) as error:
        text = str(error).strip().split("\n")[0] or type(error).__name__
        raise DamagedArraysError(f"{path} cannot be read: {text}.", hint="Copy the file again.") from error


def _read_array(member: IO[bytes], name: str, size: int) -> NDArray[Any]:
    """Read a member in the `.npy` format whose header states as many bytes as follow it."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array {name} has the format {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(member)
    if dtype.hasobject:
        raise ValueError(f"array {name} holds Python objects")
    stated, present = math.prod(shape) * dtype.itemsize, size - member.tell()
    if min(shape, default=0) < 0 or stated != present:
        raise ValueError(f"array {name} states {stated} bytes, but has {present}")
    values = np.frombuffer(bytearray(member.read()), dtype)
    return values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)


def _differences(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Differences `(..., 3, H, W)` of images `(..., H, W, 3)`: red and blue to green, then along rows, then along columns."""
    found: NDArray[np.uint8] = np.moveaxis(images, -1, -3).copy()
    for channel in (0, 2):
        found[..., channel, :, :] -= images[..., 1]
    for axis in (-1, -2):
        lines = np.moveaxis(found, axis, 0)
        lines[1:] -= lines[:-1].copy()
    return found


def _summed(differences: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Images of their differences."""
    if differences.dtype != np.uint8 or differences.ndim < 3 or differences.shape[-3] != 3:
        raise ValueError(f"array {name} holds no differences of images")
    for axis in (-2, -1):
        np.cumsum(differences, axis=axis, dtype=np.uint8, out=differences)
    for channel in (0, 2):
        differences[..., channel, :, :] += differences[..., 1, :, :]
    images: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(differences, -3, -1))
    return images
