"""Decoding of image files, with one policy for every source of images.

Orientation: an image is turned upright by its EXIF orientation, in whatever container. Alpha: ignored; colours are those
of the opaque picture. Depth: 8, 16 or 32 bits, integers or floats. Pages: the first page or frame is read. Size: checked
in the header, before anything is decoded.
"""

from __future__ import annotations

import logging
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data import tiff
from edgead.data.file_checks import find_damage
from edgead.data.image_header import ImageHeader, read_header
from edgead.errors import DataError
from edgead.imaging import Decoding, Image, rgb_from_array, silence_opencv

MIN_SIDE_PX = 16
MAX_PIXELS = 1 << 27  # 16,384 x 8,192; a decoded image and its copy then fit into the memory of a small board
_MAX_BYTES = 1 << 30
# A progressive JPEG has about ten; each scan takes as long as a decoding.
_MAX_SCANS = 100
_SCAN = b"\xff\xda"
_STRAIGHT_ALPHA, _PREMULTIPLIED = 2, 1
_DEPTHS = (np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64)
_HINT = "Save it again or remove it."
_LOG = logging.getLogger(__name__)
_warned = False


def image_from_bytes(
    content: bytes,
    name: str,
    white_level: float = 255,
    *,
    float_white_level: float | None = None,
    decoding: Decoding = "upright",
) -> Image:
    """Decode an image file to 8-bit RGB.

    Args:
        content: The whole file.
        name: Name of the image for errors, for example its path.
        white_level: Value that becomes 255 in images of more than 8 bits.
        float_white_level: The same for images of floats; None = see `rgb_from_array`.
        decoding: `upright`, or `as-stored` for a bundle of an older edgead.

    Returns:
        `(H, W, 3)`, uint8, RGB.

    Raises:
        DataError: If the file is no image, is truncated, has too many or too few pixels, or values that are no numbers.
    """
    return rgb_from_array(decode(content, name, decoding), white_level, float_white_level)


def decode(content: bytes, name: str, decoding: Decoding = "upright", *, smallest: int = MIN_SIDE_PX) -> NDArray[Any]:
    """Decode an image file to the values that it stores.

    Args:
        content: The whole file.
        name: Name of the image for errors.
        decoding: `upright` for the policy of this module. `as-stored` is that of edgead 0.1: the orientation is followed
            in TIFF files alone, and the colours of a TIFF file with alpha are multiplied by it.
        smallest: Smallest side that is allowed, in pixels.

    Returns:
        `(H, W)`, `(H, W, 3)` BGR or `(H, W, 4)` BGRA; uint8, uint16, int16, int32, float32 or float64.

    Raises:
        DataError: See `image_from_bytes`.
    """
    return decode_with_header(content, name, decoding, smallest=smallest)[1]


def decode_with_header(
    content: bytes, name: str, decoding: Decoding = "upright", *, smallest: int = MIN_SIDE_PX
) -> tuple[ImageHeader, NDArray[Any]]:
    """Same as `decode`, with the header of the file."""
    header = checked_header(content, name, smallest)
    if decoding == "as-stored":
        if header.orientation != 1 and header.kind != "TIFF":
            _warn_of_orientation(name)
        return header, _decoded(content, name, header.kind)
    array = _decoded(_plain_tiff(content, header), name, header.kind)
    if header.directory and _PREMULTIPLIED in header.directory.values(content, tiff.EXTRA_SAMPLES):
        array = _without_alpha(array)
    return header, _upright(array, header.orientation)


def checked_header(content: bytes, name: str, smallest: int = MIN_SIDE_PX) -> ImageHeader:
    """Read the header of an image file, and check the file's structure and its size.

    Raises:
        DataError: See `image_from_bytes`.
    """
    damage = find_damage(content)
    if damage:
        raise DataError(f"The image {name} cannot be used: {damage}.", hint="Copy the file again or remove it.")
    header = read_header(content)
    if header is None:
        raise DataError(
            f"The image {name} cannot be decoded: it is damaged or not PNG, JPEG, BMP, TIFF, WebP, GIF or JPEG 2000.",
            hint=_HINT,
        )
    scans = content.count(_SCAN) if header.kind == "JPEG" else 0
    if scans > _MAX_SCANS:
        raise DataError(
            f"The image {name} is a progressive JPEG of {scans} scans; at most {_MAX_SCANS} are decoded.",
            hint="Save it again as a JPEG that is not progressive (baseline) or as PNG, or remove it.",
        )
    height, width = header.largest_part or header.size
    pixels = height * width
    if pixels > MAX_PIXELS or pixels * header.bytes_per_pixel > _MAX_BYTES:
        raise DataError(
            f"The image {name} is {width} x {height} px with {header.bytes_per_pixel} bytes each, by its header; at most "
            f"{MAX_PIXELS / 1e6:.0f} million pixels and {_MAX_BYTES / 2**20:.0f} MB are decoded.",
            hint="Crop it or save it smaller; remove it if no camera of yours makes such images.",
        )
    height, width = header.size
    if min(height, width) < smallest:
        raise DataError(
            f"The image {name} is {width} x {height} px; each side needs at least {smallest} px.",
            hint="Remove it, or use the original image.",
        )
    return header


def _warn_of_orientation(name: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        _LOG.warning(
            "%s has an EXIF orientation, which this bundle ignores, as the edgead that made it did; images like it are "
            "judged as they are stored. A bundle that is trained now turns them upright.",
            name,
        )


def _decoded(content: bytes, name: str, kind: str) -> NDArray[Any]:
    silence_opencv()
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        reason = " ".join(str(error.err or error).split())
        raise DataError(f"The image {name} cannot be decoded: {reason}.", hint=_HINT) from error
    if decoded is None:
        raise DataError(
            f"The image {name} cannot be decoded: it is damaged, or a {kind} of another kind than 1, 3 or 4 channels of 8, 16 "
            "or 32 bits.",
            hint="Save it again as grey or RGB with 8 or 16 bits per channel, or remove it.",
        )
    if decoded.dtype not in _DEPTHS or (decoded.ndim == 3 and decoded.shape[2] not in (1, 3, 4)):
        channels = 1 if decoded.ndim == 2 else decoded.shape[2]
        raise DataError(
            f"The image {name} has {channels} channels of {decoded.dtype}; allowed: 1, 3 or 4 channels of 8, 16 or 32 bits.",
            hint="Save it as grey or RGB with 8 or 16 bits per channel.",
        )
    if decoded.dtype.kind == "f" and not np.isfinite(decoded).all():
        raise DataError(
            f"The image {name} contains values that are not finite numbers.",
            hint="Save it with valid values or remove it.",
        )
    return np.asarray(decoded)


def _plain_tiff(content: bytes, header: ImageHeader) -> bytes:
    """The file without the tags at which libtiff turns an image and multiplies its colours by alpha."""
    if header.directory is None:
        return content
    if header.orientation != 1:
        content = tiff.with_value(content, header.directory, tiff.ORIENTATION, None, 1)
    if _STRAIGHT_ALPHA in header.directory.values(content, tiff.EXTRA_SAMPLES):
        content = tiff.with_value(content, header.directory, tiff.EXTRA_SAMPLES, _STRAIGHT_ALPHA, 0)
    return content


def _without_alpha(array: NDArray[Any]) -> NDArray[Any]:
    """Colours `(H, W, 3)` of an image that stores them multiplied by alpha."""
    if array.ndim != 3 or array.shape[2] != 4 or array.dtype.kind != "u":
        return array
    white = np.iinfo(array.dtype).max
    alpha = np.maximum(array[:, :, 3:].astype(np.float32), 1)
    return np.asarray(np.minimum(np.rint(array[:, :, :3] * (white / alpha)), white), array.dtype)


def _upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror an image as its EXIF orientation, 1 to 8, says."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    vertical = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    horizontal = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(array[vertical, horizontal])
