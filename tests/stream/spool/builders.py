"""Spools, records and results as tests need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgead.prediction import Prediction
from edgead.stream.alerts import Alert, AlertEvent, EventKind
from edgead.stream.frame import Frame
from edgead.stream.result import FrameResult, ZoneVerdict
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.events import Event
from edgead.stream.spool.options import SpoolOptions
from edgead.stream.spool.spool import Spool

AT = "2026-11-23T02:15:00.000Z"
THRESHOLD = 0.2


def options(**changes: Any) -> SpoolOptions:
    defaults: dict[str, Any] = {
        "evidence_mb": 100.0, "evidence_days": 30.0, "event_days": 30.0, "record_days": None, "min_free_mb": 1.0,
        "memory_events": 1000,
    }  # fmt: skip
    return SpoolOptions(**{**defaults, **changes})


def spool(folder: Path, **changes: Any) -> Spool:
    return Spool(folder, options(**changes))


class Clock:
    """A wall clock and a monotonic clock that move when told."""

    def __init__(self, wall_s: float = 1_700_000_000.0) -> None:
        self.wall_s = wall_s
        self.monotonic_s = 50.0

    def wall(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


def alert_id(number: int) -> str:
    return f"20261123T0215{number // 16 % 60:02d}Z-{number:06x}"


def record(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A record of an open alert, as short as the spool lets it be."""
    return {
        "schema_version": 1, "id": alert_id(number), "camera": "line 1", "zone": "picture", "severity": None,
        "state": "open", "opened_at": AT, "held_at": None, "closed_at": None, "duration_s": None, "ended_by": None,
        "latched": False, "acknowledged_at": None, "acknowledged_by": None, "note": None, "judgement": None,
        "judgement_kind": None, "judgement_note": None, "judged_at": None, "judged_by": None, "n_judgements": 0,
        "frame_index": 3,
        "peak_score": 0.5, "peak_frame_index": 4, "pictures": {}, **changes,
    }  # fmt: skip


def stored(target: Spool, number: int) -> dict[str, Any]:
    """The record of an alert as JSON values."""
    found = target.alert(alert_id(number))
    assert found is not None
    return found.as_json()


def opened(number: int = 1, **changes: Any) -> Event:
    content = record(number, **changes)
    return Event("alert_opened", AT, content["camera"], content["zone"], AlertRecord(**content))


def closed(number: int = 1) -> Event:
    change = AlertRecord(id=alert_id(number), state="closed", closed_at=AT, duration_s=1.0, ended_by="quiet")
    return Event("alert_closed", AT, "line 1", "picture", change)


def plain_event(detail: str = "") -> Event:
    return Event("camera_lost", AT, "line 1", detail=detail)


def with_picture(target: Spool, number: int, size_bytes: int = 1000, **changes: Any) -> str:
    """Append an alert with a snapshot of this size; returns its id."""
    name = f"{alert_id(number)}-snapshot.jpg"
    assert target.write_media(name, b"x" * size_bytes) is None
    target.append(opened(number, pictures={"snapshot": name}, **changes))
    return alert_id(number)


def verdict(
    kind: EventKind | None,
    *,
    zone: str = "picture",
    number: int = 1,
    score: float = 0.48,
    frame: int = 5,
    peak_frame: int | None = None,
    closed_s: float | None = None,
    ended_by: Any = None,
    severity: str | None = None,
) -> ZoneVerdict:
    alert = Alert(
        number, 0.5, 5, score, frame if peak_frame is None else peak_frame, severity=severity,
        held_s=1.0 if kind == "held" else None, closed_s=closed_s, ended_by=ended_by,
    )  # fmt: skip
    event = None if kind is None else AlertEvent(kind, alert)
    return ZoneVerdict(zone, score, THRESHOLD, 1.0, score > THRESHOLD, alert, alert_id(number), event)


def result(
    *verdicts: ZoneVerdict,
    value: int = 250,
    index: int = 5,
    time_s: float = 0.5,
    camera: str = "line 1",
    size: tuple[int, int] = (48, 64),
    is_repeat: bool = False,
) -> FrameResult:
    """A judged frame of one grey value."""
    score = max(value / 255 - 0.5, 0.0)
    prediction = Prediction(np.full((4, 4), score, np.float32), score, THRESHOLD, THRESHOLD)
    image = np.full((*size, 3), value, np.uint8)
    frame = Frame(image, index, 1000.0 + time_s, "fake")
    return FrameResult(camera, frame, prediction, time_s, 10.0, 10.0, verdicts, is_repeat)
