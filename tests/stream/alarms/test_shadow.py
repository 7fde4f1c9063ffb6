"""Shadow alerts against the alert rule itself."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgead.stream.alarms.shadow import ShadowAlert, alerts_in
from edgead.stream.alerts import AlertRules, AlertState, Observation, step

LEVEL = 1.0


@st.composite
def rules(draw: st.DrawFn) -> AlertRules:
    window = draw(st.integers(1, 6))
    return AlertRules(
        LEVEL,
        draw(st.sampled_from([0.0, 0.5, 1.0])),
        open_frames=draw(st.integers(1, window)),
        window_frames=window,
        close_frames=draw(st.integers(1, 5)),
        cooldown_s=draw(st.sampled_from([0.0, 2.0, 6.5])),
    )


# Long quiet stretches too: those are what is not run.
scores = st.lists(st.sampled_from([[0.0] * 12, [0.7] * 9, [0.4], [1.0], [2.0], [2.0]]), max_size=40).map(
    lambda parts: [score for part in parts for score in part]
)


def states(rules: AlertRules, values: list[float]) -> list[AlertState]:
    """The state of the rule after every frame, nothing left out; one frame per second."""
    state, after = AlertState(), []
    for index, value in enumerate(values):
        state, _ = step(rules, state, Observation(value), frame_index=index, time_s=float(index))
        after.append(state)
    return after


@settings(max_examples=200)
@given(rules(), scores)
def test_a_shadow_is_the_rule_at_its_level(rules: AlertRules, values: list[float]) -> None:
    """Frame by frame a shadow opens and closes as the rule with that level for both thresholds and no cooldown."""
    shadow = ShadowAlert(LEVEL, replace(rules, threshold=9.0))
    n_before = 0
    for value, state in zip(values, states(replace(rules, closing_level=LEVEL, cooldown_s=0.0), values), strict=True):
        seen = shadow.add(value)
        assert seen.is_anomalous == (value > LEVEL)
        assert seen.has_opened == (state.n_alerts > n_before)
        assert seen.is_open == (state.alert is not None)
        n_before = state.n_alerts


@settings(max_examples=200)
@given(rules(), scores)
def test_a_shadow_opens_at_least_as_often(rules: AlertRules, values: list[float]) -> None:
    """Hysteresis and cooldown can only take alerts away."""
    shadow = ShadowAlert(LEVEL, rules)
    opened = 0
    for value, state in zip(values, states(rules, values), strict=True):
        opened += shadow.add(value).has_opened
        assert opened >= state.n_alerts


@example(AlertRules(LEVEL, 0.5, 1, 1, 2, 0.0), [2.0, *[0.7] * 9, *[0.0] * 9, 2.0])
@settings(max_examples=200)
@given(rules(), scores)
def test_leaving_quiet_stretches_out_changes_nothing(rules: AlertRules, values: list[float]) -> None:
    """The quick count equals the count of the rule run on every frame, cooldown and hysteresis included."""
    expected = states(rules, values)[-1].n_alerts if values else 0
    assert alerts_in(values, rules, 1.0) == expected
