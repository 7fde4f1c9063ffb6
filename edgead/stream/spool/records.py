"""An alert's record: what it holds, and how it changes without a frame.

Keys, in JSON and in the database alike; those of a later state are null until then:

- `schema_version`, `edgead_version`, `id` (UTC time of the opening and a random part, sorts by time)
- `camera`, `zone`, `severity` (name of the band of its peak, or null)
- `state`: `open` (goes on), `held` (over, but latched until somebody acknowledges it) or `closed`
- `opened_at`, `held_at` (when it last became quiet), `closed_at` (UTC, ISO 8601, when the frames were taken or, from a
  file, read), `duration_s` (on the source's time line; by the clock where another process closed it; null when it was
  interrupted), `ended_by`: `quiet`, `acknowledged`, `end_of_stream` or `interrupted` (the process died;
  `closed_at` is then when the next one noticed)
- `latched`: whether it has to be acknowledged before it closes
- `acknowledged_at`, `acknowledged_by`, `note`
- `source`, `origin` (the picture's file for a folder), `frame_index`, `time_s` (on the source's time line)
- `score`, `threshold`, `pixel_threshold`, `peak_score`, `peak_frame_index` (raw units)
- `segmentation`: what the regions are, `threshold` (map above `pixel_threshold`) or `nfa` (by their number of false
  detections; their `peak` may be below `pixel_threshold`)
- `image_size` (height, width) and `regions` (`x`, `y`, `width`, `height`, `area_px`, `peak`), strongest first, of
  the opening frame, in its pixels
- `pictures`: file names of `snapshot`, `heatmap`, `peak` and `clip`, those that are there; alerts that one frame opened
  share files
- `pictures_missing`: why one is not there: `disk_full`, `retention` (removed for age or space), `vanished` (somebody
  else removed it) or `failed`
- `bundle` (digest), `engine`, `class`

Later versions add keys and never change these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edgead.stream.alerts import Alert
from edgead.stream.spool.events import Event

Record = dict[str, Any]

SCHEMA_VERSION = 1
STATES = ("open", "held", "closed")
EVIDENCE_KINDS = ("snapshot", "heatmap", "peak", "clip")

# Ids end with six hexadecimal digits; those of records written before there was a spool with four decimal ones.
_ID = r"\d{8}T\d{6}Z-[0-9a-f]{4,6}"
_RECORD_FILE = re.compile(rf"({_ID})\.json")
_EVIDENCE_FILE = re.compile(rf"({_ID})-({'|'.join(EVIDENCE_KINDS)})\.[a-z0-9]+")
_TEMPORARY_FILE = re.compile(rf"\.{_ID}(-[a-z]+)?\.[0-9a-f]{{8}}\.tmp(\.[a-z0-9]+)?")
_ADDED_LATER: Record = {
    "camera": None, "zone": None, "severity": None, "held_at": None, "latched": False, "acknowledged_at": None,
    "acknowledged_by": None, "note": None,
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """What one transaction writes: an event, what changes in a record, an acknowledgement, or several of them.

    Attributes:
        event: To add to the history, with the whole record as it is after the change that it brings.
        patch: What changes in the record of its `id` without an event.
        acknowledgement: Alert, who and note, for the process that watches the cameras.
    """

    event: Event | None = None
    patch: Mapping[str, Any] | None = None
    acknowledgement: tuple[str, str, str] | None = None

    @property
    def alert(self) -> Mapping[str, Any] | None:
        """What changes in a record, with or without an event."""
        return self.patch if self.event is None else self.event.alert


def laid_over(record: Mapping[str, Any], changes: Mapping[str, Any]) -> Record:
    """The record with the changes; of `pictures` and `pictures_missing` key by key, where None takes a key out."""
    merged = {**record, **changes}
    for key in ("pictures", "pictures_missing"):
        both = {**record.get(key, {}), **changes.get(key, {})}
        merged[key] = {kind: value for kind, value in both.items() if value is not None}
    return merged


def acknowledged(record: Record, who: str, note: str, at: str) -> list[Change]:
    """What an acknowledgement changes: a held alert closes; one that goes on will close when it is quiet."""
    place = {"camera": record["camera"], "zone": record["zone"]}
    seen = {"id": record["id"], "acknowledged_at": at, "acknowledged_by": who, "note": note}
    event = Event("alert_acknowledged", at, alert=seen, values={"who": who}, **place)
    changes = [Change(event, acknowledgement=(record["id"], who, note))]
    if record["state"] == "held":
        closed = {"id": record["id"], **closing(record, at, "acknowledged")}
        changes.append(Change(Event("alert_closed", at, alert=closed, **place)))
    return changes


def interrupted(record: Record, at: str) -> Change:
    """What becomes of an alert whose process died: held when it is latched and nobody has seen it, else closed."""
    place = {"camera": record["camera"], "zone": record["zone"]}
    detail = "The process that watched it ended without closing it."
    if record["latched"] and record["acknowledged_at"] is None:
        held = {"id": record["id"], "state": "held", "held_at": at}
        return Change(Event("alert_held", at, alert=held, detail=detail, **place))
    closed = {"id": record["id"], "state": "closed", "closed_at": at, "duration_s": None, "ended_by": "interrupted"}
    return Change(Event("alert_closed", at, alert=closed, detail=detail, **place))


def closing(record: Record, at: str, ended_by: str) -> Record:
    """What closing changes where no frame tells the duration: it is then by the wall clock, and not below 0."""
    seconds = (_moment(at) - _moment(record["opened_at"])).total_seconds()
    return {"state": "closed", "closed_at": at, "duration_s": round(max(seconds, 0.0), 3), "ended_by": ended_by}


def restored_alert(record: Record) -> Alert:
    """A held alert of an earlier process, as the state machine of its zone knows it; its time line starts at 0."""
    return Alert(
        number=0,
        opened_s=0.0,
        opened_frame=record["frame_index"],
        peak_score=record["peak_score"],
        peak_frame=record["peak_frame_index"],
        severity=record["severity"],
        held_s=0.0,
    )


def completed(record: Record) -> Record:
    """A record read from its file, also one of an earlier version, with every key of today."""
    return laid_over({**_ADDED_LATER, **record}, {})


def alert_of_record_file(name: str) -> str | None:
    """The alert that a file of this name is the record of."""
    match = _RECORD_FILE.fullmatch(name)
    return match[1] if match else None


def alert_of_evidence_file(name: str) -> tuple[str, str] | None:
    """The alert and the kind of evidence that a file of this name is."""
    match = _EVIDENCE_FILE.fullmatch(name)
    return (match[1], match[2]) if match else None


def is_temporary(path: Path) -> bool:
    """Whether a file is a write that a killed process did not finish."""
    return _TEMPORARY_FILE.fullmatch(path.name) is not None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
