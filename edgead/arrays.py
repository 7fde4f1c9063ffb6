"""Reading `.npz` files that may be damaged or hostile: sizes are checked before anything is decompressed."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgead.errors import EdgeadError

# All arrays of one file together; the largest bundle has a few hundred megabytes of images.
MAX_BYTES = 4 << 30
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


class DamagedArraysError(EdgeadError):
    """File of arrays that is damaged, incomplete or larger than allowed."""


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
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
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
