"""Reference pictures from good images, and when alignment helps."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.data.pose_reference import PoseReference, fit_reference
from edgead.imaging import Image
from edgead.pose import PoseRange
from edgead.pose_finder import PoseFinder
from tools.moving_parts import Motion, moved_part


def images_of(part: str) -> list[Image]:
    return [moved_part(part, seed, motion=Motion(12, 0.04))[0] for seed in range(24)]


def fitted(images: list[Image]) -> PoseReference:
    return fit_reference(images[::2], images[1::2], PoseRange())


@pytest.mark.parametrize("part", ["board", "cap"])
def test_parts_that_move_are_aligned(part: str) -> None:
    """Of parts that move, the reference lies in the middle, every held-out one is found, and alignment helps."""
    found = fitted(images_of(part))
    assert found.is_usable
    assert found.helps
    assert found.likeness > 0.95 > found.unmoved_likeness
    assert abs(float(np.mean([pose.angle_deg for pose in found.poses]))) < 6
    assert found.usual_likeness > found.least_likeness > 0.3
    assert "100%" in found.describe()


def test_one_image_without_the_part_does_not_spoil_the_reference() -> None:
    """An empty conveyor as the first image is no reference, and the others are found all the same."""
    images = images_of("board")
    images[0] = np.random.default_rng(0).integers(20, 40, images[0].shape, np.uint8)
    assert fitted(images).is_usable


def test_a_texture_is_not_aligned() -> None:
    """A cloth that fills the frame has no place of its own: it is not found, and alignment is no help."""
    found = fitted(images_of("fabric"))
    assert not found.is_usable
    assert not found.helps


def test_parts_that_lie_still_need_no_alignment() -> None:
    """Images that show the same part at the same place are found, but alignment gains nothing."""
    still = moved_part("board", 1)[0].astype(np.int16)
    noise = np.random.default_rng(0).integers(-3, 4, (12, *still.shape))
    found = fitted([np.clip(still + one, 0, 255).astype(np.uint8) for one in noise])
    assert found.is_usable
    assert not found.helps


def test_a_reference_finds_defective_parts_at_another_resolution() -> None:
    """A finder made from a fitted reference finds defective parts in frames twice as large, above the least likeness."""
    found = fitted(images_of("board"))
    finder = PoseFinder(found.picture, found.search, found.usual_likeness)
    for seed in range(100, 106):
        pose = finder.find(moved_part("board", seed, (320, 320), defect="missing_component")[0])
        assert pose is not None
        assert pose.likeness > found.least_likeness
