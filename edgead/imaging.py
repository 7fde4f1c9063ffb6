"""Conversion of pixels to the model's input, shared by training, engines and stream."""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from edgead.errors import ShapeError

# `(H, W, 3)`, uint8, RGB everywhere in edgead; OpenCV's order, BGR, exists only between these functions and its calls
Image = NDArray[np.uint8]
# how files are decoded: turned upright by their EXIF orientation, or as edgead 0.1 did; see `data/decoding.py`
Decoding = Literal["upright", "as-stored"]
# how an image is brought to the input size; see `resize`
ResizeRule = Literal["area-then-bilinear", "area-or-bilinear"]
_LOG_SILENT = 0
_BAND_VALUES = 1 << 18


class Reading(TypedDict):
    """Keyword arguments with which a bundle's images are read from files, see `edgead.read_image`."""

    white_level: float
    float_white_level: float | None
    decoding: Decoding


def usual_reading() -> Reading:
    """The rules without a bundle: upright, with 8-bit values as they are."""
    return {"white_level": 255, "float_white_level": None, "decoding": "upright"}


def rgb_from_array(array: NDArray[Any], white_level: float = 255, float_white_level: float | None = None) -> Image:
    """Convert an image decoded by OpenCV to 8-bit RGB; in images of more than 8 bits, 0 and less become black.

    >>> rgb_from_array(np.array([[[255, 128, 0]]], np.uint8)).tolist()
    [[[0, 128, 255]]]
    >>> rgb_from_array(np.array([[0, 4095]], np.uint16), white_level=4095).tolist()
    [[[0, 0, 0], [255, 255, 255]]]

    Args:
        array: Image `(H, W)`, `(H, W, 1)`, `(H, W, 3)` BGR or `(H, W, 4)` BGRA, of integers or finite floats. An alpha
            channel is dropped.
        white_level: Value that becomes 255 (4095 for 12-bit cameras); ignored for uint8.
        float_white_level: The same for floats; None = 1 if at most one value in a thousand is larger, else
            `white_level`.

    Returns:
        `(H, W, 3)`, uint8, RGB.

    Raises:
        ShapeError: If the array does not have the shape of an image with 1, 3 or 4 channels.
        TypeError: If the values are not numbers.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ShapeError("picture", expected="(H, W[, 1|3|4])", actual=array.shape)
    if array.dtype.kind not in "uif":
        raise TypeError(f"picture must hold numbers, got {array.dtype}")
    if array.dtype.kind == "f":
        within_one = np.count_nonzero(array > 1) <= array.size // 1000
        white_level = float_white_level or (1 if within_one else white_level)
    if array.dtype != np.uint8:
        array = _scaled(array, white_level)
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    return np.asarray(cv2.cvtColor(array, codes[array.shape[2]]), np.uint8)


def _scaled(array: NDArray[Any], white_level: float) -> NDArray[np.uint8]:
    """Values `(H, W, C)` from 0 to `white_level` as 0 to 255; in bands of rows, so that no whole copy of floats is made."""
    scaled = np.empty(array.shape, np.uint8)
    rows = max(1, _BAND_VALUES // (array.shape[1] * array.shape[2]))
    for start in range(0, len(array), rows):
        band = array[start : start + rows].astype(np.float32) * (255.0 / white_level)
        scaled[start : start + rows] = np.clip(np.rint(band), 0, 255)
    return scaled


def rgb_from_bgr(image: NDArray[np.uint8]) -> Image:
    """An image that OpenCV decoded or captured, `(H, W, 3)`, as RGB; a copy."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def bgr_from_rgb(image: Image) -> NDArray[np.uint8]:
    """An image `(H, W, 3)` in the order that OpenCV encodes, records and shows; a copy."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)


def jpeg_from_rgb(image: Image, quality: int) -> bytes:
    """Encode an image as JPEG.

    Args:
        image: `(H, W, 3)`, uint8, RGB.
        quality: 1 to 100.
    """
    return _encoded(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def png_from_rgb(image: Image) -> bytes:
    """Encode an image `(H, W, 3)`, uint8, RGB, as PNG."""
    return _encoded(".png", image, [])


def _encoded(suffix: str, image: Image, options: list[int]) -> bytes:
    done, content = cv2.imencode(suffix, bgr_from_rgb(image), options)
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape} as {suffix}")
    return content.tobytes()


def resize(image: Image, size: tuple[int, int], rule: ResizeRule = "area-then-bilinear") -> Image:
    """Resize to the model's input size, ignoring the aspect ratio.

    A side that shrinks is averaged over areas, so that no thin line is lost; then a side that grows is interpolated.

    >>> resize(np.array([[[0, 0, 0], [200, 100, 50]]], np.uint8), (1, 1)).tolist()
    [[[100, 50, 25]]]

    Args:
        image: Image `(H, W, 3)`, uint8.
        size: Output `(height, width)` in pixels.
        rule: `area-or-bilinear` is the rule of bundles until schema 2: bilinear on both sides if either grows, which
            drops rows or columns of the other one.

    Returns:
        `(height, width, 3)`, uint8.
    """
    shrunk = (min(size[0], image.shape[0]), min(size[1], image.shape[1]))
    if shrunk != image.shape[:2] and (rule == "area-then-bilinear" or shrunk == size):
        image = np.asarray(cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    if size != image.shape[:2]:
        image = np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    return image


def upsample_map(anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Upsample an anomaly map `(h, w)` to `(height, width)` in pixels, bilinear with half-pixel centres.

    >>> upsample_map(np.array([[0.0, 1.0]], np.float32), (1, 4)).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    height, width = size
    return np.asarray(cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


@cache
def silence_opencv() -> None:
    """Stop OpenCV and FFmpeg from writing to stderr; their failures are raised as redacted errors instead.

    FFmpeg reads its level once, at the first video that the process opens or writes: call this before.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # OpenCV 5 moved the function into a submodule that OpenCV 4 does not have.
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_level(_LOG_SILENT)
