"""What the spool tells the world, one line of history at a time."""

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
    "alert_raised",  # a stronger frame that is also a higher severity
    "alert_held",  # latched and quiet: waits for somebody
    "alert_resumed",  # a held one that goes on
    "alert_acknowledged",
    "alert_closed",
    "camera_lost",
    "camera_back",
    "camera_failed",
    "picture_fault",
    "picture_ok",
    "threshold_changed",
    "stream_started",
    "stream_stopped",
]


@dataclass(frozen=True)
class Event:
    """Something that happened, as the spool takes it.

    Attributes:
        kind: What happened.
        at: When, as `iso` writes it.
        camera: Name of the camera; None for the whole stream.
        zone: Name of the zone; None for the whole camera.
        alert: The alert's record, or the part of it that changes: it is laid over what the spool holds under its `id`.
        detail: For people, without secrets.
        values: For machines.
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
    """An event on disk.

    Attributes:
        sequence, key: As in the payload.
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
