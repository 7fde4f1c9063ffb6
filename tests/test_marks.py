"""Marks of an image: an anomalous one always has a mark, inside its zone, at any size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgead.heatmap import find_regions
from edgead.marks import Hysteresis, joined, marks, peak_region, restricted
from edgead.prediction import Segmentation

MAPS = arrays(np.float32, (5, 6), elements=st.floats(-1e4, 1e4, width=32))
INSIDE = arrays(np.bool_, (5, 6)).filter(lambda mask: bool(mask.any()))
LEVELS = st.floats(-2e4, 2e4)
OWN = st.none() | arrays(np.bool_, st.sampled_from([(5, 6), (9, 12), (3, 3)])).map(
    lambda mask: Segmentation(mask.astype(np.float32), 0.5)
)
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(MAPS, LEVELS, st.none() | INSIDE, OWN, SIZES)
@settings(max_examples=150, deadline=None)
def test_an_anomalous_image_always_shows_an_outline(
    anomaly_map: NDArray[np.float32],
    level: float,
    inside: NDArray[np.bool_] | None,
    own: Segmentation | None,
    size: tuple[int, int],
) -> None:
    """Whatever the level, the zone or the segmentation, some pixel is marked, on a picture of any size."""
    found = marks(anomaly_map, level, is_anomalous=True, own=own, inside=inside)
    assert found.mask.any()
    assert found.mask_at(size).any()
    assert find_regions(anomaly_map, level, size, found)


@given(MAPS, LEVELS, INSIDE)
@settings(max_examples=100, deadline=None)
def test_nothing_outside_the_zone_is_marked(
    anomaly_map: NDArray[np.float32], level: float, inside: NDArray[np.bool_]
) -> None:
    """A position outside the zone is never marked, neither by the level nor for want of another mark."""
    for is_anomalous in (False, True):
        found = marks(anomaly_map, level, is_anomalous=is_anomalous, inside=inside)
        assert not (found.mask & ~inside).any()


@given(MAPS, LEVELS, st.none() | INSIDE)
@settings(max_examples=100, deadline=None)
def test_marks_of_a_level_are_those_above_it(
    anomaly_map: NDArray[np.float32], level: float, inside: NDArray[np.bool_] | None
) -> None:
    """Where the map exceeds the level, anomalous or not, exactly those positions are marked, as before."""
    above = anomaly_map > np.float32(level)
    above = above if inside is None else above & inside
    assert (marks(anomaly_map, level, is_anomalous=False, inside=inside).mask == above).all()
    if above.any():
        assert (marks(anomaly_map, level, is_anomalous=True, inside=inside).mask == above).all()


@given(MAPS, st.none() | INSIDE)
@settings(max_examples=100, deadline=None)
def test_the_region_of_the_peak_is_connected_and_holds_it(
    anomaly_map: NDArray[np.float32], inside: NDArray[np.bool_] | None
) -> None:
    """The mark for want of another holds the largest value and everything that it marks is at least half as high."""
    mask = peak_region(anomaly_map, inside).mask
    seen = anomaly_map if inside is None else np.where(inside, anomaly_map, -np.inf)
    row, column = np.unravel_index(int(seen.argmax()), seen.shape)
    assert mask[row, column]
    typical = np.median(anomaly_map if inside is None else anomaly_map[inside])
    lowest, half = anomaly_map[mask].min(), typical + 0.5 * (float(seen.max()) - typical)
    assert lowest >= half or lowest == pytest.approx(half, rel=1e-5)


def test_a_single_high_position_stays_visible_at_any_size() -> None:
    """Interpolation lowers a peak of one position below the level; its position is marked all the same."""
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[4, 7] = 1.0
    found = marks(anomaly_map, 0.99, is_anomalous=True)
    assert not Segmentation(anomaly_map, 0.99).mask_at((320, 320)).any()
    rows, columns = np.nonzero(found.mask_at((320, 320)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (128, 159, 224, 255)
    assert found.mask_at((5, 5)).sum() == 1


def test_joined_marks_are_the_union() -> None:
    """Marks of zones with levels of their own add up."""
    anomaly_map = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    left, right = np.array([[True, True, False, False]]), np.array([[False, False, True, True]])
    parts = [restricted(Segmentation(anomaly_map, 1.5), left), restricted(Segmentation(anomaly_map, 3.5), right)]
    assert joined(parts).mask.tolist() == [[False, True, False, True]]
    assert joined(parts[:1]) is parts[0]


TIED = np.zeros((5, 6), np.float32)
TIED[0, 0], TIED[4, 5] = 1.0, 0.3


@example(TIED, 0.1, 0.2, 1, 1, None)
@given(MAPS, st.floats(-1e4, 1e4), st.floats(0.0, 1e4), st.sampled_from([1, 3]), st.integers(1, 6), st.none() | INSIDE)
@settings(max_examples=150, deadline=None)
def test_a_rule_keeps_whole_regions_and_the_peak(
    anomaly_map: NDArray[np.float32],
    low: float,
    more: float,
    closing: int,
    min_area: int,
    inside: NDArray[np.bool_] | None,
) -> None:
    """Every kept region has the area and the height that the rule asks, or holds the peak; none is kept in part."""
    rule = Hysteresis(low, low + more, closing, min_area)
    mask = rule.segment(anomaly_map, inside).mask
    square = np.ones((closing, closing), np.uint8)
    closed = cv2.morphologyEx(anomaly_map, cv2.MORPH_CLOSE, square) if closing > 1 else anomaly_map
    seen = closed if inside is None else np.where(inside, closed, -np.inf)
    row, column = np.unravel_index(
        int((anomaly_map if inside is None else np.where(inside, anomaly_map, -np.inf)).argmax()), anomaly_map.shape
    )
    n, labels = cv2.connectedComponents((seen > np.float32(low)).astype(np.uint8), connectivity=8)
    for label in range(1, n):
        region = labels == label
        is_strong = seen[region].max() > np.float32(rule.high) and region.sum() >= min_area
        assert mask[region].all() == mask[region].any() == bool(is_strong or region[row, column])
    assert not mask[labels == 0].any()


@given(MAPS, LEVELS, st.tuples(st.integers(5, 40), st.integers(6, 40)))
@settings(max_examples=100, deadline=None)
def test_marks_on_a_picture_lie_at_marked_positions(
    anomaly_map: NDArray[np.float32], level: float, size: tuple[int, int]
) -> None:
    """Interpolation marks no pixel of a picture, no smaller than the map, more than one position away from a marked one."""
    for found in (
        peak_region(anomaly_map),
        Hysteresis(level, level + 10.0).segment(anomaly_map),
        marks(anomaly_map, level, is_anomalous=False, rule=Hysteresis(level, level)),
    ):
        near = cv2.dilate(found.mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        rows = ((np.arange(size[0]) + 0.5) * near.shape[0] / size[0]).astype(int)
        columns = ((np.arange(size[1]) + 0.5) * near.shape[1] / size[1]).astype(int)
        assert not (found.mask_at(size) & ~near[np.ix_(rows, columns)]).any()
