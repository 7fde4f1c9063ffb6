"""What goes in and out about alerts and events."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel, StringConstraints

from edgead.web.models import Answer, Asked


class Record(Answer):
    """An alert; later versions add keys and never change these."""

    model_config = ConfigDict(extra="allow")

    id: str
    state: Literal["open", "held", "closed"]
    camera: str | None = None
    zone: str | None = None
    severity: str | None = None
    opened_at: str | None = None
    closed_at: str | None = None
    duration_s: float | None = None
    ended_by: str | None = None
    acknowledged_at: str | None = None
    acknowledged_by: str | None = None
    note: str | None = None
    score: float | None = None
    threshold: float | None = None
    peak_score: float | None = None
    pictures: dict[str, str] = Field(default_factory=dict)


class AlertsQuery(Asked):
    state: Literal["open", "held", "closed"] | None = None
    camera: str | None = Field(None, max_length=64)
    before: str | None = Field(None, max_length=64, description="Only older ones than this id.")
    limit: int = Field(50, ge=1, le=200)


class Alerts(Answer):
    alerts: list[Record]
    next: str | None = Field(description="Give it as `before` for the next page; null: there is none.")


class Acknowledgement(Asked):
    note: Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)] = ""


class Change(Answer):
    at: str
    camera: str | None
    zone: str | None
    who: str | None
    before: float | None = Field(alias="from")
    after: float | None = Field(alias="to")
    detail: str


class Changes(RootModel[list[Change]]):
    """Newest first."""


class EventData(Answer):
    """The data of a server-sent event."""

    sequence: int
    kind: str
    at: str
    camera: str | None
    zone: str | None
    alert: dict[str, Any] | None
    detail: str
