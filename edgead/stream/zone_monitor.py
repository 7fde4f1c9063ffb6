"""Zone of a camera: threshold, alert state machine and names of its alerts."""

from __future__ import annotations

import itertools
import secrets
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from edgead.evaluation.exceedance import exceedance
from edgead.evaluation.threshold import MIN_IMAGES, threshold_from_scores
from edgead.manifest import ThresholdRecord
from edgead.stream.alerts import (
    Alert,
    AlertEvent,
    AlertRules,
    AlertState,
    Ending,
    Observation,
    acknowledge,
    closing_level,
    finish,
    severity_bands,
    step,
)
from edgead.stream.result import ZoneVerdict
from edgead.stream.zones import ZoneShape, zone_score

_COUNT = itertools.count(secrets.randbelow(4096))


@dataclass(frozen=True)
class RuleOptions:
    """Alert rules as the user sets them; the levels follow from a threshold. See `AlertRules`.

    Attributes:
        close_ratio: Closing level as a share of the distance from the median good score to the threshold.
        severities: Name and level of each band, as a multiple of that distance; 1 is the threshold.
    """

    open_frames: int = 3
    window_frames: int = 5
    close_frames: int = 5
    close_ratio: float = 0.9
    cooldown_s: float = 0.0
    min_area: float = 0.0
    latch: bool = False
    resume_s: float = 0.0
    severities: tuple[tuple[str, float], ...] = ()

    def rules(self, good_scores: tuple[float, ...], threshold: float) -> AlertRules:
        """Rules for a threshold, raw units."""
        return AlertRules(
            threshold=threshold,
            closing_level=closing_level(good_scores, threshold, self.close_ratio),
            open_frames=self.open_frames,
            window_frames=self.window_frames,
            close_frames=self.close_frames,
            cooldown_s=self.cooldown_s,
            min_area=self.min_area,
            latch=self.latch,
            resume_s=self.resume_s,
            severities=severity_bands(good_scores, threshold, dict(self.severities)),
        )


@dataclass(frozen=True)
class ThresholdChange:
    """A threshold that was changed while the stream ran."""

    zone: str
    before: float
    after: ThresholdRecord


class ZoneMonitor:
    """Judges one zone of a camera's frames; used only by the inference thread.

    Args:
        shape: Name and position of the zone.
        map_size: Size of the anomaly map, `(h, w)`.
        good_scores: Scores of held-out good images in this zone, raw units.
        threshold: Initial threshold.
        options: Rules that open and close alerts.
        utc_now: Clock for the names of alerts.
        top_positions: See `zone_score`.

    Attributes:
        good_scores, shape: Values passed to the constructor.
        threshold: Current threshold.
        mask: Positions of the zone on the anomaly map; None for the whole frame.
        typical: Median of the good scores.
        alert_id: Name of the active or held alert.
    """

    def __init__(
        self,
        shape: ZoneShape,
        map_size: tuple[int, int],
        good_scores: tuple[float, ...],
        threshold: ThresholdRecord,
        options: RuleOptions,
        utc_now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        top_positions: int | None = None,
    ) -> None:
        self.shape = shape
        self._top_positions = top_positions
        self.mask: NDArray[np.bool_] | None = None if shape.is_whole else shape.mask(map_size)
        self.good_scores = good_scores
        self.threshold = threshold
        self._confidence = threshold.confidence
        self.alert_id: str | None = None
        self._options = options
        self._rules = options.rules(good_scores, threshold.value)
        self.typical = statistics.median(good_scores) if good_scores else 0.0
        self._state = AlertState()
        self._utc_now = utc_now
        self._last = Observation(self.typical, 0.0)

    @property
    def name(self) -> str:
        return self.shape.name

    @property
    def rules(self) -> AlertRules:
        return self._rules

    @property
    def options(self) -> RuleOptions:
        """Rules as the user set them."""
        return self._options

    @property
    def n_alerts(self) -> int:
        """Number of alerts opened so far."""
        return self._state.n_alerts

    @property
    def alert(self) -> Alert | None:
        """The active or held alert."""
        return self._state.alert

    def observe(
        self,
        anomaly_map: NDArray[np.float32],
        pred_score: float,
        marked: Callable[[], NDArray[np.bool_]],
        *,
        frame_index: int,
        time_s: float,
    ) -> ZoneVerdict:
        """Judge one frame.

        Args:
            anomaly_map: Anomaly map `(h, w)`, raw units.
            pred_score: Image score of the model for the whole frame.
            marked: Callback that returns the anomalous positions `(h, w)`; called only if the rules use an area.
            frame_index: Number of the frame in its source.
            time_s: Time on the source's own time line, in seconds.
        """
        score = self.score(anomaly_map, pred_score)
        area = self._area(marked()) if self._rules.min_area > 0 else 1.0
        self._last = Observation(score, area)
        self._state, event = step(self._rules, self._state, self._last, frame_index=frame_index, time_s=time_s)
        if event is not None and event.kind == "opened":
            self.alert_id = alert_name(self._utc_now())
        return self._verdict(event)

    def score(self, anomaly_map: NDArray[np.float32], pred_score: float) -> float:
        """Score of the zone: the model's own for the whole frame, otherwise from its part of the map."""
        return pred_score if self.mask is None else zone_score(anomaly_map, self.mask, self._top_positions)

    def acknowledge(self, time_s: float) -> ZoneVerdict | None:
        """Acknowledge the zone's alert; None if that changes nothing."""
        self._state, event = acknowledge(self._state, time_s=time_s)
        return None if event is None else self._verdict(event)

    def finish(self, time_s: float, ended_by: Ending = "end_of_stream") -> ZoneVerdict:
        """Close or hold the alert at the end of the stream, or of the model's scores."""
        self._state, event = finish(self._rules, self._state, time_s=time_s, ended_by=ended_by)
        return self._verdict(event)

    def succeed(self, before: ZoneMonitor) -> None:
        """Continue for the same zone under another model: with its held alert, its cooldown and its count of alerts.

        Recent frames are not continued: their scores are those of the other model, which must have finished. The peak of a
        held alert stays that of the model that opened it.
        """
        self.alert_id = before.alert_id
        held = before._state.alert
        self._state = AlertState(
            alert=None if held is None else replace(held, peak_is_final=True),
            closed_s=before._state.closed_s,
            n_alerts=before._state.n_alerts,
        )

    def restart(self) -> None:
        """Forget the alert and recent frames, but not when the last alert closed: what comes is no continuation."""
        self.alert_id = None
        self._state = AlertState(closed_s=self._state.closed_s, n_alerts=self._state.n_alerts)

    def verdict(self) -> ZoneVerdict:
        """The last verdict, without an event."""
        return self._verdict(None)

    def restore(self, alert_id: str, alert: Alert) -> None:
        """Restore an alert that was held in an earlier process."""
        held = replace(alert, number=0, held_s=0.0)
        self.alert_id = alert_id
        self._state = AlertState(alert=held)

    def interrupt(self) -> None:
        """Note a gap: frames before and after it must not be combined to open or close an alert."""
        self._state = self._state.interrupt()

    def set_threshold(
        self,
        *,
        value: float | None = None,
        false_alarm_rate: float | None = None,
        record: ThresholdRecord | None = None,
    ) -> ThresholdChange:
        """Change the threshold: to a score in raw units, the threshold of a false-alarm rate, or a complete record.

        Raises:
            DataError: If a rate is asked of fewer than 5 good scores.
        """
        if record is not None:
            after = record
        elif false_alarm_rate is not None:
            after = threshold_from_scores(self.good_scores, false_alarm_rate, self._confidence)
        else:
            assert value is not None
            after = ThresholdRecord(
                value=value, false_alarm_rate=self.rate_of(value), certified=False, interval=None,
                n_images=len(self.good_scores),
            )  # fmt: skip
        change = ThresholdChange(self.name, self.threshold.value, after)
        self.threshold = after
        self._rules = self._options.rules(self.good_scores, after.value)
        self._state = self._state.forget_recent()
        return change

    def rate_of(self, value: float) -> float:
        """Share of good frames above a value: counted among the held-out images, beyond them from the tail fit."""
        if len(self.good_scores) < MIN_IMAGES:
            return 0.5
        return exceedance(self.good_scores, value).rate

    def _area(self, marked: NDArray[np.bool_]) -> float:
        inside = marked if self.mask is None else marked[self.mask]
        return float(inside.mean())

    def _verdict(self, event: AlertEvent | None) -> ZoneVerdict:
        seen, threshold = self._last, self._rules.threshold
        alert_id = self.alert_id
        if event is not None and event.kind == "closed":
            self.alert_id = None
        return ZoneVerdict(
            zone=self.name,
            score=seen.score,
            threshold=threshold,
            area=seen.area,
            is_anomalous=self._rules.is_anomalous(seen),
            level=_level(seen.score, self.typical, threshold),
            alert=self._state.alert,
            alert_id=alert_id,
            event=event,
        )


def alert_name(opened_at: datetime) -> str:
    """Unique alert name, safe for file names and sorted by time to the millisecond: `20261123T021500Z-07b5c1`.

    The last three digits count the names of this process: no two of one millisecond are the same.
    """
    return f"{opened_at:%Y%m%dT%H%M%SZ}-{opened_at.microsecond // 1000:03x}{next(_COUNT) % 4096:03x}"


def _level(score: float, typical: float, threshold: float) -> float:
    reach = max(threshold - typical, abs(threshold) * 1e-3, 1e-9)
    return 1.0 + (score - threshold) / reach
