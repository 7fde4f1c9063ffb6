"""Pixels become the model's input in one way."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

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


def test_deep_pictures_are_scaled_without_a_copy_of_floats() -> None:
    """Scaling a large 16-bit picture takes little more memory than the results, and bands leave no seams."""
    deep = np.arange(1500 * 1000 * 4, dtype=np.uint32).astype(np.uint16).reshape(1500, 1000, 4)
    tracemalloc.start()
    rgb = rgb_from_array(deep, 4095)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * deep.size
    expected = np.clip(np.rint(deep.astype(np.float32) * (255.0 / 4095)), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(rgb, expected[:, :, 2::-1])


def test_the_white_level_does_not_touch_8_bit_pictures() -> None:
    """An 8-bit picture is taken as it is."""
    np.testing.assert_array_equal(rgb_from_array(BGR, 4095), BGR[:, :, ::-1])


@pytest.mark.parametrize("shape", [(5,), (5, 7, 2), (5, 7, 5), (1, 5, 7, 3), (0, 7, 3), (5, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """An array that is not shaped like an image raises ShapeError."""
    with pytest.raises(ShapeError):
        rgb_from_array(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.bool_, np.complex64, np.object_])
def test_other_types_are_refused(dtype: type[np.generic]) -> None:
    """Values that are not numbers have no brightness: a TypeError."""
    with pytest.raises(TypeError, match="must hold numbers"):
        rgb_from_array(np.zeros((4, 4, 3), dtype))


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


def test_growing_both_sides_is_bilinear() -> None:
    """Where both sides grow the resize is OpenCV's bilinear one, to `(height, width)`."""
    image = RANDOM.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    result = resize(image, (16, 24))
    assert result.shape == (16, 24, 3)
    np.testing.assert_array_equal(result, cv2.resize(image, (24, 16), interpolation=cv2.INTER_LINEAR))


def along(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The first axis of an array at another size: area average where it shrinks, bilinear where it grows."""
    before = len(values)
    weights = np.zeros((size, before))
    for row in range(size):
        if size < before:
            low, high = row * before / size, (row + 1) * before / size
            for cell in range(before):
                weights[row, cell] = max(0.0, min(high, cell + 1) - max(low, cell)) * size / before
        else:
            centre = min(max((row + 0.5) * before / size - 0.5, 0.0), before - 1.0)
            left = min(int(centre), before - 2)
            weights[row, left : left + 2] = [left + 1 - centre, centre - left]
    return np.tensordot(weights, values, 1)


@given(st.tuples(*[st.integers(2, 40)] * 2), st.tuples(*[st.integers(1, 40)] * 2), st.integers(0, 99))
def test_each_side_has_its_own_filter(before: tuple[int, int], after: tuple[int, int], seed: int) -> None:
    """In every combination a side that shrinks is averaged over areas and a side that grows is interpolated."""
    image = np.random.default_rng(seed).integers(0, 256, (*before, 3), np.uint8)
    expected = np.moveaxis(along(np.moveaxis(along(image.astype(float), after[0]), 1, 0), after[1]), 0, 1)
    assert float(np.abs(resize(image, after) - expected).max()) <= 1.6  # two roundings, and 11-bit weights


@pytest.mark.parametrize(("shape", "size"), [((4, 320), (32, 32)), ((320, 4), (32, 32)), ((31, 900), (32, 32))])
def test_no_line_of_a_strip_is_lost(shape: tuple[int, int], size: tuple[int, int]) -> None:
    """A scratch one pixel wide across a long strip is seen wherever it is."""
    axis = int(shape[1] > shape[0])
    for place in range(0, max(shape), 7):
        strip = np.zeros((*shape, 3), np.uint8)
        strip[(slice(None),) * axis + (place,)] = 255
        assert resize(strip, size).max() >= 255 * size[axis] / max(shape) / 2 - 1


@pytest.mark.parametrize(
    ("shape", "size"), [((8, 12), (16, 6)), ((8, 12), (4, 24)), ((4, 320), (32, 32)), ((40, 16), (32, 32))]
)
def test_old_bundles_keep_their_filter(shape: tuple[int, int], size: tuple[int, int]) -> None:
    """By the rule of bundles until schema 2, both sides are bilinear where either grows."""
    image = RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)
    bilinear = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize(image, size, "area-or-bilinear"), bilinear)
    assert (resize(image, size) != bilinear).any()


@pytest.mark.parametrize("size", [(3, 3), (8, 5), (16, 24), (8, 24)])
def test_rules_agree_where_both_sides_shrink_or_grow(size: tuple[int, int]) -> None:
    """Where both sides shrink, or both grow, an old bundle and a new one see the same pixels."""
    image = RANDOM.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, size, "area-or-bilinear"), resize(image, size))


def test_the_same_size_is_the_same_picture() -> None:
    """Nothing is computed where nothing changes."""
    np.testing.assert_array_equal(resize(BGR, (5, 7)), BGR)


def test_maps_grow_with_half_pixel_centres() -> None:
    """Doubling puts new values a quarter and three quarters between the old ones, as torch does in training."""
    up = upsample_map(np.array([[0.0, 4.0]], np.float32), (2, 4))
    np.testing.assert_allclose(up, [[0, 1, 3, 4]] * 2)
    assert up.dtype == np.float32
