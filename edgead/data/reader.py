"""Images and masks from files."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgead.data.decoding import decode, decode_with_header, image_from_bytes
from edgead.data.white_level import robust_peak
from edgead.errors import DataError
from edgead.imaging import Decoding, Image

MAX_FILE_BYTES = 1 << 30


def read_image(
    path: Path,
    white_level: float = 255,
    *,
    float_white_level: float | None = None,
    decoding: Decoding = "upright",
) -> Image:
    """Read an image file as 8-bit RGB.

    The image is turned upright by its EXIF orientation. Grey becomes RGB, palettes are resolved, an alpha channel is
    dropped, and of several pages the first is read.

    Args:
        path: PNG, JPEG, BMP or TIFF, of at most 134 million pixels.
        white_level: Value that becomes 255 in files of more than 8 bits per channel; ignored for 8-bit files.
        float_white_level: The same for files of floats; None = 1 if at most one value in a thousand is larger, else
            `white_level`.
        decoding: `as-stored` reads as edgead 0.1 did, for its bundles: the orientation is followed in TIFF files alone.

    Returns:
        `(H, W, 3)`, uint8, RGB.

    Raises:
        DataError: If the file is missing, not an image, truncated, too large, of another bit depth, or under 16 px on a
            side.
    """
    content = read_content(path)
    return image_from_bytes(content, str(path), white_level, float_white_level=float_white_level, decoding=decoding)


def read_mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read the mask of a defect.

    Values above half of full scale mark the defect. A mask without any such value holds indices of defect kinds, as
    in VisA: there every value but 0 marks the defect.

    Args:
        path: Mask file; in a file of several channels the largest value counts.
        size: `(height, width)` of the image in pixels.

    Returns:
        `(height, width)`, True where the part is defective.

    Raises:
        DataError: If the file cannot be read or its size is not that of the image.
    """
    decoded = decode(read_content(path), str(path))
    values = decoded if decoded.ndim == 2 else decoded[:, :, :3].max(axis=2)
    if values.shape != size:
        raise DataError(
            f"The mask {path} is {values.shape[1]} x {values.shape[0]} px, but its image is {size[1]} x {size[0]} px.",
            hint="A mask must have the size of its image; export it again at that size.",
        )
    half = np.iinfo(values.dtype).max // 2
    return np.asarray(values > (half if values.max() > half else 0), np.bool_)


def read_content(path: Path) -> bytes:
    """Read the bytes of a regular file of at most 1 GB.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is no regular file.", hint="Remove it from the folder of images.")
        if status.st_size > MAX_FILE_BYTES:
            raise DataError(
                f"The image {path} has {status.st_size / 1e6:,.0f} MB; at most {MAX_FILE_BYTES / 1e6:,.0f} MB are read.",
                hint="Save it smaller or compressed.",
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"The image {path} cannot be read: {error.strerror or error}.", hint="Check the path and the permissions."
        ) from error


class Inspection(NamedTuple):
    """Facts about an image file.

    Attributes:
        size: `(height, width)` in pixels, upright.
        peak: Brightness that at most one pixel in a thousand exceeds, see `robust_peak`; 255 for every 8-bit image.
        digest: SHA-256 of the file's bytes.
        largest: Largest value; 255 for every 8-bit image.
        depth: 8 bits, `deep` for integers of more, or `float`.
        is_turned: Whether the file has an EXIF orientation other than upright.
        has_more: Whether the file has more pages, which are not read.
    """

    size: tuple[int, int]
    peak: float
    digest: str
    largest: float
    depth: Literal["8", "deep", "float"]
    is_turned: bool
    has_more: bool


def inspect_image(path: Path) -> Inspection:
    """Decode an image to learn its size, brightness and digest.

    Raises:
        DataError: See `read_image`.
    """
    content = read_content(path)
    header, decoded = decode_with_header(content, str(path))
    size, digest = (decoded.shape[0], decoded.shape[1]), hashlib.sha256(content).hexdigest()
    if decoded.dtype == np.uint8:
        return Inspection(size, 255, digest, 255, "8", header.orientation != 1, header.has_more)
    depth: Literal["deep", "float"] = "float" if decoded.dtype.kind == "f" else "deep"
    largest = float(decoded.max() if decoded.ndim == 2 else decoded[:, :, :3].max())
    return Inspection(size, robust_peak(decoded), digest, largest, depth, header.orientation != 1, header.has_more)
