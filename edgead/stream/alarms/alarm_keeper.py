"""Keeps the thresholds of a stream at a wanted number of false alarms per hour, at the frame rate that it really has."""

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
from edgead.stream.notices import ThresholdChanged
from edgead.stream.result import FrameResult
from edgead.stream.zone_monitor import ZoneMonitor

# Often enough to follow a change of the frame rate, seldom enough that the record of changes stays readable.
RENEW_S = 60.0
# A threshold that would move by less of its way from the median good score stays.
LEAST_MOVE = 0.02

AlarmBasis = Literal["images", "measured", "watched"]


@dataclass(frozen=True)
class ZoneAlarms:
    """What is known about a zone's false alarms.

    Attributes:
        implied: By its threshold at the measured frame rate; None where the zone has too few good scores.
        report: What its frames have shown.
        wanted_per_hour: What its threshold is kept at; None where a person chose the threshold.
    """

    implied: AlarmRate | None
    report: AlarmReport
    wanted_per_hour: float | None


class AlarmKeeper(OwnsNothing):
    """A sink that measures every zone and asks for another threshold when its promise would not hold any more.

    A threshold that a person sets while the stream runs is left alone; alarms per hour that a person asks for are kept
    from then on.

    Args:
        cameras: Of the stream.
        control: Gets the requests.
        assumed_fps: Frame rate until the frames have shown theirs.
        per_hour: Wanted false alarms per hour of a zone by camera and zone; zones that are not in it keep their threshold.
        basis: What the promise rests on: the good images alone, which holds on any stream, or also what this one shows
            (see `evaluation.alarm_rate`).
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
        self._zones = {(camera.name, watch.name): watch for camera in cameras for watch in camera.zones}
        # as the notices tell it: what a person has set and this sink has not heard of yet must not be undone
        self._known = {place: watch.threshold.value for place, watch in self._zones.items()}
        self._meters = {
            place: AlarmMeter(watch.good_scores, watch.rules)
            for place, watch in self._zones.items()
            if watch.good_scores
        }
        self._looked_s: dict[str, float] = {}

    def wants(self, item: Item) -> bool:
        return not item.is_repeat if isinstance(item, FrameResult) else isinstance(item, ThresholdChanged)

    def accept(self, item: Item) -> None:
        if isinstance(item, ThresholdChanged):
            self._heard_of(item)
            return
        assert isinstance(item, FrameResult)
        for zone in item.zones:
            if meter := self._meters.get((item.camera, zone.zone)):
                meter.add(zone.score, item.time_s)
        looked_s = self._looked_s.setdefault(item.camera, item.time_s)
        if item.time_s - looked_s >= RENEW_S:
            self._looked_s[item.camera] = item.time_s
            self._renew(item.camera)

    def promise(self, camera: str, zone: str, per_hour: float) -> AlarmPromise | None:
        """What can be promised for another number of false alarms per hour; None for a zone that is not there.

        It is kept once the stream has changed the threshold for it (`SetThreshold.alarms_per_hour`).

        Raises:
            DataError: If the zone has fewer than 5 good scores.
            ValueError: If `per_hour` is not above 0 and finite.
        """
        place = (camera, zone)
        return self._promise(place, per_hour) if place in self._zones else None

    def implied(self, camera: str, zone: str, threshold: float) -> AlarmRate | None:
        """The false alarms per hour that a threshold means on this line; None where too few good scores could tell."""
        place = (camera, zone)
        watch, meter = self._zones.get(place), self._meters.get(place)
        if watch is None or meter is None or len(watch.good_scores) < MIN_IMAGES:
            return None
        return implied_alarm_rate(watch.good_scores, threshold, self._pace(watch, meter.report()))

    def alarms(self, camera: str, zone: str) -> ZoneAlarms | None:
        """What is known about a zone; None for one that has no good scores, or is not there."""
        place = (camera, zone)
        meter, watch = self._meters.get(place), self._zones.get(place)
        if meter is None or watch is None:
            return None
        implied = self.implied(camera, zone, watch.threshold.value)
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

    def _renew(self, camera: str) -> None:
        with self._lock:
            wanted = {place: per_hour for place, per_hour in self._wanted.items() if place[0] == camera}
        for place, per_hour in wanted.items():
            promise, before = self._promise(place, per_hour), self._known[place]
            move = abs(promise.threshold.value - before)
            if move > LEAST_MOVE * abs(promise.threshold.value - self._zones[place].typical):
                request = SetThreshold(
                    *place, None, None, OWN_NAME, record=promise.threshold, why=promise.sentence,
                    alarms_per_hour=per_hour, instead_of=before,
                )  # fmt: skip
                self._control.put(request)

    def _promise(self, place: tuple[str, str], per_hour: float) -> AlarmPromise:
        watch, meter = self._zones[place], self._meters.get(place)
        report = None if meter is None else meter.report()
        if meter is not None and self._basis == "watched":
            levels = meter.stretch_levels()
            promise = promise_from_watch(levels, meter.stretch_s, per_hour) if len(levels) >= MIN_IMAGES else None
            # too short a watch is worth less than the images
            if promise is not None and promise.threshold.certified:
                return promise
        return promise_from_images(watch.good_scores, per_hour, self._pace(watch, report))

    def _pace(self, watch: ZoneMonitor, report: AlarmReport | None) -> Pace:
        fps = self._assumed_fps if report is None or report.fps is None else report.fps
        bursts = None
        if self._basis == "measured" and report is not None and report.bursts is not None:
            level = report.bursts
            # frames that are unlike the good images gather as they like
            if level.alerts_per_exceedance and not any(one.is_unlike for one in report.levels):
                bursts = MeasuredBursts(level.alerts_per_exceedance, level.share)
        return Pace(fps, watch.rules.open_frames, bursts)
