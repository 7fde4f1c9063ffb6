"""Handlers of login, device information, health and metrics."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import PlainTextResponse, Response

from edgead.errors import EdgeadError
from edgead.stream.spool.alert_record import JUDGEMENTS
from edgead.web import models
from edgead.web.endpoint import Call
from edgead.web.errors import Refusal
from edgead.web.health import alive, ready
from edgead.web.metrics import metrics_text
from edgead.web.running_stream import RunningStream


def log_in(call: Call) -> Response:
    """Start a session."""
    body: models.Login = call.body
    if not call.server.auth.check_token(call.request, body.token):
        raise Refusal(401, "Wrong token.", hint="The token was printed when the stream first started.")
    response = Response(status_code=204)
    response.set_cookie(
        call.server.auth.cookie,
        call.server.auth.sessions.start(body.name),
        max_age=round(call.server.auth.sessions.max_s),
        httponly=True,
        samesite="strict",
        secure=call.is_https,
        path=call.server.auth.proxies.prefix(call.request),
    )
    return response


def log_out(call: Call) -> Response:
    if call.person is not None and call.person.session is not None:
        call.server.auth.sessions.end(call.person.session)
    response = Response(status_code=204)
    response.delete_cookie(
        call.server.auth.cookie,
        httponly=True,
        samesite="strict",
        secure=call.is_https,
        path=call.server.auth.proxies.prefix(call.request),
    )
    return response


def who(call: Call) -> models.Who:
    return models.Who(name=call.who)


def info(call: Call) -> models.Info:
    stream, facts = call.stream, call.stream.facts
    status, health = stream.monitor.status, stream.store.health()
    states = stream.sinks()
    depths = stream.store.depths()
    return models.Info(
        device=facts.device,
        version=facts.version,
        started_at=call.server.started_at,
        uptime_s=0.0 if status is None else round(status.elapsed_s, 1),
        bundle=models.BundleInfo(
            digest=facts.bundle, model=facts.model, classes=list(facts.classes), changed=_changed(stream)
        ),
        engine=models.EngineInfo(
            name=facts.engine, device=facts.engine_device, ms=None if status is None else status.engine_ms
        ),
        cameras=[camera.name for camera in facts.cameras],
        spool=models.StoreInfo(
            evidence_ok=health.evidence_ok, records_ok=health.records_ok, free_mb=health.free_mb, detail=health.detail
        ),
        judged=_judged(stream.store.judgements()),
        sinks=[
            models.SinkInfo(
                name=name,
                depth=depths.get(name, 0),
                state=states[name].state if name in states else "ok",
                detail=states[name].detail if name in states else "",
            )
            for name in sorted({*depths, *states})
        ],
        can=models.Abilities(
            clips=facts.clips,
            shadow=stream.shadow is not None and stream.shadow() is not None,
            learning=stream.models is not None,
        ),
    )


def _changed(stream: RunningStream) -> str | None:
    try:
        return None if stream.models is None else stream.models.describe()["changed"]
    except EdgeadError:  # the store says more where models are listed
        return None


def _judged(counts: Mapping[tuple[str | None, str | None], int]) -> models.JudgedInfo:
    totals = {
        judgement: sum(n for (_, one), n in counts.items() if one == judgement) for judgement in (None, *JUDGEMENTS)
    }
    return models.JudgedInfo(
        defect=totals["defect"], false_alarm=totals["false-alarm"], unsure=totals["unsure"], unjudged=totals[None]
    )


def healthz(call: Call) -> Response:
    word = alive(call.stream)
    return PlainTextResponse(word + "\n", 200 if word == "ok" else 503)


def readyz(call: Call) -> Response:
    word = ready(call.stream, call.server.options.ready_s)
    return PlainTextResponse(word + "\n", 200 if word == "ready" else 503)


def metrics(call: Call) -> Response:
    return Response(
        metrics_text(call.stream).encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )
