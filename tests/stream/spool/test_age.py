"""Age does not depend on who sets the wall clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.stream.spool.age import DAY_S, MAX_PAUSE_S, AgeClock

from .builders import Clock

YEAR_S = 365 * DAY_S


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(-30 * YEAR_S, 30 * YEAR_S)), max_size=10))
def test_setting_the_wall_clock_changes_nothing_while_running(steps: list[tuple[float, float]]) -> None:
    """Age is the time that passed, even if the wall clock was set meanwhile."""
    clock = Clock()
    age = AgeClock(100.0, clock.wall(), clock.wall, clock.monotonic)
    for passed_s, jump_s in steps:
        clock.pass_s(passed_s)
        clock.wall_s += jump_s
    assert age() == pytest.approx(100.0 + sum(passed for passed, _ in steps))


@pytest.mark.parametrize(
    ("pause_s", "counted_s"),
    [(0.0, 0.0), (3600.0, 3600.0), (-YEAR_S, 0.0), (50 * YEAR_S, MAX_PAUSE_S)],
)
def test_a_pause_counts_within_bounds(pause_s: float, counted_s: float) -> None:
    """The time between two processes counts, but neither backwards nor for years."""
    clock = Clock()
    age = AgeClock(100.0, clock.wall_s - pause_s, clock.wall, clock.monotonic)
    assert age() == pytest.approx(100.0 + counted_s)


def test_a_new_spool_is_young() -> None:
    """Without a past, the age is 0."""
    clock = Clock()
    assert AgeClock(0.0, None, clock.wall, clock.monotonic)() == 0.0
