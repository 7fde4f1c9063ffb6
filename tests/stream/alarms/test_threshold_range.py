"""Which thresholds a person may set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.heatmap import HeatmapScale
from edgead.manifest import ThresholdRecord
from edgead.stream.alarms.threshold_range import threshold_range

SCALE = HeatmapScale(1.0, 2.0, 3.0)


def record(value: float, rate: float, n_images: int = 5) -> ThresholdRecord:
    return ThresholdRecord(value=value, false_alarm_rate=rate, certified=False, interval=None, n_images=n_images)


def test_from_the_smallest_good_score_to_ten_times_the_scale() -> None:
    """Above the scale's end or the highest good score, whichever is higher; the median is where it is counted from."""
    meant = threshold_range((0.5, 1.0, 1.5), SCALE, 2.0)
    assert (meant.low, meant.high, meant.far) == (0.5, 21.0, 7.0)
    assert threshold_range((0.5, 1.0, 4.0), SCALE, 2.0).high == 31.0
    assert (meant.refusal(0.5), meant.refusal(21.0)) == ("", "")
    assert "every good picture would alarm" in meant.refusal(0.49)
    for value in (21.1, 1e300, float("inf")):
        assert "nothing could alarm" in meant.refusal(value)


def test_without_good_scores_the_scale_alone_tells() -> None:
    """Without good scores the range starts at the low end of the heatmap scale."""
    meant = threshold_range((), SCALE, 2.0)
    assert (meant.low, meant.high) == (1.0, 21.0)
    assert meant.warning(record(1.5, 0.5, n_images=4)) == "", "with so few the rate is a guess"


def test_what_the_zone_started_with_can_be_set_again() -> None:
    """Also where the settings say an odd one."""
    for odd in (-7.0, 500.0):
        assert threshold_range((0.5, 1.0, 1.5), SCALE, odd).refusal(odd) == ""


@pytest.mark.parametrize(
    ("value", "rate", "said"), [(2.0, 0.1, ""), (7.1, 1e-9, "very strong"), (0.6, 0.5, "half of the good")]
)
def test_unusual_ones_are_warned_of(value: float, rate: float, said: str) -> None:
    """Far out, or where good pictures alarm."""
    warning = threshold_range((0.5, 1.0, 1.5), SCALE, 2.0).warning(record(value, rate))
    assert said in warning if said else warning == ""


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.floats(-1e6, 1e6))
def test_the_ends_can_be_typed_as_they_are_told(scores: list[float], started: float) -> None:
    """A number read in a refusal is not refused."""
    meant = threshold_range(scores, SCALE, started)
    for end in (meant.low, meant.high):
        assert meant.refusal(float(f"{end:.4g}")) == ""
