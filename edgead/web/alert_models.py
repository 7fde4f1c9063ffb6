"""Models of requests and answers about alerts and events."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel, StringConstraints

from edgead.stream.spool.alert_record import AlertRecord, Judgement, State
from edgead.stream.spool.judgements import MAX_KIND, MAX_NOTE
from edgead.web.models import Answer, Asked


def _description(name: str) -> str | None:
    return AlertRecord.model_fields[name].description


class Record(AlertRecord):
    """An alert; later versions add keys and never change these."""

    state: State = Field(description=_description("state"))
    # None removes a key in a change; a whole record has none
    pictures: dict[str, str] = Field(  # type: ignore[assignment]
        default_factory=dict, description=_description("pictures")
    )
    pictures_missing: dict[str, str] = Field(  # type: ignore[assignment]
        default_factory=dict, description=_description("pictures_missing")
    )


class AlertsQuery(Asked):
    state: State | None = None
    camera: str | None = Field(None, max_length=64)
    judgement: Judgement | Literal["judged", "unjudged"] | None = None
    before: str | None = Field(None, max_length=64, description="Only alerts older than this id.")
    limit: int = Field(50, ge=1, le=200)


class Alerts(Answer):
    alerts: list[Record]
    next: str | None = Field(description="Value of `before` for the next page; null on the last page.")


class Acknowledgement(Asked):
    note: Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)] = ""


class JudgementRequest(Asked):
    judgement: Judgement
    kind: Annotated[str, StringConstraints(max_length=MAX_KIND, strip_whitespace=True)] = ""
    note: Annotated[str, StringConstraints(max_length=MAX_NOTE, strip_whitespace=True)] = ""
    instead_of: int = Field(
        0,
        ge=0,
        description="`n_judgements` of the record that the person saw; another number in the record is a conflict.",
    )


class ChangeAnswer(Answer):
    model_config = ConfigDict(title="Change")

    at: str
    camera: str | None
    zone: str | None
    who: str | None
    before: float | None = Field(alias="from")
    after: float | None = Field(alias="to")
    detail: str


class Changes(RootModel[list[ChangeAnswer]]):
    """Threshold changes, newest first."""


class EventData(Answer):
    """Data of a server-sent event."""

    sequence: int
    kind: str
    at: str
    camera: str | None
    zone: str | None
    alert: dict[str, Any] | None
    detail: str
