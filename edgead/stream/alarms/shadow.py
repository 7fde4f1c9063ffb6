"""Copies of the alert rule at other levels than the threshold, to count the alerts that would have opened there.

Beside the pipeline this is the only module that runs `alerts.step`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edgead.stream.alerts import AlertRules, AlertState, Observation, step


@dataclass(frozen=True)
class Shadow:
    """Effect of one frame on a shadow alert."""

    is_anomalous: bool
    has_opened: bool
    is_open: bool


class ShadowAlert:
    """The alert rule at another level, closing at that level, without cooldown, latch and minimum area.

    It opens at least as often as the real rule at this level: an earlier closing never delays the next opening.

    Args:
        level: Threshold in raw units.
        rules: Alert rule that provides N, M and the number of quiet frames.
    """

    def __init__(self, level: float, rules: AlertRules) -> None:
        self._rules = replace(
            rules, threshold=level, closing_level=level, cooldown_s=0.0, min_area=0.0, latch=False, severities=()
        )
        self._state = AlertState()
        # After this many consecutive frames up to the level, another one changes nothing: no alert open, window empty.
        self._rest_after = max(rules.window_frames, rules.close_frames)
        self._n_quiet = self._rest_after

    def add(self, score: float) -> Shadow:
        """Add the next frame's score."""
        is_anomalous = score > self._rules.threshold
        self._n_quiet = 0 if is_anomalous else self._n_quiet + 1
        if self._n_quiet > self._rest_after:
            return Shadow(is_anomalous=False, has_opened=False, is_open=False)
        before = self._state.n_alerts
        self._state = _advance(self._rules, self._state, score, 0, 0.0)
        return Shadow(is_anomalous, self._state.n_alerts > before, self._state.alert is not None)


def alerts_in(scores: Iterable[float], rules: AlertRules, fps: float) -> int:
    """Number of alerts that the real rule opens on a sequence of scores at `fps` frames per second.

    Exact, and fast if anomalous frames are rare: frames of a quiet stretch that cannot change the state are skipped.
    """
    state, n_quiet = AlertState(), 0
    rest_after = max(rules.window_frames, rules.close_frames)
    for index, score in enumerate(scores):
        n_quiet = n_quiet + 1 if score <= rules.closing_level else 0
        if n_quiet <= rest_after:
            state = _advance(rules, state, score, index, index / fps)
    return state.n_alerts


def _advance(rules: AlertRules, state: AlertState, score: float, frame_index: int, time_s: float) -> AlertState:
    return step(rules, state, Observation(score), frame_index=frame_index, time_s=time_s)[0]
