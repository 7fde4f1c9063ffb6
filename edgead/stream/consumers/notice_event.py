"""The event that a notice becomes."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgead.stream.notices import (
    FaultBegan,
    FramesUnlike,
    ModelChanged,
    Notice,
    ThresholdChanged,
    UnjudgedFrame,
    sentence,
)
from edgead.stream.result import JudgedBy
from edgead.stream.spool.events import Event


def notice_event(notice: Notice, at: str) -> Event | None:
    """An event with the notice in words (`detail`) and in values; None for a single frame.

    Args:
        notice: Any notice.
        at: Time of the notice, as `iso` writes it.
    """
    if isinstance(notice, UnjudgedFrame):
        return None
    zone = notice.zone if isinstance(notice, ThresholdChanged | FramesUnlike) else None
    return Event(notice.kind, at, notice.camera or None, zone, detail=sentence(notice), values=_values(notice))


def _values(notice: Notice) -> dict[str, Any]:
    match notice:
        case FaultBegan(fault=str(fault)):
            return {"fault": fault}
        case FramesUnlike(found=found):
            return dataclasses.asdict(found)
        case ModelChanged(before=before, after=after):
            return {**notice.values, "who": notice.who, "why": notice.why, "from": _judge(before), "to": _judge(after)}
        case ThresholdChanged():
            return {
                "who": notice.who,
                "from": notice.before,
                "to": notice.after,
                "false_alarm_rate": notice.false_alarm_rate,
                "alarms_per_hour": notice.alarms_per_hour,
            }
    return {}


def _judge(judge: JudgedBy | None) -> dict[str, str] | None:
    return None if judge is None else dataclasses.asdict(judge)
