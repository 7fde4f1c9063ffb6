"""Copies of the alert rule on other levels than the alarm's: what would have opened there. The one place beside the
pipeline that runs `alerts.step`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edgead.stream.alerts import AlertRules, AlertState, Observation, step


@dataclass(frozen=True)
class Shadow:
    """What one frame did to a shadow alert."""

    is_anomalous: bool
    has_opened: bool
    is_open: bool


class ShadowAlert:
    """The alert rule at a level of its own, closing at that level, without cooldown, latch and least area.

    So it opens at least as often as the real rule would at this level: an earlier closing never delays the next opening.

    Args:
        level: The threshold, raw score units.
        rules: Where N, M and the quiet frames come from.
    """

    def __init__(self, level: float, rules: AlertRules) -> None:
        self._rules = replace(
            rules, threshold=level, closing_level=level, cooldown_s=0.0, min_area=0.0, latch=False, severities=()
        )
        self._state = AlertState()
        # After so many frames up to the level in a row, another one changes nothing: no alert is open, the window empty.
        self._rest_after = max(rules.window_frames, rules.close_frames)
        self._n_quiet = self._rest_after

    def add(self, score: float) -> Shadow:
        """Take the next frame's score into account."""
        is_anomalous = score > self._rules.threshold
        self._n_quiet = 0 if is_anomalous else self._n_quiet + 1
        if self._n_quiet > self._rest_after:
            return Shadow(is_anomalous=False, has_opened=False, is_open=False)
        before = self._state.n_alerts
        self._state = _advance(self._rules, self._state, score, 0, 0.0)
        return Shadow(is_anomalous, self._state.n_alerts > before, self._state.alert is not None)


def alerts_in(scores: Iterable[float], rules: AlertRules, fps: float) -> int:
    """How many alerts the real rule opens on a sequence of scores, `fps` frames per second.

    Exact, and quick where anomalous frames are rare: what a long quiet stretch cannot change is not run.
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
