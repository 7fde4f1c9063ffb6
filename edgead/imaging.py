"""Conversion of pixels to the model's input, shared by training, engines and stream."""

from __future__ import annotations

import os
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.errors import ShapeError

# `(H, W, 3)`, uint8, RGB everywhere in edgead; OpenCV's order, BGR, exists only between these functions and its calls
Image = NDArray[np.uint8]
_LOG_SILENT = 0


def rgb_from_array(array: NDArray[np.uint8] | NDArray[np.uint16], white_level: int = 255) -> Image:
    """Convert an image decoded by OpenCV to 8-bit RGB.

    >>> rgb_from_array(np.array([[[255, 128, 0]]], np.uint8)).tolist()
    [[[0, 128, 255]]]
    >>> rgb_from_array(np.array([[0, 4095]], np.uint16), white_level=4095).tolist()
    [[[0, 0, 0], [255, 255, 255]]]

    Args:
        array: Image `(H, W)`, `(H, W, 1)`, `(H, W, 3)` BGR or `(H, W, 4)` BGRA, uint8 or uint16. An alpha channel is
            dropped.
        white_level: uint16 value that becomes 255 (4095 for 12-bit cameras); ignored for uint8.

    Returns:
        `(H, W, 3)`, uint8, RGB.

    Raises:
        ShapeError: If the array does not have the shape of an image with 1, 3 or 4 channels.
        TypeError: If the values are neither uint8 nor uint16.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ShapeError("picture", expected="(H, W[, 1|3|4])", actual=array.shape)
    if array.dtype == np.uint16:
        scaled = array.astype(np.float32) * (255.0 / white_level)
        array = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise TypeError(f"picture must be uint8 or uint16, got {array.dtype}")
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[:, :, 2::-1])


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


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resize to the model's input size, ignoring the aspect ratio.

    >>> resize(np.array([[[0, 0, 0], [200, 100, 50]]], np.uint8), (1, 1)).tolist()
    [[[100, 50, 25]]]

    Args:
        image: Image `(H, W, 3)`, uint8.
        size: Output `(height, width)` in pixels.

    Returns:
        `(height, width, 3)`, uint8: area average if no side grows, otherwise bilinear.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


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
