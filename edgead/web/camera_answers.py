"""REST answers about a camera and its zones."""

from __future__ import annotations

from typing import get_args

from edgead.evaluation.threshold import MIN_IMAGES
from edgead.manifest import ThresholdRecord
from edgead.stream.monitoring.meter import CameraStatus
from edgead.stream.monitoring.monitor import CameraView
from edgead.stream.result import ZoneVerdict
from edgead.stream.zone_monitor import RuleOptions, ZoneMonitor
from edgead.stream.zones import Polygon, ZoneShape
from edgead.web import camera_models
from edgead.web.running_stream import CameraFacts, RunningStream, ZoneFacts

_FAILED = ("missing", "hung", "failed")
_LOST = ("lost", "resting")


def camera_answer(stream: RunningStream, facts: CameraFacts) -> camera_models.CameraAnswer:
    """Current state of a camera."""
    view = stream.monitor.camera(facts.name)
    assert view is not None
    status, frame = view.status, None if view.result is None else view.result.frame
    if view.unjudged is not None:
        frame = view.unjudged.frame
    verdicts = {} if view.result is None else {verdict.zone: verdict for verdict in view.result.zones}
    return camera_models.CameraAnswer(
        name=facts.name,
        source=facts.source if status is None else status.source,
        class_name=facts.class_name,
        state=_state(status),
        fault=view.fault,
        verdict=_verdict(view, status),
        fps=0.0 if status is None else round(status.fps, 2),
        n_captured=0 if status is None else status.n_captured,
        n_judged=0 if status is None else status.n_processed,
        n_dropped=0 if status is None else status.n_dropped,
        n_unjudged=0 if status is None else status.n_unjudged,
        n_alerts=0 if status is None else status.n_alerts,
        restarts=0 if status is None else status.restarts,
        last_error=view.last_error,
        unlike=view.unlike,
        delay_ms=None
        if view.delay_ms is None
        else camera_models.Percentiles(p50=view.delay_ms.p50, p95=view.delay_ms.p95),
        size=None if frame is None else (frame.image.shape[0], frame.image.shape[1]),
        scale=camera_models.Scale(low=facts.scale.low, threshold=facts.scale.threshold, high=facts.scale.high),
        zones=[_zone(stream, facts, zone, verdicts.get(zone.name)) for zone in facts.zones],
    )


def threshold_now(stream: RunningStream, camera: str, zone: ZoneFacts) -> ThresholdRecord:
    """Current threshold of a zone with its false-alarm rate."""
    view = stream.monitor.camera(camera)
    verdicts = () if view is None or view.result is None else view.result.zones
    value = next((verdict.threshold for verdict in verdicts if verdict.zone == zone.name), zone.threshold.value)
    changed = None if view is None else view.changes.get(zone.name)
    if changed is not None:
        value = changed.value
    if value == zone.threshold.value:
        return zone.threshold
    # a share of 0 or 1, or an estimate from too few good images, gives no threshold
    rate = None if changed is None else changed.false_alarm_rate
    if rate is not None and 0.0 < rate < 1.0 and len(zone.good_scores) >= MIN_IMAGES:
        by_rate = threshold_asked(zone, value=None, false_alarm_rate=rate)
        if by_rate.value == value:
            return by_rate
    return threshold_asked(zone, value=value, false_alarm_rate=None)


def threshold_asked(zone: ZoneFacts, *, value: float | None, false_alarm_rate: float | None) -> ThresholdRecord:
    """The threshold that a zone gets for a value or a false-alarm rate.

    Raises:
        DataError: If a rate is requested and there are fewer than 5 good scores.
    """
    # computed by a zone of our own, so that the answer equals what the stream will do
    trial = ZoneMonitor(ZoneShape(zone.name), (1, 1), zone.good_scores, zone.threshold, RuleOptions())
    return trial.set_threshold(value=value, false_alarm_rate=false_alarm_rate).after


def rate_answer(threshold: ThresholdRecord) -> camera_models.RateAnswer:
    return camera_models.RateAnswer(
        false_alarm_rate=threshold.false_alarm_rate,
        certified=threshold.certified,
        interval=threshold.interval,
        n_images=threshold.n_images,
    )


def _zone(
    stream: RunningStream, camera: CameraFacts, zone: ZoneFacts, verdict: ZoneVerdict | None
) -> camera_models.Zone:
    threshold = threshold_now(stream, camera.name, zone)
    forecast = None
    if stream.alarms_per_hour is not None:
        forecast = stream.alarms_per_hour(camera.name, zone.name, threshold)
    return camera_models.Zone(
        name=zone.name,
        score=None if verdict is None else verdict.score,
        threshold=threshold.value,
        level=None if verdict is None else verdict.level,
        is_anomalous=verdict is not None and verdict.is_anomalous,
        include=_polygons(zone.shape.include),
        exclude=_polygons(zone.shape.exclude),
        rate=rate_answer(threshold),
        alarms_per_hour=None
        if forecast is None
        else camera_models.Alarms(
            per_hour=forecast.per_hour,
            interval=forecast.interval,
            certified=forecast.certified,
            text=forecast.text,
        ),
        alert=_alert(verdict),
    )


def _alert(verdict: ZoneVerdict | None) -> camera_models.ZoneAlert | None:
    if verdict is None or verdict.alert is None or verdict.alert_id is None:
        return None
    return camera_models.ZoneAlert(
        id=verdict.alert_id,
        state="open" if verdict.alert.held_s is None else "held",
        severity=verdict.alert.severity,
        peak_score=verdict.alert.peak_score,
    )


def _state(status: CameraStatus | None) -> camera_models.State:
    states: tuple[camera_models.State, ...] = get_args(camera_models.State)
    return next((state for state in states if status is not None and state == status.state), "waiting")


def _verdict(view: CameraView, status: CameraStatus | None) -> camera_models.Verdict:
    """The most urgent verdict that applies."""
    if status is not None:
        if status.is_alert_open:
            return "alert"
        if status.state in _FAILED:
            return "failed"
        if status.state in _LOST:
            return "lost"
    if view.fault is not None:
        return "fault"
    if status is None or view.result is None:
        return "waiting"
    if status.is_anomalous:
        return "anomaly"
    return "held" if status.is_held else "ok"


def _polygons(polygons: tuple[Polygon, ...]) -> list[list[tuple[float, float]]]:
    return [list(polygon) for polygon in polygons]
