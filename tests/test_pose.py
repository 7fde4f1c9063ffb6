"""Poses of generated parts: found to a pixel, in spite of missing pieces, and not found where there is no part."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgead.pose import UNMOVED, Pose, PoseRange, align, map_to_frame
from edgead.pose_finder import PoseFinder, grey_picture, working_size
from tools.moving_parts import STILL, Motion, moved_part

PARTS = ("disc", "cap", "board")
LEAST = 0.45


@cache
def finder_of(part: str, size: tuple[int, int]) -> tuple[PoseFinder, NDArray[np.float64]]:
    """A finder with one unmoved part as its reference, and that part's own place."""
    image, _, place = moved_part(part, 1000, size, STILL)
    return PoseFinder(grey_picture(image, working_size(size)), PoseRange()), place


def full(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vstack([matrix, [0, 0, 1]])


def distance(found: NDArray[np.float64], true: NDArray[np.float64], size: tuple[int, int]) -> float:
    """Root mean square distance, in pixels, between where two matrices put points on the part's rim."""
    angle = np.linspace(0, 2 * np.pi, 24)
    radius = 0.4 * min(size)
    rim = np.stack([size[1] / 2 + radius * np.cos(angle), size[0] / 2 + radius * np.sin(angle), np.ones(24)])
    return float(np.sqrt((((found - true) @ rim) ** 2).sum(axis=0).mean()))


@pytest.mark.parametrize("size", [(320, 320), (240, 320)], ids=["square", "wide"])
@pytest.mark.parametrize("part", PARTS)
def test_a_turned_shifted_and_scaled_part_is_found_to_a_pixel(part: str, size: tuple[int, int]) -> None:
    """Turned by ±15°, shifted by ±5 % and scaled by ±5 %, every part is found to 1.2 px of 320, and resembles the reference."""
    finder, own = finder_of(part, size)
    for seed in range(6):
        image, _, place = moved_part(part, seed, size, Motion(15, 0.05, 0.05))
        pose = finder.find(image)
        assert pose is not None
        assert pose.likeness > 2 * LEAST
        true = (full(place) @ np.linalg.inv(full(own)))[:2]
        assert distance(pose.matrix_at(size), true, size) < 1.2


@pytest.mark.parametrize("side", ["left", "top"])
def test_a_missing_third_does_not_pull_the_pose_away(side: str) -> None:
    """A board of which a third is covered by the conveyor is found to 1.5 px of 320, and counts as found."""
    finder, own = finder_of("board", (320, 320))
    for seed in range(4):
        image, _, place = moved_part("board", seed, (320, 320))
        gone = image.copy()
        gone[(slice(None), slice(106)) if side == "left" else slice(106)] = 30
        pose = finder.find(gone)
        assert pose is not None
        assert pose.likeness > LEAST
        assert distance(pose.matrix_at((320, 320)), (full(place) @ np.linalg.inv(full(own)))[:2], (320, 320)) < 1.5


@pytest.mark.parametrize("part", PARTS)
def test_no_part_is_found_on_an_empty_conveyor_or_another_part(part: str) -> None:
    """Frames of noise, of one grey, of another part and of a part far out of the range resemble the reference too little."""
    finder, _ = finder_of(part, (320, 320))
    image = moved_part(part, 3, (320, 320))[0]
    other = moved_part("board" if part != "board" else "disc", 3, (320, 320))[0]
    frames = {
        "noise": np.random.default_rng(0).integers(0, 60, image.shape, np.uint8),
        "grey": np.full_like(image, 30),
        "other": other,
        "far": np.roll(image, 160, axis=1),
    }
    for name, frame in frames.items():
        pose = finder.find(frame)
        assert pose is None or pose.likeness < LEAST, name


@given(st.floats(-40, 40), st.floats(0.8, 1.25), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_a_map_of_the_aligned_frame_lies_over_the_frame(angle: float, scale: float, right: float, down: float) -> None:
    """A bright place keeps its position when a frame is aligned, judged, and the map is moved back."""
    turn, size = np.radians(angle), (96, 128)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([63.5, 47.5])
    pose = Pose(np.column_stack([linear, centre - linear @ centre + (right * 128, down * 96)]), size, 1.0)
    assert pose.angle_deg == pytest.approx(angle, abs=1e-6)
    assert pose.scale == pytest.approx(scale)
    assert pose.shift == pytest.approx((right, down), abs=1e-9)
    on_reference = np.array([70.0, 40.0])
    x, y = 2.5 * (pose.matrix @ [*on_reference, 1]) + 0.75
    image = np.zeros((240, 320, 3), np.uint8)
    if not (8 < x < 311 and 8 < y < 231):
        return
    image[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6] = 255
    aligned = align(image, pose)
    assert centre_of(aligned[:, :, 0]) == pytest.approx(2.5 * on_reference + 0.75, abs=1.5)
    back = map_to_frame(np.ascontiguousarray(aligned[:, :, 0], np.float32), pose)
    assert centre_of(back) == pytest.approx((x, y), abs=1.5)


def centre_of(values: NDArray[np.generic]) -> tuple[float, float]:
    rows, columns = np.nonzero(np.asarray(values, np.float32) > 100)
    return float(columns.mean()), float(rows.mean())


def test_positions_outside_the_aligned_frame_get_the_lowest_value() -> None:
    """Where the aligned frame shows nothing, the map cannot say more than its lowest value."""
    pose = Pose(np.array([[1.0, 0, 20], [0, 1.0, 0]]), (100, 100), 1.0)
    values = np.random.default_rng(0).uniform(3, 9, (25, 25)).astype(np.float32)
    back = map_to_frame(values, pose)
    assert (back[:, :4] == values.min()).all()
    np.testing.assert_allclose(back[:, 5:], values[:, :20], atol=1e-3)


def test_an_unmoved_part_leaves_the_frame_as_it_is() -> None:
    """Alignment by the pose of the reference itself changes no pixel, and no value of a map."""
    pose = Pose(UNMOVED, (128, 96), 1.0)
    image = np.random.default_rng(0).integers(0, 255, (200, 150, 3), np.uint8)
    np.testing.assert_array_equal(align(image, pose), image)
    np.testing.assert_array_equal(map_to_frame(image[:, :, 0].astype(np.float32), pose), image[:, :, 0])
