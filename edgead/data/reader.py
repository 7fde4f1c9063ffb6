"""Images and masks from files; damaged, tiny or float images are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.file_checks import find_damage
from edgead.errors import DataError
from edgead.imaging import Image, rgb_from_array, silence_opencv

MIN_SIDE_PX = 16
WHITE_LEVELS = (1023, 4095, 16383, 65535)


def read_image(path: Path, white_level: int = 255) -> Image:
    """Read an image file as 8-bit RGB.

    Pixels are taken as stored: an EXIF orientation is ignored, because masks carry none and a camera on a line does
    not turn. Grey becomes RGB, palettes are resolved, an alpha channel is dropped.

    Args:
        path: PNG, JPEG, BMP or TIFF with 8 or 16 bits per channel.
        white_level: 16-bit value that becomes 255; ignored for 8-bit files.

    Returns:
        `(H, W, 3)`, uint8, RGB.

    Raises:
        DataError: If the file is missing, not an image, truncated, of another bit depth, or under 16 px on a side.
    """
    return rgb_from_array(_decode(path, read_content(path)), white_level)


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
    decoded = _decode(path, read_content(path))
    values = decoded if decoded.ndim == 2 else decoded[:, :, :3].max(axis=2)
    if values.shape != size:
        raise DataError(
            f"The mask {path} is {values.shape[1]} x {values.shape[0]} px, but its image is {size[1]} x {size[0]} px.",
            hint="A mask must have the size of its image; export it again at that size.",
        )
    half = np.iinfo(values.dtype).max // 2
    return np.asarray(values > (half if values.max() > half else 0), np.bool_)


def read_content(path: Path) -> bytes:
    """Read the bytes of a file.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"The image {path} cannot be read: {error.strerror or error}.", hint="Check the path and the permissions."
        ) from error


def inspect_image(path: Path) -> tuple[tuple[int, int], int, str]:
    """Decode an image to learn its size, largest value and digest.

    Returns:
        `(height, width)` in pixels; the largest value, or 255 for every 8-bit image; SHA-256 of the file's bytes.

    Raises:
        DataError: See `read_image`.
    """
    content = read_content(path)
    decoded = _decode(path, content)
    peak = int(decoded.max()) if decoded.dtype == np.uint16 else 255
    return (decoded.shape[0], decoded.shape[1]), peak, hashlib.sha256(content).hexdigest()


def white_level_for(peak: int) -> int:
    """Smallest white level, of 8, 10, 12, 14 or 16 bits, that holds the largest value `peak`."""
    return next(level for level in (255, *WHITE_LEVELS) if peak <= level)


def _decode(path: Path, content: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    damage = find_damage(content)
    if damage:
        raise DataError(f"The image {path} cannot be used: {damage}.", hint="Copy the file again or remove it.")
    silence_opencv()
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        reason = " ".join(str(error.err or error).split())
        raise DataError(f"The image {path} cannot be decoded: {reason}.", hint="Save it again or remove it.") from error
    if decoded is None:
        raise DataError(
            f"The image {path} cannot be decoded: it is damaged or not PNG, JPEG, BMP or TIFF.",
            hint="Save it again or remove it.",
        )
    height, width = decoded.shape[:2]
    if decoded.dtype not in (np.uint8, np.uint16) or (decoded.ndim == 3 and decoded.shape[2] not in (1, 3, 4)):
        channels = 1 if decoded.ndim == 2 else decoded.shape[2]
        raise DataError(
            f"The image {path} has {channels} channels of {decoded.dtype}; allowed: 1, 3 or 4 channels of uint8 or uint16.",
            hint="Save it with 8 or 16 bits per channel.",
        )
    if min(height, width) < MIN_SIDE_PX:
        raise DataError(
            f"The image {path} is {width} x {height} px; each side needs at least {MIN_SIDE_PX} px.",
            hint="Remove it, or use the original image.",
        )
    return np.asarray(decoded)  # type: ignore[return-value]
