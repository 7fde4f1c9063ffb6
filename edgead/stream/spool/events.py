"""Events of the history, and the payload that sinks deliver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any, Literal, cast

from pydantic import Field
from typing_extensions import TypedDict

from edgead.stream.spool.alert_record import AlertRecord

SCHEMA_VERSION = 1

EventKind = Literal[
    "alert_opened",
    "alert_raised",  # the peak has reached a higher severity
    "alert_held",  # latched and over: waits for acknowledgement
    "alert_resumed",  # a held alert is active again
    "alert_acknowledged",
    "alert_judged",  # a person says whether it was a defect
    "alert_closed",
    "frame_judged",  # the same of a frame without an alert
    "camera_lost",
    "camera_back",
    "camera_failed",
    "picture_fault",
    "picture_ok",
    "frames_unlike",  # the training images no longer stand for what the camera shows
    "threshold_changed",
    "model_changed",
    "model_refused",  # the model before judges on
    "shadow_report",  # what another model would have changed
    "stream_started",
    "stream_stopped",
]


@dataclass(frozen=True)
class Event:
    """An event to append to the history.

    Attributes:
        kind: Kind of the event.
        at: Time, as `iso` writes it.
        camera: Camera name; None for the whole stream.
        zone: Zone name; None for the whole camera.
        alert: Record of the alert, or the part of it that changes; merged into the stored record of its `id`.
        detail: Sentence for people, without secrets.
        values: Values for machines.
    """

    kind: EventKind
    at: str
    camera: str | None = None
    zone: str | None = None
    alert: AlertRecord | None = None
    detail: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


class EventPayload(TypedDict):
    """An event as every sink delivers it. Later versions add keys and never change these."""

    schema_version: Annotated[int, Field(description="1.")]
    key: Annotated[
        str,
        Field(
            description="`<device>-<sequence>`: the same at every attempt and in every sink, so it marks repetitions."
        ),
    ]
    sequence: Annotated[
        int,
        Field(
            description="Place in the history, from 1: larger is later, whatever the clock says. Numbers may be missing and "
            "are never reused."
        ),
    ]
    device: Annotated[
        str,
        Field(description="Random id of the folder's database; a new database, also after damage, has a new one."),
    ]
    kind: Annotated[str, Field(description="See below; a receiver ignores kinds that it does not know.")]
    at: Annotated[str, Field(description="UTC, ISO 8601; time of the frame if the event has one.")]
    camera: Annotated[str | None, Field(description="Camera name; null for the whole stream.")]
    zone: Annotated[str | None, Field(description="Zone name; null for the whole camera.")]
    alert: Annotated[
        dict[str, Any] | None,
        Field(
            description="Whole record of the alert at that time, for kinds that begin with `alert_`; otherwise null."
        ),
    ]
    detail: Annotated[str, Field(description="Sentence for people, without secrets; may be empty.")]
    values: Annotated[dict[str, Any], Field(description="Values for machines; the keys depend on the kind.")]


@dataclass(frozen=True)
class StoredEvent:
    """A stored event.

    Attributes:
        sequence, key: Number and key, as in the payload.
        payload: JSON object that every sink delivers.
    """

    sequence: int
    key: str
    payload: EventPayload

    @property
    def kind(self) -> str:
        return self.payload["kind"]

    @property
    def alert_id(self) -> str | None:
        alert = self.payload["alert"]
        return None if alert is None else str(alert["id"])


def stored_event(device: str, sequence: int, content: dict[str, Any]) -> StoredEvent:
    """Give an event its number, key and device."""
    key = f"{device}-{sequence}"
    numbered = {"schema_version": SCHEMA_VERSION, "key": key, "sequence": sequence, "device": device, **content}
    return StoredEvent(sequence, key, cast(EventPayload, numbered))


def iso(moment: datetime) -> str:
    """UTC in ISO 8601 with milliseconds, such as `2026-11-23T02:15:00.000Z`."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
