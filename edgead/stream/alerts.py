"""When a run of anomalous frames becomes an alert: a pure state machine without clock and without I/O."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

EventKind = Literal["opened", "peak", "closed"]
Ending = Literal["quiet", "end_of_stream"]


@dataclass(frozen=True)
class AlertRules:
    """When to open and to close.

    Attributes:
        threshold: A score above it makes a frame anomalous; raw units.
        closing_level: A score up to it makes a frame quiet; at most `threshold`. Between the two an open alert goes on.
        open_frames: N anomalous frames of the last
        window_frames: M open an alert.
        close_frames: Quiet frames in a row that close it.
        cooldown_s: Pause after a closed alert before the next may open, in seconds of the source's own time.
    """

    threshold: float
    closing_level: float
    open_frames: int
    window_frames: int
    close_frames: int
    cooldown_s: float

    def __post_init__(self) -> None:
        if self.closing_level > self.threshold:
            raise ValueError(f"closing_level must not exceed threshold (got {self.closing_level} > {self.threshold})")
        if not 1 <= self.open_frames <= self.window_frames:
            raise ValueError(f"open_frames must be 1..window_frames (got {self.open_frames}, {self.window_frames})")
        if self.close_frames < 1:
            raise ValueError(f"close_frames must be at least 1 (got {self.close_frames})")


@dataclass(frozen=True)
class Alert:
    """One alert: where it opened, its strongest frame so far and, once closed, how it ended."""

    number: int
    opened_s: float
    opened_frame: int
    peak_score: float
    peak_frame: int
    closed_s: float | None = None
    ended_by: Ending | None = None


@dataclass(frozen=True)
class AlertEvent:
    """A change that somebody may want to hear of."""

    kind: EventKind
    alert: Alert


@dataclass(frozen=True)
class AlertState:
    """What the machine remembers between two frames; the default is the start.

    Attributes:
        recent: Whether each of the last M frames was anomalous, oldest first; empty while an alert is open.
        quiet_frames: Quiet frames in a row while an alert is open.
        alert: The open alert.
        closed_s: Time at which the last alert closed.
        n_alerts: Alerts opened so far.
    """

    recent: tuple[bool, ...] = ()
    quiet_frames: int = 0
    alert: Alert | None = None
    closed_s: float | None = None
    n_alerts: int = 0


def closing_level(good_scores: Sequence[float], threshold: float, close_ratio: float) -> float:
    """The level `close_ratio` of the way from the median good score to the threshold, never above the threshold."""
    if not good_scores:
        return threshold
    median = statistics.median(good_scores)
    return min(threshold, median + close_ratio * (threshold - median))


def step(
    rules: AlertRules, state: AlertState, score: float, *, frame_index: int, time_s: float
) -> tuple[AlertState, AlertEvent | None]:
    """Take one frame's score into account.

    Args:
        rules: When to open and to close.
        state: The state before this frame.
        score: The frame's score, raw units, finite.
        frame_index: Number of the frame, for the record.
        time_s: Time of the frame on the source's own time line, in seconds; must not go back.
    """
    if state.alert is None:
        return _step_closed(rules, state, score, frame_index, time_s)
    return _step_open(rules, state, state.alert, score, frame_index, time_s)


def finish(state: AlertState, *, time_s: float) -> tuple[AlertState, AlertEvent | None]:
    """End the stream: an open alert closes."""
    if state.alert is None:
        return state, None
    return _close(state, state.alert, time_s, "end_of_stream")


def _step_closed(
    rules: AlertRules, state: AlertState, score: float, frame_index: int, time_s: float
) -> tuple[AlertState, AlertEvent | None]:
    is_anomalous = score > rules.threshold
    recent = (*state.recent, is_anomalous)[-rules.window_frames :]
    is_cooling = state.closed_s is not None and time_s - state.closed_s < rules.cooldown_s
    # Only an anomalous frame opens, so that the alert's first picture always shows something,
    # also when the window had filled up during the cooldown.
    if not is_anomalous or is_cooling or sum(recent) < rules.open_frames:
        return replace(state, recent=recent), None
    number = state.n_alerts + 1
    alert = Alert(number, time_s, frame_index, peak_score=score, peak_frame=frame_index)
    return AlertState(alert=alert, closed_s=state.closed_s, n_alerts=number), AlertEvent("opened", alert)


def _step_open(
    rules: AlertRules, state: AlertState, alert: Alert, score: float, frame_index: int, time_s: float
) -> tuple[AlertState, AlertEvent | None]:
    quiet_frames = state.quiet_frames + 1 if score <= rules.closing_level else 0
    if quiet_frames >= rules.close_frames:
        return _close(state, alert, time_s, "quiet")
    if score > alert.peak_score:
        alert = replace(alert, peak_score=score, peak_frame=frame_index)
        return replace(state, alert=alert, quiet_frames=quiet_frames), AlertEvent("peak", alert)
    return replace(state, quiet_frames=quiet_frames), None


def _close(state: AlertState, alert: Alert, time_s: float, ended_by: Ending) -> tuple[AlertState, AlertEvent]:
    closed = replace(alert, closed_s=time_s, ended_by=ended_by)
    return AlertState(closed_s=time_s, n_alerts=state.n_alerts), AlertEvent("closed", closed)
