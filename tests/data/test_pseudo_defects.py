"""Pseudo-defects: small, visible, covered by their mask, reproducible by seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.data.pseudo_defects import KINDS, MIN_SHARE, VISIBLE, _Place, make_pseudo_defect


def make_image(height: int, width: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    texture = 128 + 60 * np.sin(rows / 5.0) * np.cos(columns / 7.0)
    return np.clip(texture[:, :, None] + random.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def contrast(image: np.ndarray) -> float:
    low, high = np.percentile(image, (2, 98))
    return max(float(high - low), 20.0)


@pytest.mark.parametrize("seed", range(24))
def test_a_small_place_visibly_changes(seed: int) -> None:
    """The mask is not empty, covers little, and is where the image changed by 5 % of its contrast or more."""
    image, donor = make_image(96, 128, 1), make_image(96, 128, 2)
    changed, mask = make_pseudo_defect(image, donor, np.random.default_rng(seed))
    assert changed.dtype == np.uint8
    assert changed.shape == image.shape
    assert mask.shape == (96, 128)
    assert mask.dtype == np.bool_
    assert MIN_SHARE <= mask.mean() < 0.2
    difference = np.abs(changed.astype(int) - image).max(axis=2)
    np.testing.assert_array_equal(mask, difference > VISIBLE * contrast(image))


def test_the_seed_decides_everything_and_inputs_stay() -> None:
    """The same seed gives the same image, another seed another one; image and donor are unchanged."""
    image, donor = make_image(96, 96, 1), make_image(96, 96, 2)
    copies = image.copy(), donor.copy()
    results = [make_pseudo_defect(image, donor, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert not np.array_equal(results[0][0], results[2][0])
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(donor, copies[1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_an_image_near_its_place_only(kind: str) -> None:
    """Each kind makes a visible change in most draws, stays finite, and leaves most of the image bit for bit."""
    image, donor = make_image(96, 128, 1), make_image(80, 70, 2)
    visible = 0
    for seed in range(12):
        place = _Place(image, contrast(image), np.random.default_rng(seed))
        changed = KINDS[kind](image.astype(np.float32), donor, place)
        assert changed.dtype == np.float32
        assert bool(np.isfinite(changed).all())
        difference = np.abs(changed - image).max(axis=2)
        visible += bool((difference > VISIBLE * contrast(image)).mean() >= MIN_SHARE)
        assert (difference < 0.5).mean() > 0.6
    assert visible >= 6


@given(
    height=st.integers(16, 70),
    width=st.integers(16, 70),
    donor_height=st.integers(4, 70),
    donor_width=st.integers(4, 70),
    seed=st.integers(0, 2**31),
)
def test_any_size_of_image_and_donor_works(
    height: int, width: int, donor_height: int, donor_width: int, seed: int
) -> None:
    """Small, long and differently sized inputs give a result of the image's size."""
    changed, mask = make_pseudo_defect(
        make_image(height, width, 1), make_image(donor_height, donor_width, 2), np.random.default_rng(seed)
    )
    assert changed.shape == (height, width, 3)
    assert mask.shape == (height, width)


def test_a_flat_image_gets_a_visible_defect_too() -> None:
    """Without any contrast of its own, an image is changed by at least a few grey levels."""
    flat = np.full((96, 96, 3), 128, np.uint8)
    changed = [make_pseudo_defect(flat, flat, np.random.default_rng(seed)) for seed in range(10)]
    assert sum(bool(mask.any()) for _, mask in changed) >= 9


def test_all_kinds_are_drawn() -> None:
    """Over many seeds no two results are alike, and both dark and light changes appear."""
    image, donor = make_image(96, 96, 1), make_image(96, 96, 2)
    results = [make_pseudo_defect(image, donor, np.random.default_rng(seed)) for seed in range(30)]
    assert len({changed.tobytes() for changed, _ in results}) == 30
    signs = [float(np.sign((changed.astype(int) - image)[mask].mean())) for changed, mask in results]
    assert {-1.0, 1.0} <= set(signs)
