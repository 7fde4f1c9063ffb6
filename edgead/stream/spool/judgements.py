"""Judgements of alerts by people: what is stored, and what happens if two people judge the same alert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from edgead.data.collection import Entry
from edgead.errors import EdgeadError
from edgead.printable import printable
from edgead.stream.spool.alert_record import JUDGEMENTS, AlertRecord, Judgement
from edgead.stream.spool.events import Event
from edgead.stream.spool.records import Change

MAX_KIND = 64
MAX_NOTE = 500
UNJUDGED, JUDGED = "unjudged", "judged"
# what a list of alerts can be limited to
FILTERS = (UNJUDGED, JUDGED, *JUDGEMENTS)


class AlertGoneError(EdgeadError):
    """A judgement of an alert that does not exist."""

    def __init__(self, alert_id: str) -> None:
        super().__init__(
            f"There is no alert {alert_id!r}.",
            hint="It may have been removed by the retention limits (spool.record_days).",
        )


class JudgedBeforeError(EdgeadError):
    """A judgement of an alert that another person has judged meanwhile.

    Attributes:
        record: Record with the judgement in force.
    """

    def __init__(self, record: AlertRecord) -> None:
        kind = f" ({record.judgement_kind})" if record.judgement_kind else ""
        by = printable(str(record.judged_by or "an unknown user"))
        super().__init__(
            f"The alert was already judged {record.judgement}{printable(kind)} by {by} at {record.judged_at}: "
            "nothing was changed."
        )
        self.record = record


@dataclass(frozen=True)
class Opinion:
    """What a person says about an alert.

    Attributes:
        judgement: `defect`, `false-alarm` or `unsure`.
        who: Name of the person or program.
        kind: Kind of defect or of false alarm; may be empty.
        note: Free text; may be empty.
    """

    judgement: Judgement
    who: str
    kind: str = ""
    note: str = ""


def is_judgement(text: object) -> TypeGuard[Judgement]:
    return text in JUDGEMENTS


def judged(record: AlertRecord, opinion: Opinion, instead_of: int | None, at: str) -> list[Change]:
    """Changes of a judgement; none if the same person repeats the judgement in force.

    Args:
        record: Record of the alert.
        opinion: What the person says.
        instead_of: Number of judgements (`n_judgements`) that the person has seen; None replaces whatever is there.
        at: Time, as `events.iso` writes it.

    Raises:
        JudgedBeforeError: If the record has been judged since.
    """
    kind, note = opinion.kind.strip()[:MAX_KIND], opinion.note.strip()[:MAX_NOTE]
    before = (record.judgement, record.judged_by, record.judgement_kind, record.judgement_note)
    if before == (opinion.judgement, opinion.who, kind, note):
        return []
    if instead_of is not None and instead_of != record.n_judgements:
        raise JudgedBeforeError(record)
    change = AlertRecord(
        id=record.id,
        judgement=opinion.judgement,
        judgement_kind=kind,
        judgement_note=note,
        judged_at=at,
        judged_by=opinion.who,
        n_judgements=record.n_judgements + 1,
    )
    values = {"who": opinion.who, "judgement": opinion.judgement, "kind": kind, "instead_of": record.judgement}
    return [Change(Event("alert_judged", at, record.camera, record.zone, change, values=values))]


def frame_judged(entry: Entry, instead_of: str | None) -> Event:
    """Event of a judged frame without an alert.

    Args:
        entry: Its entry in the folder of judged frames.
        instead_of: Verdict that it replaces; None = the first one.
    """
    values = {
        "who": entry.judged_by, "judgement": entry.verdict, "kind": entry.kind, "note": entry.note, "score": entry.score,
        "threshold": entry.threshold, "picture": entry.path, "digest": entry.digest, "instead_of": instead_of,
    }  # fmt: skip
    return Event("frame_judged", entry.judged_at, entry.camera, values=values)
