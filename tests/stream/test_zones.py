"""Zones: what a polygon covers, what its score is, and that the rest of the picture is not looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import ConfigError
from edgead.runner import FakeRunner
from edgead.stream.camera import Camera
from edgead.stream.zones import ZoneShape, union, zone_score

from .fakes import RULES, THRESHOLD, ListSource, watch

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
corners = st.tuples(st.floats(0, 1), st.floats(0, 1))


def test_the_default_zone_is_the_whole_picture() -> None:
    """Without polygons every position belongs to it."""
    assert ZoneShape().is_whole
    assert ZoneShape().mask((3, 4)).all()


@pytest.mark.parametrize("size", [(2, 2), (7, 10), (40, 40)])
def test_half_a_picture_is_half_the_positions(size: tuple[int, int]) -> None:
    """A polygon over the left half covers it, and as `exclude` leaves the right half."""
    mask = ZoneShape("left", include=(LEFT,)).mask(size)
    expected = np.zeros(size, bool)
    expected[:, : size[1] // 2] = True
    assert np.array_equal(mask, expected)
    assert np.array_equal(ZoneShape("right", exclude=(LEFT,)).mask(size), ~expected)


@given(st.lists(corners, min_size=3, max_size=6), st.integers(4, 30), st.integers(4, 30))
def test_a_zone_and_its_complement_share_nothing(points: list[tuple[float, float]], height: int, width: int) -> None:
    """Positions half in and half out go to both by their rule; no others do, and none is lost."""
    polygon = tuple(points)
    try:
        inside = ZoneShape("in", include=(polygon,)).mask((height, width))
        outside = ZoneShape("out", exclude=(polygon,)).mask((height, width))
    except ConfigError:
        return
    assert (inside | outside).all()
    assert (inside & outside).mean() < 0.2


def test_a_zone_that_covers_nothing_is_refused() -> None:
    """Smaller than half a position, or excluded altogether."""
    speck = ((0.5, 0.5), (0.501, 0.5), (0.5, 0.501))
    with pytest.raises(ConfigError, match="covers none"):
        ZoneShape("speck", include=(speck,)).mask((10, 10))
    with pytest.raises(ConfigError, match="'gone'"):
        ZoneShape("gone", include=(LEFT,), exclude=(LEFT,)).mask((10, 10))


def test_the_score_is_the_mean_of_the_largest_values_inside() -> None:
    """Two percent of the zone's positions, at least one; what is outside has no say."""
    values = np.arange(400, dtype=np.float32).reshape(20, 20)
    whole = np.ones((20, 20), bool)
    assert zone_score(values, whole) == pytest.approx(np.mean(np.arange(392, 400)))
    few = np.zeros((20, 20), bool)
    few[0, :3] = True
    assert zone_score(values, few) == 2.0


def test_union_is_none_where_the_whole_picture_is_watched() -> None:
    """Masks add up; a whole picture among them needs none."""
    one, other = np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)
    joined = union([one, other])
    assert joined is not None
    assert joined.all()
    assert union([one, None]) is None
    assert union([]) is None


def test_nothing_outside_the_zones_is_marked_or_alarms() -> None:
    """A defect on the right is no business of a camera that watches the left; both see it when both are watched."""
    picture = np.full((1, 32, 32, 3), 100, np.uint8)
    picture[:, :, 16:] = 250
    outputs = FakeRunner((32, 32)).infer(picture)
    left = watch(RULES, ZoneShape("left", include=(LEFT,)))
    right = watch(RULES, ZoneShape("right", exclude=(LEFT,)))
    only_left = Camera("line", ListSource([]), [left], pixel_threshold=THRESHOLD)
    prediction, verdicts = only_left.judge(outputs, 0, frame_index=0, time_s=0.0)
    assert not prediction.pred_mask.any()
    assert [(verdict.zone, verdict.score, verdict.is_anomalous) for verdict in verdicts] == [("left", 0.0, False)]
    both = Camera("line", ListSource([]), [left, right], pixel_threshold=THRESHOLD)
    prediction, verdicts = both.judge(outputs, 0, frame_index=1, time_s=0.1)
    assert prediction.pred_mask.tolist() == [[False, True], [False, True]]
    assert [verdict.is_anomalous for verdict in verdicts] == [False, True]
