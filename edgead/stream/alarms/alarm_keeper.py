"""Control of thresholds for a wanted number of false alarms per hour at the measured frame rate."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgead.contexts import OwnsNothing
from edgead.evaluation.alarm_rate import (
    AlarmPromise,
    AlarmRate,
    implied_alarm_rate,
    promise_from_images,
    promise_from_watch,
)
from edgead.evaluation.pace import MeasuredBursts, Pace
from edgead.evaluation.threshold import MIN_IMAGES
from edgead.stream.alarms.alarm_meter import AlarmMeter, AlarmReport
from edgead.stream.camera import Camera
from edgead.stream.consumers.consumer import Item
from edgead.stream.control import OWN_NAME, Control, SetThreshold
from edgead.stream.notices import ModelChanged, ThresholdChanged
from edgead.stream.result import FrameResult, JudgedBy
from edgead.stream.zone_monitor import ZoneMonitor

# Often enough to follow a change of the frame rate, seldom enough that the record of changes stays readable.
RENEW_S = 60.0
# Smallest change of a threshold, as a share of its distance from the median good score.
LEAST_MOVE = 0.02

AlarmBasis = Literal["images", "measured", "watched"]


@dataclass(frozen=True)
class ZoneAlarms:
    """Alarm rates of a zone.

    Attributes:
        implied: Alarm rate of its threshold at the measured frame rate; None if the zone has too few good scores.
        report: Measurements of its frames.
        wanted_per_hour: Alarm budget that its threshold is kept at; None if a person chose the threshold.
    """

    implied: AlarmRate | None
    report: AlarmReport
    wanted_per_hour: float | None


class AlarmKeeper(OwnsNothing):
    """A consumer that measures every zone and requests a new threshold when the promised alarm rate no longer holds.

    A threshold that a person sets while the stream runs is left unchanged; alarms per hour that a person sets are kept
    from then on.

    Args:
        cameras: Cameras of the stream.
        control: Mailbox for the requests.
        assumed_fps: Frame rate until it has been measured.
        per_hour: Wanted false alarms per hour by (camera, zone); other zones keep their threshold.
        basis: Basis of the promise: the good images alone, which holds on any stream, or also measurements of this
            stream (see `evaluation.alarm_rate`).
    """

    name = "alarm rate"
    lossless = True

    def __init__(
        self,
        cameras: Sequence[Camera],
        control: Control,
        *,
        assumed_fps: float,
        per_hour: dict[tuple[str, str], float],
        basis: AlarmBasis,
    ) -> None:
        self._control = control
        self._assumed_fps = assumed_fps
        self._basis = basis
        self._lock = threading.Lock()
        self._wanted = dict(per_hour)
        self._cameras = cameras
        self._judged_by: JudgedBy | None = None
        self._planned: dict[JudgedBy, dict[tuple[str, str], float]] = {}
        self._watch()
        self._looked_s: dict[str, float] = {}

    def plan(self, judged_by: JudgedBy, per_hour: dict[tuple[str, str], float]) -> None:
        """Alarm budgets to keep from when this model takes over."""
        with self._lock:
            self._planned[judged_by] = dict(per_hour)

    def _watch(self) -> None:
        """Measure the zones as they are now."""
        self._zones = {(camera.name, monitor.name): monitor for camera in self._cameras for monitor in camera.zones}
        # thresholds known from notices: a person's change whose notice has not arrived yet must not be undone
        self._known = {place: monitor.threshold.value for place, monitor in self._zones.items()}
        self._meters = {
            place: AlarmMeter(monitor.good_scores, monitor.rules)
            for place, monitor in self._zones.items()
            if monitor.good_scores
        }

    def wants(self, item: Item) -> bool:
        return (
            not item.is_repeat if isinstance(item, FrameResult) else isinstance(item, ThresholdChanged | ModelChanged)
        )

    def accept(self, item: Item) -> None:
        if isinstance(item, ThresholdChanged):
            self._heard_of(item)
            return
        if isinstance(item, ModelChanged):
            self._judged_by = item.after
            with self._lock:
                planned = None if item.after is None else self._planned.pop(item.after, None)
                if planned is not None:
                    self._wanted = planned
            self._watch()
            return
        assert isinstance(item, FrameResult)
        if self._judged_by is not None and item.judged_by != self._judged_by:
            return  # of a model that has been changed again since
        for zone in item.zones:
            if meter := self._meters.get((item.camera, zone.zone)):
                meter.add(zone.score, item.time_s)
        looked_s = self._looked_s.setdefault(item.camera, item.time_s)
        if item.time_s - looked_s >= RENEW_S:
            self._looked_s[item.camera] = item.time_s
            self._renew(item.camera, item.judged_by)

    def promise(self, camera: str, zone: str, per_hour: float) -> AlarmPromise | None:
        """Promise for another number of false alarms per hour; None for an unknown zone.

        It is kept from when the stream has set its threshold (`SetThreshold.alarms_per_hour`).

        Raises:
            DataError: If the zone has fewer than 5 good scores.
            ValueError: If `per_hour` is not above 0 and finite.
        """
        place = (camera, zone)
        return self._promise(place, per_hour) if place in self._zones else None

    def implied(self, camera: str, zone: str, threshold: float) -> AlarmRate | None:
        """False alarms per hour of a threshold on this stream; None if there are too few good scores."""
        place = (camera, zone)
        monitor, meter = self._zones.get(place), self._meters.get(place)
        if monitor is None or meter is None or len(monitor.good_scores) < MIN_IMAGES:
            return None
        return implied_alarm_rate(monitor.good_scores, threshold, self._pace(monitor, meter.report()))

    def alarms(self, camera: str, zone: str) -> ZoneAlarms | None:
        """Alarm rates of a zone; None if it has no good scores or is unknown."""
        place = (camera, zone)
        meter, monitor = self._meters.get(place), self._zones.get(place)
        if meter is None or monitor is None:
            return None
        implied = self.implied(camera, zone, monitor.threshold.value)
        with self._lock:
            return ZoneAlarms(implied, meter.report(), self._wanted.get(place))

    def _heard_of(self, change: ThresholdChanged) -> None:
        place = (change.camera, change.zone)
        if place not in self._zones:
            return
        self._known[place] = change.after
        if change.who == OWN_NAME:
            return
        with self._lock:
            if change.alarms_per_hour is None:
                self._wanted.pop(place, None)
            else:
                self._wanted[place] = change.alarms_per_hour

    def _renew(self, camera: str, judged_by: JudgedBy | None) -> None:
        with self._lock:
            wanted = {place: per_hour for place, per_hour in self._wanted.items() if place[0] == camera}
        for place, per_hour in wanted.items():
            promise, before = self._promise(place, per_hour), self._known[place]
            move = abs(promise.threshold.value - before)
            if move > LEAST_MOVE * abs(promise.threshold.value - self._zones[place].typical):
                request = SetThreshold(
                    *place, None, None, OWN_NAME, record=promise.threshold, why=promise.sentence,
                    alarms_per_hour=per_hour, instead_of=before, judged_by=judged_by,
                )  # fmt: skip
                self._control.put(request)

    def _promise(self, place: tuple[str, str], per_hour: float) -> AlarmPromise:
        monitor, meter = self._zones[place], self._meters.get(place)
        report = None if meter is None else meter.report()
        if meter is not None and self._basis == "watched":
            levels = meter.stretch_levels()
            promise = promise_from_watch(levels, meter.stretch_s, per_hour) if len(levels) >= MIN_IMAGES else None
            # after too short a time the good images give the better promise
            if promise is not None and promise.threshold.certified:
                return promise
        return promise_from_images(monitor.good_scores, per_hour, self._pace(monitor, report))

    def _pace(self, monitor: ZoneMonitor, report: AlarmReport | None) -> Pace:
        fps = self._assumed_fps if report is None or report.fps is None else report.fps
        bursts = None
        if self._basis == "measured" and report is not None and report.bursts is not None:
            level = report.bursts
            # the measured bursts hold only if the frames resemble the good images
            if level.alerts_per_exceedance and not any(one.is_unlike for one in report.levels):
                bursts = MeasuredBursts(level.alerts_per_exceedance, level.share)
        return Pace(fps, monitor.rules.open_frames, bursts)
