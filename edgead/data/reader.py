"""Images and masks from files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from edgead.data.decoding import checked_header, decode_with_header, image_from_bytes
from edgead.data.file_checks import read_content
from edgead.data.masks import read_mask as read_mask
from edgead.data.white_level import robust_peak
from edgead.imaging import Decoding, Image


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


def image_size(path: Path, decoding: Decoding = "upright") -> tuple[int, int]:
    """Size `(height, width)` in pixels of the image that `read_image` gives, from the header alone.

    Raises:
        DataError: If the file is missing, no image or truncated; see `read_image`.
    """
    header = checked_header(read_content(path), str(path))
    is_turned = header.orientation >= 5 and (decoding == "upright" or header.kind == "TIFF")
    height, width = header.size
    return (width, height) if is_turned else (height, width)


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
