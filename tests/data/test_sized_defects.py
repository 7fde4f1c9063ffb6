"""Artificial defects of a given size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgead.data.sized_defects import make_sized_defect


def surface(height: int = 160, width: int = 200) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(90, 150, (height, width, 3)).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([4, 8, 16, 32]), st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_a_defect_is_as_large_as_asked_and_lies_at_its_place(size: int, seed: int, x: float, y: float) -> None:
    """Its longest extent is the size, up to the blur of a lens; nothing else changes."""
    image = surface()
    changed, (across, down) = make_sized_defect(image, size, np.random.default_rng(seed), (x, y))
    rows, columns = np.nonzero(np.abs(changed.astype(int) - image).max(axis=2) > 8)
    middle = np.array([(rows.min() + rows.max()) / 2 + 0.5, (columns.min() + columns.max()) / 2 + 0.5])
    np.testing.assert_allclose(middle, [down * 160, across * 200], atol=2)
    extent = np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)
    assert 0.4 * size <= extent <= 1.5 * size + 4


@pytest.mark.parametrize("level", [0, 60, 255])
def test_a_defect_is_visible_on_any_surface(level: int) -> None:
    """It is brighter on dark and darker on bright ground, so that clipping never hides it."""
    image = np.full((100, 100, 3), level, np.uint8)
    image[:20] = 255 - level
    for seed in range(10):
        changed, _ = make_sized_defect(image, 8, np.random.default_rng(seed), (0.5, 0.6))
        assert np.abs(changed.astype(int) - image).max() >= 7


def test_the_same_generator_gives_the_same_defect() -> None:
    """A measured size can be looked at again."""
    image = surface()
    one, two = (make_sized_defect(image, 16, np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert (one != image).any()
