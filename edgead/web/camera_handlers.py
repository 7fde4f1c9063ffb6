"""Handlers of camera state, frames, scores and thresholds."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from edgead.evaluation.threshold import rate_interval
from edgead.manifest import ThresholdRecord
from edgead.stream.alarms.replay import count_openings
from edgead.stream.alarms.threshold_range import ThresholdRange, threshold_range
from edgead.stream.control import SetThreshold
from edgead.stream.result import JudgedBy
from edgead.web import camera_models, streams
from edgead.web.camera_answers import camera_answer, rate_answer, threshold_asked, threshold_now
from edgead.web.endpoint import Call
from edgead.web.errors import Refusal
from edgead.web.running_stream import CameraFacts, ZoneFacts


def cameras(call: Call) -> camera_models.Cameras:
    return camera_models.Cameras([camera_answer(call.stream, facts) for facts in call.stream.facts.cameras])


def camera(call: Call) -> camera_models.CameraAnswer:
    return camera_answer(call.stream, call.camera())


def picture(call: Call) -> Response:
    """Send the newest frame."""
    drawn = call.server.pictures.picture(call.camera().name, heatmap=call.query.heatmap, width=call.query.width)
    if drawn is None:
        raise Refusal(503, "The camera has not delivered a frame yet.", retry_s=1.0)
    return Response(drawn.jpeg, media_type="image/jpeg", headers={"X-Frame": str(drawn.index)})


def live(call: Call) -> streams.Endless:
    """Send frames until the client disconnects."""
    server, name, query = call.server, call.camera().name, call.query
    return streams.Endless(
        lambda: streams.pictures(
            server.pictures, name, heatmap=query.heatmap, width=query.width, is_closing=lambda: server.is_closing
        ),
        f"multipart/x-mixed-replace; boundary={streams.BOUNDARY}",
        server.viewers,
        lambda: is_still_in(call),
    )


def scores(call: Call) -> camera_models.Scores:
    facts = call.camera()
    zone = facts.zones[0] if call.query.zone is None else call.zone(facts, call.query.zone)
    history = call.stream.monitor.history(facts.name, zone.name, call.query.seconds)
    assert history is not None
    return camera_models.Scores(
        zone=zone.name,
        threshold=threshold_now(call.stream, facts.name, zone).value,
        points=[(point.age_s, point.low, point.high) for point in history.points],
        alerts=[(span.opened_age_s, span.closed_age_s, span.id) for span in history.alerts],
    )


def preview_threshold(call: Call) -> camera_models.ThresholdAnswer:
    """Answer with the threshold that a request would set and the alerts it would have raised, and change nothing."""
    found = _resolved(call, call.query)
    zone = call.zone(call.camera(), found.zone)
    return found.answer.model_copy(update={"past": _replayed(call, found, zone)})


def set_threshold(call: Call) -> camera_models.ThresholdAnswer:
    """Request another threshold and answer with the value it will have."""
    asked, found = call.body, _resolved(call, call.body)
    by_hour = asked.alarms_per_hour is not None
    request = SetThreshold(
        found.camera, found.zone, asked.value, asked.false_alarm_rate, call.who,
        judged_by=JudgedBy(call.stream.facts.bundle, call.stream.facts.engine),
        record=found.wanted if by_hour else None, why=found.answer.text if by_hour else found.warning,
        alarms_per_hour=asked.alarms_per_hour,
    )  # fmt: skip
    if not call.stream.control.put(request):
        raise Refusal(503, "Too many requests are waiting for the stream.", retry_s=1.0)
    return found.answer


@dataclass(frozen=True)
class _Resolved:
    """The threshold that a request means, checked."""

    camera: str
    zone: str
    wanted: ThresholdRecord
    warning: str
    answer: camera_models.ThresholdAnswer


def _resolved(call: Call, asked: camera_models.ThresholdRequest) -> _Resolved:
    facts = call.camera()
    zone = call.zone(facts, call.request.path_params["zone"])
    before = threshold_now(call.stream, facts.name, zone)
    meant = threshold_range(zone.good_scores, facts.scale, zone.threshold.value)
    if asked.value is not None:
        _check_meant(meant, asked.value)
    wanted, sentence = _wanted(call, asked, facts, zone)
    _check_meant(meant, wanted.value)
    warning = meant.warning(wanted)
    text = " ".join(filter(None, (warning, sentence or _meaning(call, facts, zone, wanted))))
    answer = camera_models.ThresholdAnswer(
        before=before.value, after=wanted.value, rate=rate_answer(wanted), text=text, warning=warning
    )
    return _Resolved(facts.name, zone.name, wanted, warning, answer)


def _replayed(call: Call, found: _Resolved, zone: ZoneFacts) -> camera_models.Replay | None:
    past = call.stream.monitor.frames(found.camera, found.zone, call.query.seconds)
    if past is None or not past.times_s.size:
        return None
    alerts, alerts_now = (
        count_openings(zone.rules.rules(zone.good_scores, value), past.times_s, past.scores, past.breaks_s)
        for value in (found.answer.after, found.answer.before)
    )
    return camera_models.Replay(
        seconds=round(past.seconds, 1), alerts=alerts, alerts_now=alerts_now, at_most=zone.rules.min_area > 0
    )


def _check_meant(meant: ThresholdRange, value: float) -> None:
    if refusal := meant.refusal(value):
        raise Refusal(422, refusal, hint="Nothing was changed.")


def _wanted(
    call: Call, asked: camera_models.ThresholdRequest, facts: CameraFacts, zone: ZoneFacts
) -> tuple[ThresholdRecord, str]:
    """The requested threshold, and a sentence about it if alarms per hour were requested."""
    stream = call.stream
    if asked.alarms_per_hour is not None:
        if stream.promise is None:
            raise Refusal(
                409,
                "This stream cannot derive a threshold from alarms per hour.",
                hint="Send value or false_alarm_rate.",
            )
        return stream.promise(facts.name, zone.name, asked.alarms_per_hour)
    return threshold_asked(zone, value=asked.value, false_alarm_rate=asked.false_alarm_rate), ""


def _meaning(call: Call, facts: CameraFacts, zone: ZoneFacts, wanted: ThresholdRecord) -> str:
    forecast = None
    if call.stream.alarms_per_hour is not None:
        forecast = call.stream.alarms_per_hour(facts.name, zone.name, wanted)
    return threshold_text(wanted) if forecast is None else f"{threshold_text(wanted)} {forecast.text}"


def threshold_text(threshold: ThresholdRecord) -> str:
    """A threshold in a sentence."""
    share = f"{100 * threshold.false_alarm_rate:.3g} %"
    if threshold.n_images == 0:
        return f"The threshold is {threshold.value:.4g}; there are no good images to estimate how many exceed it."
    if threshold.certified:
        how = (
            "on average over trainings"
            if threshold.confidence is None
            else f"with {threshold.confidence:.0%} confidence"
        )
        text = f"At most {share} of good frames score above {threshold.value:.4g}; {threshold.n_images} held-out good images "
        text += f"certify that {how}"
        if rates := rate_interval(threshold):
            text += f" (95 % interval {100 * rates[0]:.2g} to {100 * rates[1]:.2g} %)"
        return f"{text}."
    return (
        f"About {share} of good frames score above {threshold.value:.4g}; this is an estimate from {threshold.n_images} "
        "held-out good images, not certified."
    )


def is_still_in(call: Call) -> bool:
    """Whether the session that started a long-lived answer is still valid."""
    person = call.person
    return person is None or person.session is None or call.server.auth.sessions.is_alive(person.session)
