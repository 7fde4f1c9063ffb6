"""What the spool tells the world, one line of history at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

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
    alert: Mapping[str, Any] | None = None
    detail: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredEvent:
    """An event on disk.

    Attributes:
        sequence: Its place in the history, from 1; later events have larger numbers whatever the clock says.
        key: `<device-id>-<sequence>`, the same at every delivery: what receivers tell repetitions by.
        payload: What every sink delivers: `schema_version`, `key`, `sequence`, `device`, `kind`, `at`, `camera`, `zone`,
            `alert` (the whole record as it was then, or None), `detail`, `values`. Later versions add keys and never
            change these.
    """

    sequence: int
    key: str
    payload: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.payload["kind"])

    @property
    def alert_id(self) -> str | None:
        alert = self.payload["alert"]
        return None if alert is None else str(alert["id"])


def stored_event(device: str, sequence: int, content: dict[str, Any]) -> StoredEvent:
    """Give an event its number, key and device."""
    key = f"{device}-{sequence}"
    payload = {"schema_version": SCHEMA_VERSION, "key": key, "sequence": sequence, "device": device, **content}
    return StoredEvent(sequence, key, payload)


def iso(moment: datetime) -> str:
    """UTC in ISO 8601 with milliseconds, such as `2026-11-23T02:15:00.000Z`."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """A copy that every JSON reader takes: no NaN or infinity, no half of a character from an odd file name.

    What is neither text, number, list nor mapping becomes its text.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, int)) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return plain(str(value))
    return number if math.isfinite(number) else None
