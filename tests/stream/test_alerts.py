"""The alert state machine against its promises, on any sequence of scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgead.stream.alerts import AlertEvent, AlertRules, AlertState, Observation, closing_level, finish, step

THRESHOLD, CLOSING = 1.0, 0.5


@st.composite
def rules(draw: st.DrawFn) -> AlertRules:
    window = draw(st.integers(1, 6))
    return AlertRules(
        THRESHOLD,
        CLOSING,
        open_frames=draw(st.integers(1, window)),
        window_frames=window,
        close_frames=draw(st.integers(1, 4)),
        cooldown_s=draw(st.sampled_from([0.0, 1.0, 4.5])),
    )


# Quiet, between the levels, anomalous; with both levels themselves.
scores = st.lists(st.sampled_from([0.1, 0.5, 0.7, 1.0, 1.2, 2.0, 3.0]), max_size=60)


def play(rules: AlertRules, values: list[float]) -> tuple[AlertState, list[tuple[int, AlertEvent]]]:
    """Every event with the index of its frame; one frame per second."""
    state, events = AlertState(), []
    for index, value in enumerate(values):
        state, event = step(rules, state, Observation(value), frame_index=index, time_s=float(index))
        if event is not None:
            events.append((index, event))
    return state, events


@given(rules(), scores)
def test_opens_only_on_n_of_the_last_m_frames(rules: AlertRules, values: list[float]) -> None:
    """An alert opens on an anomalous frame with at least N anomalous ones among the last M since the last alert."""
    _, events = play(rules, values)
    closed_at = -1
    for index, event in events:
        if event.kind == "opened":
            since = max(closed_at + 1, index - rules.window_frames + 1)
            assert sum(value > THRESHOLD for value in values[since : index + 1]) >= rules.open_frames
            assert values[index] > THRESHOLD
        elif event.kind == "closed":
            closed_at = index


@given(rules(), scores)
def test_closes_after_enough_quiet_frames(rules: AlertRules, values: list[float]) -> None:
    """Whatever came before, `close_frames` quiet frames leave no alert open, and fewer never close one."""
    state, events = play(rules, [*values, *[CLOSING] * rules.close_frames])
    assert state.alert is None
    quiet = [value <= CLOSING for value in [*values, *[CLOSING] * rules.close_frames]]
    for index, event in events:
        if event.kind == "closed":
            assert all(quiet[index - rules.close_frames + 1 : index + 1])


@given(rules(), scores)
def test_opening_and_closing_alternate_in_order(rules: AlertRules, values: list[float]) -> None:
    """Events alternate, carry rising numbers and times, and the end of the stream leaves nothing open."""
    state, events = play(rules, values)
    state, last = finish(rules, state, time_s=float(len(values)))
    kinds = [event.kind for _, event in events if event.kind != "peak"] + ([last.kind] if last else [])
    assert kinds == ["opened", "closed"] * (len(kinds) // 2)
    assert state.alert is None
    opened = [event.alert for _, event in events if event.kind == "opened"]
    assert [alert.number for alert in opened] == list(range(1, len(opened) + 1))
    assert [alert.opened_s for alert in opened] == sorted({alert.opened_s for alert in opened})


@example(AlertRules(THRESHOLD, CLOSING, 1, 1, 1, cooldown_s=4.5), [2.0, 0.1, 2.0])
@given(rules(), scores)
def test_never_opens_in_the_cooldown(rules: AlertRules, values: list[float]) -> None:
    """Between a closing and the next opening lies at least the cooldown."""
    _, events = play(rules, values)
    closed_s = None
    for _, event in events:
        if event.kind == "closed":
            closed_s = event.alert.closed_s
        elif event.kind == "opened" and closed_s is not None:
            assert event.alert.opened_s - closed_s >= rules.cooldown_s


@given(rules(), scores)
def test_peak_is_the_strongest_frame_of_the_alert(rules: AlertRules, values: list[float]) -> None:
    """A closed alert names the first of its strongest frames."""
    _, events = play(rules, values)
    for index, event in events:
        if event.kind == "closed":
            inside = values[event.alert.opened_frame : index + 1]
            assert event.alert.peak_score == max(inside)
            assert event.alert.peak_frame == event.alert.opened_frame + inside.index(max(inside))


@settings(max_examples=200)
@given(rules(), scores)
def test_opens_when_it_must(rules: AlertRules, values: list[float]) -> None:
    """Without an earlier alert, the first frame with N of M opens one: the machine cannot be silent."""
    _, events = play(rules, values)
    expected = [
        index
        for index, value in enumerate(values)
        if value > THRESHOLD
        and sum(v > THRESHOLD for v in values[max(0, index - rules.window_frames + 1) : index + 1]) >= rules.open_frames
    ]
    opened = [index for index, event in events if event.kind == "opened"]
    assert opened[:1] == expected[:1]


def test_scores_between_the_levels_keep_an_alert_open() -> None:
    """Hysteresis: a score just under the threshold neither closes an alert nor opens one."""
    rules = AlertRules(THRESHOLD, CLOSING, open_frames=1, window_frames=1, close_frames=2, cooldown_s=0.0)
    state, events = play(rules, [0.7, 0.7, 2.0, *[0.7] * 50])
    assert state.alert is not None
    assert [event.kind for _, event in events] == ["opened"]


@pytest.mark.parametrize(
    ("good", "ratio", "expected"),
    [([0.0, 0.2, 0.4], 0.5, 0.6), ([0.0, 0.2, 0.4], 1.0, 1.0), ([5.0, 6.0], 0.5, 1.0), ([], 0.5, 1.0)],
)
def test_closing_level_lies_between_median_and_threshold(good: list[float], ratio: float, expected: float) -> None:
    """The closing level is the given share of the way, and never above the threshold."""
    assert closing_level(good, 1.0, ratio) == pytest.approx(expected)


@pytest.mark.parametrize(
    "change", [{"closing_level": 1.1}, {"open_frames": 4}, {"open_frames": 0}, {"close_frames": 0}]
)
def test_impossible_rules_are_refused(change: dict[str, float]) -> None:
    """Rules that could never open, or close before they open, raise."""
    rules = AlertRules(THRESHOLD, CLOSING, open_frames=2, window_frames=3, close_frames=2, cooldown_s=0.0)
    with pytest.raises(ValueError, match="must"):
        replace(rules, **change)  # type: ignore[arg-type]
