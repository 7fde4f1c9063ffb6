"""Alerts counted afterwards are those that the state machine opens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.stream.alarms.replay import count_openings
from edgead.stream.alerts import AlertRules, AlertState, Observation, step

SCORES = st.lists(st.sampled_from([0.0, 0.4, 0.6, 1.0]), max_size=120)
RULES = st.builds(
    lambda n, more, close, cooldown_s: AlertRules(0.5, 0.3, n, n + more, close, cooldown_s),
    st.integers(1, 4), st.integers(0, 4), st.integers(1, 4), st.sampled_from([0.0, 3.0, 20.0]),
)  # fmt: skip


@given(RULES, SCORES, st.sets(st.integers(0, 119), max_size=4))
def test_it_counts_what_the_state_machine_opens(rules: AlertRules, scores: list[float], breaks: set[int]) -> None:
    """N of M, hysteresis, cooldown and outages: the same number, whatever the frames are."""
    state, opened = AlertState(), 0
    for index, score in enumerate(scores):
        if index in breaks:
            state = state.interrupt()
        state, event = step(rules, state, Observation(score), frame_index=index, time_s=float(index))
        opened += event is not None and event.kind == "opened"
    times_s = np.arange(len(scores), dtype=np.float64)
    # an outage before frame `index`
    found = count_openings(rules, times_s, np.array(scores, np.float32), [index - 0.5 for index in breaks])
    assert found == opened


@pytest.mark.parametrize(("scores", "expected"), [([1, 0] * 20, 1), ([1, 0, 0, 0, 0] * 8, 0), ([1] * 3 + [0] * 5, 1)])
def test_single_frames_raise_no_alert(scores: list[int], expected: int) -> None:
    """Three of the last five: every other frame is one alert, every fifth frame none."""
    rules = AlertRules(0.5, 0.5, open_frames=3, window_frames=5, close_frames=5, cooldown_s=0.0)
    times_s = np.arange(len(scores), dtype=np.float64)
    assert count_openings(rules, times_s, np.array(scores, np.float32)) == expected
