"""Recent results, scores and alerts of one camera, as the monitor keeps them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgead.stream.monitoring.histogram import Histogram
from edgead.stream.monitoring.meter import Latency
from edgead.stream.monitoring.score_history import ScoreHistory
from edgead.stream.notices import (
    CameraFailed,
    CameraLost,
    FaultBegan,
    FaultEnded,
    FramesUnlike,
    ModelChanged,
    Notice,
    NotJudged,
    ThresholdChanged,
    UnjudgedFrame,
    sentence,
)
from edgead.stream.result import FrameResult, ZoneVerdict

LATENCY_BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
LEVEL_BOUNDS = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.0, 4.0, 8.0)
_DELAYS = 600
_SPANS = 2000


@dataclass(frozen=True)
class AlertSpan:
    """Start and end of an alert, as ages in seconds; an active or held one has no end yet."""

    id: str
    opened_age_s: float
    closed_age_s: float | None


@dataclass(frozen=True)
class ChangedThreshold:
    """A threshold changed while the stream runs, in raw units, with its false-alarm rate."""

    value: float
    false_alarm_rate: float | None


@dataclass
class _Span:
    id: str
    opened_s: float
    closed_s: float | None = None


class WatchedCamera:
    """History of one camera; written and read under the monitor's lock.

    Args:
        zones: Names of the zones.
    """

    def __init__(self, zones: Sequence[str]) -> None:
        self.result: FrameResult | None = None
        self.unjudged: NotJudged | None = None
        self.fault: str | None = None
        self.fault_kind: str | None = None
        self.last_error: str | None = None
        self.unlike: str | None = None
        self.judged_s: float | None = None
        self.scores = {zone: ScoreHistory() for zone in zones}
        self.levels = {zone: Histogram(LEVEL_BOUNDS) for zone in zones}
        self.end_to_end_s = Histogram(LATENCY_BOUNDS_S)
        self.n_zone_alerts = dict.fromkeys(zones, 0)
        self.changes: dict[str, ChangedThreshold] = {}
        # times at which frames before and after are never counted together, and of the last change of the model
        self.breaks_s: deque[float] = deque(maxlen=_SPANS)
        self.model_since_s = -math.inf
        self._spans: dict[str, deque[_Span]] = {zone: deque(maxlen=_SPANS) for zone in zones}
        self._delays: deque[float] = deque(maxlen=_DELAYS)

    def take(self, result: FrameResult, now_s: float) -> None:
        """Record a judged frame, or one that is repeated with a late event."""
        if self.unjudged is None or not result.is_repeat:
            self.result, self.unjudged = result, None
        for verdict in result.zones:
            if verdict.zone not in self.scores:
                continue
            self._follow_alert(verdict, now_s)
            if not result.is_repeat:
                self.scores[verdict.zone].add(now_s, verdict.score)
                self.levels[verdict.zone].add(verdict.level)
        if result.is_repeat:
            return
        self.judged_s = now_s
        delay_s = max(0.0, now_s - result.frame.captured_at_s)
        self.end_to_end_s.add(delay_s)
        self._delays.append(delay_s * 1e3)

    def notice(self, notice: Notice, now_s: float) -> None:
        if isinstance(notice, FaultBegan | CameraLost):
            self.breaks_s.append(now_s)
        match notice:
            case FaultBegan() | UnjudgedFrame():
                self.unjudged = notice
                if notice.message:  # otherwise it is only suspected, and nothing would say that it is over
                    self.fault, self.fault_kind = notice.message, notice.fault
            case FaultEnded():
                self.fault = self.fault_kind = None
            case CameraLost() | CameraFailed():
                self.last_error = sentence(notice)
            case FramesUnlike():
                self.unlike = sentence(notice)
            case ModelChanged():
                self.unlike = None
                self.model_since_s = now_s
                self.changes.clear()
            case ThresholdChanged(zone=zone) if zone in self.scores:
                self.changes[zone] = ChangedThreshold(notice.after, notice.false_alarm_rate)

    def delays(self) -> Callable[[], Latency | None]:
        """Copy the recent delays; the returned function computes their percentiles, without the lock."""
        values = list(self._delays)

        def summarise() -> Latency | None:
            if not values:
                return None
            p50, p95 = np.percentile(values, (50, 95))
            return Latency(float(p50), float(p95))

        return summarise

    def spans(self, zone: str, now_s: float, seconds: float) -> list[AlertSpan]:
        """Alerts of the last `seconds`, oldest first."""
        since_s = now_s - seconds
        return [
            AlertSpan(
                span.id,
                round(max(0.0, now_s - span.opened_s), 2),
                None if span.closed_s is None else round(max(0.0, now_s - span.closed_s), 2),
            )
            for span in self._spans[zone]
            if span.closed_s is None or span.closed_s >= since_s
        ]

    def _follow_alert(self, verdict: ZoneVerdict, now_s: float) -> None:
        # from the state, not from events alone: a slow consumer may have missed the result that carried one
        spans = self._spans[verdict.zone]
        last = spans[-1] if spans else None
        alert = verdict.alert or (None if verdict.event is None else verdict.event.alert)
        if alert is not None:
            self.n_zone_alerts[verdict.zone] = max(self.n_zone_alerts[verdict.zone], alert.number)
        running = verdict.alert_id if verdict.alert is not None else None
        if last is not None and last.closed_s is None and last.id != running:
            last.closed_s = now_s
        if running is not None and (last is None or last.id != running):
            spans.append(_Span(running, now_s))
