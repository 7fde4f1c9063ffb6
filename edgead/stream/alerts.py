"""Alert state machine: turns runs of anomalous frames into alerts; pure, without clock or I/O.

One machine watches one zone of one camera::

    closed --N of M anomalous--> open --quiet--> closed                   (without latch, or once acknowledged)
                                 open --quiet--> held --acknowledged--> closed          (latch)
                                 open <--N of M anomalous-- held

A resumed alert stays open for at least `resume_s`, so that one that comes and goes is not reported at every change.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

EventKind = Literal["opened", "peak", "raised", "held", "resumed", "acknowledged", "closed"]
Ending = Literal["quiet", "acknowledged", "end_of_stream", "model_changed"]


@dataclass(frozen=True)
class Severity:
    """A band of peak scores: from `level` (raw units, exclusive) up to the next band's."""

    name: str
    level: float


@dataclass(frozen=True)
class AlertRules:
    """Rules for opening and closing an alert.

    Attributes:
        threshold: A score above it makes a frame anomalous; raw units.
        closing_level: Highest score of a quiet frame; at most `threshold`. In between, an open alert stays open.
        open_frames: Number N of anomalous frames, among the last M, that opens an alert.
        window_frames: Number M of most recent frames in which anomalous ones are counted.
        close_frames: Number of consecutive quiet frames that closes an alert.
        cooldown_s: Minimum time between the end of an alert and the next, in seconds of the source's own time.
        min_area: Minimum marked share of the zone, 0..1, of an anomalous frame; a frame with less is quiet.
        latch: Whether an alert is held until it is acknowledged.
        resume_s: Minimum time from the resumption of a held alert until it is held again, in seconds of the source's own
            time.
        severities: Bands by rising level; an alert has the highest one that its peak exceeds, None below the first.
    """

    threshold: float
    closing_level: float
    open_frames: int
    window_frames: int
    close_frames: int
    cooldown_s: float
    min_area: float = 0.0
    latch: bool = False
    resume_s: float = 0.0
    severities: tuple[Severity, ...] = ()

    def __post_init__(self) -> None:
        if self.closing_level > self.threshold:
            raise ValueError(f"closing_level must not exceed threshold (got {self.closing_level} > {self.threshold})")
        if not 1 <= self.open_frames <= self.window_frames:
            raise ValueError(f"open_frames must be 1..window_frames (got {self.open_frames}, {self.window_frames})")
        if self.close_frames < 1:
            raise ValueError(f"close_frames must be at least 1 (got {self.close_frames})")
        if not 0.0 <= self.min_area <= 1.0:
            raise ValueError(f"min_area must be 0..1 (got {self.min_area})")
        levels = [severity.level for severity in self.severities]
        if levels != sorted(levels):
            raise ValueError(f"severities must have rising levels (got {levels})")

    def is_anomalous(self, seen: Observation) -> bool:
        return seen.score > self.threshold and seen.area >= self.min_area

    def is_quiet(self, seen: Observation) -> bool:
        return seen.score <= self.closing_level or seen.area < self.min_area

    def severity(self, score: float) -> str | None:
        names = [severity.name for severity in self.severities if score > severity.level]
        return names[-1] if names else None


@dataclass(frozen=True)
class Observation:
    """One zone's measurements in one frame.

    Attributes:
        score: Raw units, finite.
        area: Share of the zone that is marked as anomalous, 0..1; used only by rules with a `min_area`.
    """

    score: float
    area: float = 1.0


@dataclass(frozen=True)
class Alert:
    """One alert: where it opened, its strongest frame so far and, once closed, how it ended.

    Attributes:
        number: Serial number within its state machine, from 1.
        opened_s, opened_frame: Time on the source's own time line and frame at which the alert opened.
        peak_score, peak_frame: Score and index of the strongest frame so far.
        severity: Band of the peak.
        held_s: Time at which a latched alert became quiet; None while it is active.
        resumed_s: Time at which a held alert last became active again.
        acknowledged_s: Time of the acknowledgement.
        closed_s, ended_by: Time and cause of the end.
        peak_is_final: Whether the peak stays: another model judges now, whose scores do not compare with it.
    """

    number: int
    opened_s: float
    opened_frame: int
    peak_score: float
    peak_frame: int
    severity: str | None = None
    held_s: float | None = None
    resumed_s: float | None = None
    acknowledged_s: float | None = None
    closed_s: float | None = None
    ended_by: Ending | None = None
    peak_is_final: bool = False


@dataclass(frozen=True)
class AlertEvent:
    """A change of an alert that is reported; `raised` is a new peak that is also a higher severity."""

    kind: EventKind
    alert: Alert


@dataclass(frozen=True)
class AlertState:
    """State of the machine between two frames; the default is the initial state.

    Attributes:
        recent: Whether each of the last M frames was anomalous, oldest first; empty while an alert is active.
        quiet_frames: Number of consecutive quiet frames in an active alert.
        alert: The active or held alert.
        closed_s: Time at which the last alert closed.
        n_alerts: Number of alerts opened so far.
    """

    recent: tuple[bool, ...] = ()
    quiet_frames: int = 0
    alert: Alert | None = None
    closed_s: float | None = None
    n_alerts: int = 0

    def forget_recent(self) -> AlertState:
        """Clear the window on a change of the threshold: frames judged by the old one must not open an alert."""
        return replace(self, recent=())

    def interrupt(self) -> AlertState:
        """Clear window and quiet count at a gap: frames before and after it must not be combined."""
        return replace(self, recent=(), quiet_frames=0)


Step = tuple[AlertState, AlertEvent | None]


def closing_level(good_scores: Sequence[float], threshold: float, close_ratio: float) -> float:
    """The level `close_ratio` of the way from the median good score to the threshold, never above the threshold."""
    if not good_scores:
        return threshold
    median = statistics.median(good_scores)
    return min(threshold, median + close_ratio * (threshold - median))


def severity_bands(good_scores: Sequence[float], threshold: float, multiples: dict[str, float]) -> tuple[Severity, ...]:
    """Bands from multiples of the distance between median good score and threshold; 1 is the threshold itself."""
    median = statistics.median(good_scores) if good_scores else 0.0
    bands = [Severity(name, median + factor * (threshold - median)) for name, factor in multiples.items()]
    return tuple(sorted(bands, key=lambda band: band.level))


def step(rules: AlertRules, state: AlertState, seen: Observation, *, frame_index: int, time_s: float) -> Step:
    """Advance the state by one frame.

    Args:
        rules: Rules for opening and closing.
        state: State before this frame.
        seen: Measurements of the zone in this frame.
        frame_index: Number of the frame, for the record.
        time_s: Time of the frame on the source's own time line, in seconds; must not go back.
    """
    if state.alert is None:
        return _step_closed(rules, state, seen, frame_index, time_s)
    if state.alert.held_s is not None:
        return _step_held(rules, state, state.alert, seen, frame_index, time_s)
    return _step_open(rules, state, state.alert, seen, frame_index, time_s)


def acknowledge(state: AlertState, *, time_s: float) -> Step:
    """Acknowledge the alert: a held one closes now, an active one as soon as it is quiet."""
    alert = state.alert
    if alert is None or alert.acknowledged_s is not None:
        return state, None
    alert = replace(alert, acknowledged_s=time_s)
    if alert.held_s is not None:
        return _close(state, alert, time_s, "acknowledged")
    return replace(state, alert=alert), AlertEvent("acknowledged", alert)


def finish(rules: AlertRules, state: AlertState, *, time_s: float, ended_by: Ending = "end_of_stream") -> Step:
    """End the stream, or the scores of one model: an active alert closes; a latched, unacknowledged one is held."""
    if state.alert is None or state.alert.held_s is not None:
        return state, None
    if rules.latch and state.alert.acknowledged_s is None:
        return _hold(state, state.alert, time_s)
    return _close(state, state.alert, time_s, ended_by)


def _step_closed(rules: AlertRules, state: AlertState, seen: Observation, frame_index: int, time_s: float) -> Step:
    recent = _look_back(rules, state, seen)
    is_cooling = state.closed_s is not None and time_s - state.closed_s < rules.cooldown_s
    if is_cooling or not _opens(rules, recent):
        return replace(state, recent=recent), None
    number = state.n_alerts + 1
    alert = Alert(number, time_s, frame_index, seen.score, frame_index, severity=rules.severity(seen.score))
    return AlertState(alert=alert, closed_s=state.closed_s, n_alerts=number), AlertEvent("opened", alert)


def _step_held(
    rules: AlertRules, state: AlertState, alert: Alert, seen: Observation, frame_index: int, time_s: float
) -> Step:
    recent = _look_back(rules, state, seen)
    if not _opens(rules, recent):
        return replace(state, recent=recent), None
    alert = _with_peak(rules, replace(alert, held_s=None, resumed_s=time_s), seen, frame_index)
    return replace(state, alert=alert, recent=(), quiet_frames=0), AlertEvent("resumed", alert)


def _step_open(
    rules: AlertRules, state: AlertState, alert: Alert, seen: Observation, frame_index: int, time_s: float
) -> Step:
    quiet_frames = state.quiet_frames + 1 if rules.is_quiet(seen) else 0
    if quiet_frames >= rules.close_frames:
        if not rules.latch or alert.acknowledged_s is not None:
            return _close(state, alert, time_s, "quiet")
        if alert.resumed_s is None or time_s - alert.resumed_s >= rules.resume_s:
            return _hold(state, alert, time_s)
    grown = _with_peak(rules, alert, seen, frame_index)
    state = replace(state, alert=grown, quiet_frames=quiet_frames)
    if grown is alert:
        return state, None
    return state, AlertEvent("peak" if grown.severity == alert.severity else "raised", grown)


def _look_back(rules: AlertRules, state: AlertState, seen: Observation) -> tuple[bool, ...]:
    return (*state.recent, rules.is_anomalous(seen))[-rules.window_frames :]


def _opens(rules: AlertRules, recent: tuple[bool, ...]) -> bool:
    # Only an anomalous frame opens an alert, so that its first image always shows an anomaly,
    # even when the window filled up during the cooldown.
    return recent[-1] and sum(recent) >= rules.open_frames


def _with_peak(rules: AlertRules, alert: Alert, seen: Observation, frame_index: int) -> Alert:
    if alert.peak_is_final or seen.score <= alert.peak_score or seen.area < rules.min_area:
        return alert
    # a threshold lowered meanwhile must not lower the severity already reached
    severity = rules.severity(seen.score) or alert.severity
    return replace(alert, peak_score=seen.score, peak_frame=frame_index, severity=severity)


def _hold(state: AlertState, alert: Alert, time_s: float) -> Step:
    held = replace(alert, held_s=time_s)
    return replace(state, alert=held, recent=(), quiet_frames=0), AlertEvent("held", held)


def _close(state: AlertState, alert: Alert, time_s: float, ended_by: Ending) -> Step:
    closed = replace(alert, closed_s=time_s, ended_by=ended_by)
    return AlertState(closed_s=time_s, n_alerts=state.n_alerts), AlertEvent("closed", closed)
