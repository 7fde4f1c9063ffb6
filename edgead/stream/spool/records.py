"""How an alert's record changes without a frame, and the names of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgead.stream.alerts import Alert
from edgead.stream.spool.alert_record import ID_PATTERN, STATES, AlertRecord
from edgead.stream.spool.events import Event, iso

FILE_KINDS = ("snapshot", "heatmap", "peak", "clip")

_RECORD_FILE = re.compile(rf"({ID_PATTERN})\.json")
_ALERT_FILE = re.compile(rf"({ID_PATTERN})-({'|'.join(FILE_KINDS)})\.[a-z0-9]+")
_TEMPORARY_FILE = re.compile(rf"\.{ID_PATTERN}(-[a-z]+)?\.[0-9a-f]{{8}}\.tmp(\.[a-z0-9]+)?")
# Keys that the first versions did not write.
_ADDED_LATER: dict[str, Any] = {
    "camera": None, "zone": None, "severity": None, "held_at": None, "latched": False, "acknowledged_at": None,
    "acknowledged_by": None, "note": None, "judgement": None, "judgement_kind": None, "judgement_note": None,
    "judged_at": None, "judged_by": None, "n_judgements": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """Content of one transaction: an event, a change of a record, an acknowledgement, or several of them.

    Attributes:
        event: Event to append, stored with the whole record after its change.
        patch: Change of a record without an event.
        acknowledgement: Alert id, user and note, for the process that runs the stream.
    """

    event: Event | None = None
    patch: AlertRecord | None = None
    acknowledgement: tuple[str, str, str] | None = None

    @property
    def alert(self) -> AlertRecord | None:
        """Change of a record, with or without an event."""
        return self.patch if self.event is None else self.event.alert


def acknowledged(record: AlertRecord, who: str, note: str, at: str) -> list[Change]:
    """Changes of an acknowledgement: a held alert closes; an open one closes once it is quiet."""
    seen = AlertRecord(id=record.id, acknowledged_at=at, acknowledged_by=who, note=note)
    event = Event("alert_acknowledged", at, record.camera, record.zone, seen, values={"who": who})
    changes = [Change(event, acknowledgement=(record.id, who, note))]
    if record.state == "held":
        closed = closing(record, at, "acknowledged")
        changes.append(Change(Event("alert_closed", at, record.camera, record.zone, closed)))
    return changes


def interrupted(record: AlertRecord, at: str) -> Change:
    """Change of an alert whose process died: held if latched and not acknowledged, otherwise closed."""
    detail = "The process that watched it ended without closing it."
    if record.latched and record.acknowledged_at is None:
        held = AlertRecord(id=record.id, state="held", held_at=at)
        return Change(Event("alert_held", at, record.camera, record.zone, held, detail))
    closed = AlertRecord(id=record.id, state="closed", closed_at=at, duration_s=None, ended_by="interrupted")
    return Change(Event("alert_closed", at, record.camera, record.zone, closed, detail))


def closing(record: AlertRecord, at: str, ended_by: str, duration_s: float | None = None) -> AlertRecord:
    """Change that closes an alert; the default duration is by the wall clock, at least 0."""
    if duration_s is None:
        assert record.opened_at is not None
        duration_s = max((_moment(at) - _moment(record.opened_at)).total_seconds(), 0.0)
    return AlertRecord(id=record.id, state="closed", closed_at=at, duration_s=round(duration_s, 3), ended_by=ended_by)


def restored_alert(record: AlertRecord) -> Alert:
    """State of a held alert of an earlier process, for the state machine of its zone; its time line starts at 0."""
    return Alert(
        number=0,
        opened_s=0.0,
        opened_frame=record.frame_index or 0,
        peak_score=record.peak_score or 0.0,
        peak_frame=record.peak_frame_index or 0,
        severity=record.severity,
        held_s=0.0,
    )


def remains(alert_id: str, state: str, camera: str | None) -> AlertRecord:
    """An alert of which only id, state and camera can be read."""
    try:
        opened_at = iso(datetime.strptime(alert_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc))
    except ValueError:
        opened_at = iso(datetime.fromtimestamp(0, timezone.utc))
    values: dict[str, Any] = {
        "schema_version": 1, "opened_at": opened_at, "closed_at": None, "duration_s": None, "ended_by": None,
        "peak_score": None, "pictures": {}, "note": "The record of this alert was damaged; this is what is left of it.",
    }  # fmt: skip
    known: Any = state if state in STATES else "closed"
    return AlertRecord.stored({**_ADDED_LATER, **values, "id": alert_id, "state": known, "camera": camera})


def completed(values: dict[str, Any]) -> AlertRecord:
    """A record read from its file; keys that an earlier version did not write are added."""
    return AlertRecord.stored({**_ADDED_LATER, **values}).merged(AlertRecord(id=values["id"]))


def alert_of_record_file(name: str) -> str | None:
    """Alert id of a record file, or None for other names."""
    match = _RECORD_FILE.fullmatch(name)
    return match[1] if match else None


def alert_of_file(name: str) -> tuple[str, str] | None:
    """Alert id and kind of an image or clip file, or None for other names."""
    match = _ALERT_FILE.fullmatch(name)
    return (match[1], match[2]) if match else None


def is_temporary(path: Path) -> bool:
    """Whether a file is an unfinished write of a killed process."""
    return _TEMPORARY_FILE.fullmatch(path.name) is not None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
