"""Handlers and models of pictures that people collect while the stream judges."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgead.stream.consumers.picture_collector import PictureCollector
from edgead.web.endpoint import Call
from edgead.web.errors import no_folder
from edgead.web.models import Answer, Asked

EVERY_S, LIMIT = 2.0, 200


class CollectionRequest(Asked):
    collecting: bool = Field(description="Whether pictures are collected from now on.")
    every_s: float = Field(EVERY_S, ge=0.0, le=86400.0, description="Seconds between two frames that are looked at.")
    limit: int = Field(LIMIT, ge=1, le=100_000, description="Number of pictures after which it ends.")


class CollectionAnswer(Answer):
    """Counts since the last start, and its end."""

    collecting: bool
    who: str = Field(description="Who started it; empty before the first start.")
    every_s: float
    limit: int
    looked_at: int = Field(description="Frames looked at.")
    saved: int
    near_copies: int = Field(description="Frames left out because they look like a saved picture.")
    anomalous: int = Field(description="Frames left out because the model finds them anomalous.")
    faulty: int = Field(description="Frames left out because of a camera fault, or because the part was not found.")
    pictures: int = Field(description="Pictures of the folder, with earlier ones.")
    megabytes: float = Field(description="Their size.")
    ended: Literal["", "stop", "limit", "max_mb", "error", "source"]
    problem: str = Field(description="Error that ended it; empty without one.")
    folder: str = Field(description="Folder on the device, a collection as `edgead collect` makes it.")


def collection(call: Call) -> CollectionAnswer:
    return _answer(call.camera().name, _collector(call))


def change(call: Call) -> CollectionAnswer:
    """Start or stop; both are as they are when asked twice."""
    camera, collector, body = call.camera().name, _collector(call), call.body
    if body.collecting:
        collector.start(camera, call.who, every_s=body.every_s, limit=body.limit)
    else:
        collector.stop(camera)
    return _answer(camera, collector)


def _answer(camera: str, collector: PictureCollector) -> CollectionAnswer:
    status = collector.status(camera)
    found = status.summary
    return CollectionAnswer.model_validate(
        {
            "collecting": status.is_on, "who": status.who, "every_s": status.every_s, "limit": status.limit,
            "looked_at": found.n_frames, "saved": found.n_saved, "near_copies": found.n_near_copies,
            "anomalous": found.n_anomalous, "faulty": found.n_faulty, "pictures": found.n_pictures,
            "megabytes": round(found.n_bytes / 1e6, 1), "ended": found.ended_by, "problem": status.problem,
            "folder": str(collector.folder),
        }
    )  # fmt: skip


def _collector(call: Call) -> PictureCollector:
    collector = call.stream.collector
    if collector is None:
        raise no_folder("pictures")
    return collector
