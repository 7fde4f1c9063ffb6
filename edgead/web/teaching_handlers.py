"""Handlers and models of teaching a new part on the dashboard."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from starlette.responses import Response

from edgead.errors import DataError
from edgead.imaging import jpeg_from_rgb
from edgead.stream.monitoring.live_pictures import MAX_WIDTH, MIN_WIDTH, at_width
from edgead.stream.teaching import State, TeachingStatus
from edgead.web.endpoint import Call
from edgead.web.errors import Refusal
from edgead.web.models import Answer, Asked
from edgead.web.running_stream import TeachingControl

_QUALITY = 85
_WIDTH = 240


class TeachingRequest(Asked):
    needs_rest: bool = Field(
        True, description="Whether a frame must show a part at rest; false for parts that pass without stopping."
    )
    every_s: float = Field(1.0, ge=0.0, le=3600.0, description="Shortest time between two accepted frames, in seconds.")
    refine: bool = Field(False, description="Whether to add to the camera's last teaching.")


class TaughtPictureQuery(Asked):
    width: int = Field(_WIDTH, ge=MIN_WIDTH, le=MAX_WIDTH, description="Width in pixels; at most that of the picture.")


class TeachingScore(Answer):
    picture: str
    score: float = Field(description="Raw units, under a model that other pictures teach.")


class Promise(Answer):
    pictures: int
    rate: float = Field(description="Share of good parts that raise an alarm.")


class TeachingVerdict(Answer):
    """End of a teaching."""

    version: int
    pictures: int
    rate: float = Field(description="Promised share of good parts that raise an alarm.")
    threshold: float = Field(description="Score of an alarm, raw units.")
    sentences: list[str] = Field(description="What it promises, what is weak, and what would help.")


class Earlier(Answer):
    """Teaching that can be continued."""

    pictures: int
    version: int = Field(description="Number of its newest version; 0 before the first.")


class TeachingAnswer(Answer):
    """State of a camera's teaching."""

    model_config = ConfigDict(protected_namespaces=())

    state: State
    who: str = Field(description="Who started it; empty without a start since that of the stream.")
    folder: str = Field(
        description="Folder on the device, a teaching as `edgead teach` makes it; empty if there is none."
    )
    pictures: list[str] = Field(description="Names of the accepted pictures, in the order they were accepted.")
    looked_at: int = Field(description="Frames looked at.")
    left_out: dict[str, int] = Field(description="Frames left out, by reason.")
    last: str = Field(description="What became of the last frame, in words.")
    scores: list[TeachingScore] = Field(description="Left-out scores of the pictures that were scored so far.")
    scoring: tuple[int, int] = Field(
        description="Models fitted for the next scores, and their total; zeros while none are."
    )
    rate: float | None = Field(description="Rate that the pictures would promise; null below 5.")
    next: Promise | None = Field(description="The next lower usual rate; null if there is none.")
    task: str = Field(description="Stage of the fit.")
    done: int
    total: int
    verdict: TeachingVerdict | None
    model: str = Field(description="Name of the installed model; empty before.")
    problem: str = Field(description="Error that ended it, or kept its model from being installed; empty without one.")
    silent_s: float | None = Field(description="Seconds without a frame while parts are shown; null otherwise.")
    earlier: Earlier | None
    busy: str = Field(description="Sentence about the teaching of another camera; empty if there is none.")
    warning: str


def teaching(call: Call) -> TeachingAnswer:
    return _answer(_control(call).status(call.camera().name))


def start(call: Call) -> TeachingAnswer:
    body: TeachingRequest = call.body
    control, camera = _control(call), call.camera().name
    return _answer(
        control.start(camera, call.who, needs_rest=body.needs_rest, every_s=body.every_s, refine=body.refine)
    )


def cancel(call: Call) -> TeachingAnswer:
    """Cancel; a second time nothing happens."""
    return _answer(_control(call).cancel(call.camera().name))


def finish(call: Call) -> TeachingAnswer:
    return _answer(_control(call).finish(call.camera().name))


def install(call: Call) -> TeachingAnswer:
    """Begin to install; the state says when it is done, after seconds, or minutes with TensorRT."""
    return _answer(_control(call).install(call.camera().name, call.who))


def picture(call: Call) -> Response:
    """Send an accepted picture."""
    control, camera = _control(call), call.camera().name
    try:
        image = control.picture(camera, call.request.path_params["picture"])
    except DataError as error:
        raise Refusal(404, error.message, hint=error.hint) from error
    return Response(jpeg_from_rgb(at_width(image, call.query.width), _QUALITY), media_type="image/jpeg")


def drop(call: Call) -> TeachingAnswer:
    """Leave out a picture; it is gone from the list a moment later."""
    control, camera = _control(call), call.camera().name
    try:
        return _answer(control.drop(camera, call.request.path_params["picture"]))
    except DataError as error:
        raise Refusal(404, error.message, hint=error.hint) from error


def _answer(status: TeachingStatus) -> TeachingAnswer:
    report, verdict, earlier = status.report, status.report.verdict, status.earlier
    return TeachingAnswer(
        state=status.state,
        who=status.who,
        folder=status.folder,
        pictures=list(report.pictures),
        looked_at=report.n_looked,
        left_out=dict(report.left_out),
        last=report.last,
        scores=[TeachingScore(picture=file, score=score) for file, score in (verdict or report).scores],
        scoring=report.n_folds,
        rate=report.rate,
        next=None if report.following is None else Promise(pictures=report.following[0], rate=report.following[1]),
        task=status.task,
        done=status.done,
        total=status.total,
        verdict=None
        if verdict is None
        else TeachingVerdict(
            version=verdict.version,
            pictures=verdict.n_pictures,
            rate=verdict.rate,
            threshold=verdict.threshold,
            sentences=list(verdict.sentences),
        ),
        model=status.model,
        problem=status.problem,
        silent_s=None if status.silent_s is None else round(status.silent_s, 1),
        earlier=None if earlier is None else Earlier(pictures=earlier.n_pictures, version=earlier.version),
        busy=status.busy,
        warning=status.warning,
    )


def _control(call: Call) -> TeachingControl:
    call.camera()
    if call.stream.teaching is None:
        raise Refusal(
            409,
            "This stream does not teach.",
            hint="Start it with `edgead stream --web … --models DIR --teach-base BASE`.",
        )
    return call.stream.teaching
