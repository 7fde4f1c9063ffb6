"""Shapes that the model cannot see well are reported before training."""

from __future__ import annotations

import pytest

from edgead.data.size_report import size_warnings

INPUT = (320, 320)


@pytest.mark.parametrize(
    "sizes", [{(480, 640): 60}, {(480, 640): 30, (640, 480): 30}, {(480, 640): 9, (500, 700): 9}, {}]
)
def test_usual_sizes_give_no_warning(sizes: dict[tuple[int, int], int]) -> None:
    """One size, or sizes that differ by less than half, need no warning."""
    assert size_warnings(sizes, INPUT) == []


@pytest.mark.parametrize("size", [(256, 8192), (8192, 256)])
def test_strips_are_named_with_their_loss(size: tuple[int, int]) -> None:
    """A line-scan strip is named with its size and how many pixels become one."""
    (warning,) = size_warnings({size: 7, (512, 512): 3}, INPUT)[:1]
    assert f"7 of 10 images are more than 4 times as long as wide, up to {size[1]} x {size[0]} px" in warning
    assert "the mean of 26 pixels" in warning


def test_very_different_sizes_are_named() -> None:
    """Sizes that differ by a factor of two or more are named, with the most common one."""
    (warning,) = size_warnings({(480, 640): 50, (960, 1280): 7, (200, 300): 1}, INPUT)
    assert "3 sizes, from 300 x 200 px to 1280 x 960 px (50 of 58 are 640 x 480 px)" in warning


def test_pictures_taken_upright_and_lying_are_named() -> None:
    """A phone held in two ways gives one size in two directions: each is named with its count, and padding is offered."""
    (other,) = size_warnings({(2000, 3000): 30, (900, 100): 10}, INPUT)[-1:]
    assert "the images have 2 sizes" in other
    (warning,) = size_warnings({(2000, 3000): 30, (3000, 2000): 10}, INPUT)
    assert "30 of 40 images are wider than high (such as 3000 x 2000 px)" in warning
    assert "10 are higher than wide (such as 2000 x 3000 px)" in warning
    assert "--keep-aspect" in warning
