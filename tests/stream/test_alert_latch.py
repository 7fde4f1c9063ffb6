"""Latch, acknowledgement, minimum area and severity: the state machine against its promises, on any sequence."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.stream.alerts import (
    AlertEvent,
    AlertRules,
    AlertState,
    Observation,
    Severity,
    acknowledge,
    finish,
    severity_bands,
    step,
)

THRESHOLD, CLOSING = 1.0, 0.5
BANDS = (Severity("minor", THRESHOLD), Severity("major", 2.0), Severity("critical", 2.9))
ACKNOWLEDGED = None
# one letter per kind of event, for a grammar of what may follow what
LETTERS = {
    "opened": "o", "peak": "p", "raised": "p", "held": "h", "resumed": "r", "acknowledged": "a", "closed": "c"
}  # fmt: skip
GRAMMAR = re.compile(r"(o(p*hr?)*p*(ap*)?c)*(o(p*hr)*p*(hr?|ap*)?)?")


@st.composite
def rules(draw: st.DrawFn, *, latch: bool | None = None) -> AlertRules:
    window = draw(st.integers(1, 5))
    return AlertRules(
        THRESHOLD,
        CLOSING,
        open_frames=draw(st.integers(1, window)),
        window_frames=window,
        close_frames=draw(st.integers(1, 3)),
        cooldown_s=draw(st.sampled_from([0.0, 2.5])),
        min_area=draw(st.sampled_from([0.0, 0.3])),
        latch=draw(st.booleans()) if latch is None else latch,
        resume_s=draw(st.sampled_from([0.0, 7.0])),
        severities=BANDS,
    )


frames = st.builds(Observation, st.sampled_from([0.1, 0.5, 0.7, 1.2, 2.5, 3.0]), st.sampled_from([0.0, 0.3, 1.0]))
# None is an acknowledgement
inputs = st.lists(st.one_of(frames, frames, frames, st.none()), max_size=60)


def play(rules: AlertRules, values: list[Observation | None]) -> tuple[AlertState, list[tuple[int, AlertEvent]]]:
    """Every event with the index of its input."""
    state, events = AlertState(), []
    for index, value in enumerate(values):
        if value is None:
            state, event = acknowledge(state, time_s=float(index))
        else:
            state, event = step(rules, state, value, frame_index=index, time_s=float(index))
        if event is not None:
            events.append((index, event))
    return state, events


@settings(max_examples=300)
@given(rules(), inputs)
def test_opens_and_resumes_only_on_n_of_m(rules: AlertRules, values: list[Observation | None]) -> None:
    """Behind every opening and resuming are N anomalous frames of the last M, none used for an earlier one."""
    _, events = play(rules, values)
    for index, event in events:
        if event.kind not in ("opened", "resumed"):
            continue
        before = [at for at, other in events if at < index and other.kind in ("closed", "held")]
        since = values[max(before, default=-1) + 1 : index + 1]
        recent = [value for value in since if value is not None][-rules.window_frames :]
        assert sum(value.score > THRESHOLD and value.area >= rules.min_area for value in recent) >= rules.open_frames


@settings(max_examples=300)
@given(rules(latch=True), inputs)
def test_a_latch_holds_until_acknowledged(rules: AlertRules, values: list[Observation | None]) -> None:
    """No latched alert closes before it is acknowledged, neither after quiet frames nor at the end of the stream."""
    state, events = play(rules, values)
    state, last = finish(rules, state, time_s=1e3)
    for _, event in [*events, *([(0, last)] if last else [])]:
        if event.kind == "closed":
            assert event.alert.acknowledged_s is not None
            assert values[round(event.alert.acknowledged_s)] is ACKNOWLEDGED
    if state.alert is not None:
        assert state.alert.acknowledged_s is None
        assert state.alert.held_s is not None


@settings(max_examples=300)
@given(rules(), inputs)
def test_always_closes(rules: AlertRules, values: list[Observation | None]) -> None:
    """After enough quiet frames and an acknowledgement, in either order, nothing is open; without latch also without."""
    quiet = [Observation(CLOSING, 1.0)] * rules.close_frames
    for ending in ([*quiet, None], [None, *quiet], *([] if rules.latch else [quiet])):
        state, _ = play(rules, [*values, *ending])
        assert state.alert is None


@given(st.integers(0, 20), st.lists(st.booleans(), max_size=80))
def test_resumptions_are_apart(resume_s: int, defects: list[bool]) -> None:
    """No alert resumes twice within `resume_s`, however it comes and goes."""
    rules = AlertRules(
        THRESHOLD,
        CLOSING,
        open_frames=1,
        window_frames=1,
        close_frames=1,
        cooldown_s=0.0,
        latch=True,
        resume_s=resume_s,
    )
    _, events = play(rules, [Observation(2.0 if defect else 0.1) for defect in defects])
    at = [index for index, event in events if event.kind == "resumed"]
    assert all(later - earlier >= resume_s for earlier, later in itertools.pairwise(at))


def test_a_flickering_latched_alert_is_reported_once_a_minute() -> None:
    """Ten minutes of a defect every ten frames, at ten frames a second: a report of each change twice a minute at most."""
    rules = AlertRules(
        THRESHOLD, CLOSING, open_frames=1, window_frames=1, close_frames=2, cooldown_s=0.0, latch=True, resume_s=60.0
    )
    state, kinds = AlertState(), []
    for index in range(6000):
        seen = Observation(2.0 if index % 10 == 0 else 0.1)
        state, event = step(rules, state, seen, frame_index=index, time_s=index / 10)
        kinds += [] if event is None else [event.kind]
    assert kinds.count("resumed") == 10
    assert len(kinds) == 2 + 2 * 10 - 1


@settings(max_examples=300)
@given(rules(), inputs)
def test_events_come_in_order(rules: AlertRules, values: list[Observation | None]) -> None:
    """The order of events follows a grammar; alert numbers rise, and no event follows its alert's closing."""
    state, events = play(rules, values)
    word = "".join(LETTERS[event.kind] for _, event in events)
    assert GRAMMAR.fullmatch(word), word
    numbers = [event.alert.number for _, event in events]
    assert numbers == sorted(numbers)
    assert sum(event.kind == "opened" for _, event in events) == state.n_alerts


@given(rules(), inputs)
def test_severity_follows_the_peak_and_never_falls(rules: AlertRules, values: list[Observation | None]) -> None:
    """An alert's band is that of its peak; `raised` is said exactly when it changes."""
    _, events = play(rules, values)
    previous = None
    for _, event in events:
        alert = event.alert
        expected = [band.name for band in BANDS if alert.peak_score > band.level][-1]
        assert alert.severity == expected
        if previous is not None and previous.number == alert.number:
            assert alert.peak_score >= previous.peak_score
            if event.kind in ("peak", "raised"):
                assert (event.kind == "raised") == (alert.severity != previous.severity)
        previous = alert


def test_small_marks_are_no_alert() -> None:
    """A score above the threshold on too small an area opens nothing, and ends what is open."""
    rules = AlertRules(THRESHOLD, CLOSING, 1, 1, 2, cooldown_s=0.0, min_area=0.1)
    state, events = play(rules, [Observation(5.0, 0.09)] * 5)
    assert events == []
    state, events = play(rules, [Observation(5.0, 0.1), *[Observation(9.0, 0.05)] * 2])
    assert [event.kind for _, event in events] == ["opened", "closed"]
    assert events[-1][1].alert.peak_score == 5.0
    assert state.alert is None


def test_a_held_alert_goes_on_as_the_same_one() -> None:
    """Held, resumed, held again and acknowledged: one alert, one number."""
    rules = AlertRules(THRESHOLD, CLOSING, 2, 2, 1, cooldown_s=0.0, latch=True)
    bad, good = Observation(2.0), Observation(0.0)
    _, events = play(rules, [bad, bad, good, bad, bad, good, None])
    assert [event.kind for _, event in events] == ["opened", "held", "resumed", "held", "closed"]
    assert {event.alert.number for _, event in events} == {1}
    assert events[-1][1].alert.ended_by == "acknowledged"


def test_bands_are_multiples_of_the_way_to_the_threshold() -> None:
    """1 is the threshold; bands are sorted by level, and rules refuse them otherwise."""
    bands = severity_bands([0.0, 1.0, 2.0], 3.0, {"critical": 3.0, "minor": 1.0})
    assert bands == (Severity("minor", 3.0), Severity("critical", 7.0))
    with pytest.raises(ValueError, match="rising"):
        AlertRules(1.0, 0.5, 1, 1, 1, 0.0, severities=bands[::-1])
    with pytest.raises(ValueError, match="min_area"):
        AlertRules(1.0, 0.5, 1, 1, 1, 0.0, min_area=1.5)


def test_a_lower_threshold_does_not_use_frames_judged_by_the_old_one() -> None:
    """A change of threshold empties the window."""
    rules = AlertRules(THRESHOLD, CLOSING, 2, 3, 1, cooldown_s=0.0)
    state, _ = step(rules, AlertState(), Observation(2.0), frame_index=0, time_s=0.0)
    state, event = step(rules, state.forget_recent(), Observation(2.0), frame_index=1, time_s=1.0)
    assert event is None
    state, event = step(rules, state, Observation(2.0), frame_index=2, time_s=2.0)
    assert event is not None


def test_quiet_frames_before_a_gap_do_not_close_with_those_after_it() -> None:
    """The count of quiet frames restarts after a gap, whose content is unknown."""
    rules = AlertRules(THRESHOLD, CLOSING, 1, 1, 2, cooldown_s=0.0)
    state, _ = play(rules, [Observation(2.0), Observation(0.1)])
    state, event = step(rules, state.interrupt(), Observation(0.1), frame_index=2, time_s=2.0)
    assert event is None
    state, event = step(rules, state, Observation(0.1), frame_index=3, time_s=3.0)
    assert event is not None
    assert event.kind == "closed"
