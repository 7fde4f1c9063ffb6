"""Handlers and models of frames that people judge without an alert."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from starlette.responses import Response

from edgead.imaging import jpeg_from_rgb
from edgead.stream import judged_frames
from edgead.stream.judged_frames import FrameJudgedBeforeError, HeldFrame, JudgedFrames
from edgead.stream.monitoring.live_pictures import MAX_WIDTH, MIN_WIDTH, at_width
from edgead.stream.spool.judgements import MAX_KIND, MAX_NOTE
from edgead.web.endpoint import Call
from edgead.web.errors import Refusal, no_folder
from edgead.web.models import Answer, Asked

_QUALITY = 90


class HoldRequest(Asked):
    frame: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="Index of the frame that the person sees (header X-Frame); the newest if it was not shown lately.",
    )


class HeldAnswer(Answer):
    """A frame that is held for some minutes; a few are at a time, and the oldest gives way."""

    id: str
    camera: str
    frame: int = Field(description="Index of the frame in its source.")
    time: str = Field(description="When it was taken, UTC.")
    score: float | None = Field(
        description="Raw units, of the zone nearest to its threshold; null if it was not judged."
    )
    threshold: float | None
    is_anomalous: bool


class HeldPictureQuery(Asked):
    width: int = Field(960, ge=MIN_WIDTH, le=MAX_WIDTH, description="Width in pixels; at most that of the frame.")


class FrameJudgement(Asked):
    judgement: judged_frames.FrameJudgement
    kind: Annotated[str, StringConstraints(max_length=MAX_KIND, strip_whitespace=True)] = ""
    note: Annotated[str, StringConstraints(max_length=MAX_NOTE, strip_whitespace=True)] = ""
    again: bool = Field(False, description="Whether another judgement of the same picture is replaced.")


class JudgedFrame(Answer):
    verdict: Literal["good", "defect", "false-alarm", "unsure"] = Field(
        description="`false-alarm` for a good frame that the model finds anomalous."
    )
    kind: str
    note: str
    judged_by: str
    judged_at: str
    digest: str = Field(description="SHA-256 of the PNG file.")
    path: str = Field(description="Place of the picture below the folder.")
    folder: str = Field(description="Folder on the device, a collection as `edgead collect` makes it.")


def hold(call: Call) -> HeldAnswer:
    camera = call.camera().name
    _folder(call)
    held = call.server.pictures.hold(camera, call.body.frame)
    if held is None:
        raise Refusal(503, "The camera has not delivered a frame yet.", retry_s=1.0)
    return HeldAnswer(
        id=held.id, camera=camera, frame=held.frame.index, time=held.time, score=held.score, threshold=held.threshold,
        is_anomalous=held.is_anomalous,
    )  # fmt: skip


def picture(call: Call) -> Response:
    """Send a held frame."""
    image = at_width(_held(call).frame.image, call.query.width)
    return Response(jpeg_from_rgb(image, _QUALITY), media_type="image/jpeg")


def judge(call: Call) -> JudgedFrame:
    """Store a held frame with what a person found."""
    body: FrameJudgement = call.body
    frames, held = _folder(call), _held(call)
    try:
        entry = frames.judge(held, body.judgement, call.who, kind=body.kind, note=body.note, again=body.again)
    except FrameJudgedBeforeError as error:
        raise Refusal(409, error.message, hint="To replace it, send again: true.") from error
    return JudgedFrame.model_validate(
        {
            "verdict": entry.verdict, "kind": entry.kind, "note": entry.note, "judged_by": entry.judged_by,
            "judged_at": entry.judged_at, "digest": entry.digest, "path": entry.path, "folder": str(frames.folder),
        }
    )  # fmt: skip


def _folder(call: Call) -> JudgedFrames:
    frames = call.stream.frames
    if frames is None:
        raise no_folder("judged frames")
    return frames


def _held(call: Call) -> HeldFrame:
    held = call.server.pictures.held.find(call.camera().name, call.request.path_params["held"])
    if held is None:
        raise Refusal(
            404, "This frame is not held any more.", hint="Hold the frame that is shown now, and judge that one."
        )
    return held
