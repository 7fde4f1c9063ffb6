"""Handlers of alert records, files, acknowledgements and events."""

from __future__ import annotations

from starlette.responses import FileResponse, Response

from edgead.stream.control import Acknowledge
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.events import EventPayload
from edgead.stream.spool.judgements import AlertGoneError, JudgedBeforeError, Opinion
from edgead.web import alert_models, streams
from edgead.web.camera_handlers import is_still_in
from edgead.web.endpoint import Call
from edgead.web.errors import Refusal

_MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webm": "video/webm", ".avi": "video/x-msvideo"}


def alerts(call: Call) -> alert_models.Alerts:
    """A page of alerts, the last to arrive first."""
    query = call.query
    found = call.stream.store.alerts(**query.model_dump(exclude={"limit"}), limit=query.limit + 1)
    page = [_answer(record) for record in found[: query.limit]]
    return alert_models.Alerts(alerts=page, next=page[-1].id if len(found) > query.limit else None)


def alert(call: Call) -> alert_models.Record:
    return _answer(_record(call))


def media(call: Call) -> Response:
    """Send an image or clip; only the store knows the file name."""
    record = _record(call)
    kind = call.request.url.path.rpartition("/")[2]
    path = call.stream.store.media(record.id, kind)
    if path is None or path.is_symlink() or not path.is_file():
        raise Refusal(404, f"The alert has no {kind}.", hint=record.pictures_missing.get(kind) or "")
    return FileResponse(path, media_type=_MEDIA_TYPES.get(path.suffix, "application/octet-stream"))


def acknowledge(call: Call) -> alert_models.Record:
    """Record an acknowledgement on disk and pass it to the state machine."""
    record = _record(call)
    if record.acknowledged_at is not None:
        raise _seen(record)
    if not call.stream.store.acknowledge(record.id, call.who, call.body.note):
        raise _seen(_record(call))
    call.stream.control.put(Acknowledge(record.id, call.who))
    return _answer(_record(call))


def judge(call: Call) -> alert_models.Record:
    """Record whether the alert was a defect."""
    body: alert_models.JudgementRequest = call.body
    record = _record(call)
    opinion = Opinion(body.judgement, call.who, body.kind, body.note)
    try:
        return _answer(call.stream.store.judge(record.id, opinion, instead_of=body.instead_of))
    except AlertGoneError as error:
        raise Refusal(404, error.message, hint=error.hint) from error
    except JudgedBeforeError as error:
        raise Refusal(
            409, error.message, hint=f"To replace it, send instead_of: {error.record.n_judgements}."
        ) from error


def changes(call: Call) -> alert_models.Changes:
    return alert_models.Changes([_change(payload) for payload in call.server.feed.changes])


def events(call: Call) -> streams.Endless:
    """Send events until the client disconnects, from `Last-Event-ID` on."""
    server = call.server
    given = call.request.headers.get("last-event-id", "")
    after = min(int(given), server.feed.sequence) if given.isascii() and given.isdigit() and len(given) < 19 else None
    start = server.feed.sequence if after is None else after
    return streams.Endless(
        lambda: streams.events(server.feed, start, lambda: server.is_closing),
        "text/event-stream; charset=utf-8",
        server.listeners,
        lambda: is_still_in(call),
    )


def _answer(record: AlertRecord) -> alert_models.Record:
    return alert_models.Record.model_validate(record.as_json())


def _record(call: Call) -> AlertRecord:
    record = call.stream.store.alert(call.request.path_params["alert"])
    if record is None:
        raise Refusal(404, "No such alert.", hint="It may have been removed by the retention limits.")
    return record


def _seen(record: AlertRecord) -> Refusal:
    by, at = record.acknowledged_by, record.acknowledged_at
    return Refusal(409, f"The alert was already acknowledged by {by or 'an unknown user'} at {at}.")


def _change(payload: EventPayload) -> alert_models.ChangeAnswer:
    values = payload["values"]
    return alert_models.ChangeAnswer(
        at=payload["at"],
        camera=payload["camera"],
        zone=payload["zone"] or values.get("zone"),
        who=values.get("who"),
        before=values.get("from"),
        after=values.get("to"),
        detail=payload["detail"],
    )
