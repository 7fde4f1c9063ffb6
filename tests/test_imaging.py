"""Pixels become the model's input in one way."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgead.errors import ShapeError
from edgead.imaging import resize, rgb_from_array, upsample_map

RANDOM = np.random.default_rng(0)
BGR = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_colour_becomes_rgb() -> None:
    """BGR is reversed; an alpha channel is dropped; grey is repeated, with and without its own axis."""
    np.testing.assert_array_equal(rgb_from_array(BGR), BGR[:, :, ::-1])
    alpha = np.dstack([BGR, np.full((5, 7), 9, np.uint8)])
    np.testing.assert_array_equal(rgb_from_array(alpha), BGR[:, :, ::-1])
    for grey in (BGR[:, :, 0], BGR[:, :, :1]):
        rgb = rgb_from_array(grey)
        assert rgb.shape == (5, 7, 3)
        for channel in range(3):
            np.testing.assert_array_equal(rgb[:, :, channel], BGR[:, :, 0])


@pytest.mark.parametrize(
    ("white", "values", "expected"),
    [
        (65535, [0, 65535, 32768, 128, 129], [0, 255, 128, 0, 1]),
        (4095, [0, 4095, 2048, 65535], [0, 255, 128, 255]),
        (255, [0, 255, 256], [0, 255, 255]),
    ],
)
def test_sixteen_bits_are_scaled_by_the_white_level(white: int, values: list[int], expected: list[int]) -> None:
    """The white level becomes 255, values between are rounded, values above are white."""
    rgb = rgb_from_array(np.array([values], np.uint16), white)
    assert rgb.dtype == np.uint8
    assert rgb[0, :, 0].tolist() == expected


def test_the_white_level_does_not_touch_8_bit_pictures() -> None:
    """An 8-bit picture is taken as it is."""
    np.testing.assert_array_equal(rgb_from_array(BGR, 4095), BGR[:, :, ::-1])


@pytest.mark.parametrize("shape", [(5,), (5, 7, 2), (5, 7, 5), (1, 5, 7, 3), (0, 7, 3), (5, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """An array that is not shaped like an image raises ShapeError."""
    with pytest.raises(ShapeError):
        rgb_from_array(np.zeros(shape, np.uint8))


def test_other_types_are_refused() -> None:
    """Floats have no defined white: a TypeError."""
    with pytest.raises(TypeError, match="float32"):
        rgb_from_array(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]


def test_results_are_contiguous_and_inputs_unchanged() -> None:
    """The result can go to any library, and the decoded picture stays as it was."""
    before = BGR.copy()
    assert rgb_from_array(BGR).flags["C_CONTIGUOUS"]
    resize(BGR, (3, 3))
    np.testing.assert_array_equal(BGR, before)


def test_shrinking_averages_areas() -> None:
    """A quarter of the size is the mean of each 4x4 block, so that fine patterns do not alias."""
    image = RANDOM.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    blocks = image.reshape(4, 4, 6, 4, 3).mean(axis=(1, 3))
    assert float(np.abs(resize(image, (4, 6)) - blocks).max()) <= 0.5
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.unique(resize(stripes, (4, 4))).tolist() == [100]


@pytest.mark.parametrize("size", [(16, 24), (16, 6), (4, 24)])
def test_growing_any_side_is_bilinear(size: tuple[int, int]) -> None:
    """Where at least one side grows the resize is OpenCV's bilinear one, to `(height, width)`."""
    image = RANDOM.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    result = resize(image, size)
    assert result.shape == (*size, 3)
    np.testing.assert_array_equal(result, cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR))


def test_the_same_size_is_the_same_picture() -> None:
    """Nothing is computed where nothing changes."""
    np.testing.assert_array_equal(resize(BGR, (5, 7)), BGR)


def test_maps_grow_with_half_pixel_centres() -> None:
    """Doubling puts new values a quarter and three quarters between the old ones, as torch does in training."""
    up = upsample_map(np.array([[0.0, 4.0]], np.float32), (2, 4))
    np.testing.assert_allclose(up, [[0, 1, 3, 4]] * 2)
    assert up.dtype == np.float32
