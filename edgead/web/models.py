"""Models of REST requests and answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(populate_by_name=True)


class Asked(BaseModel):
    """Base of requests; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorDetail(Answer):
    message: str
    hint: str = ""


class Error(Answer):
    """Answer of every status from 400 on."""

    error: ErrorDetail


class Login(Asked):
    token: str = Field(min_length=1, max_length=512)
    name: Annotated[Text, StringConstraints(min_length=1, max_length=64)] = Field(
        description="User name, recorded with acknowledgements and threshold changes."
    )


class Who(Answer):
    name: str


class BundleInfo(Answer):
    digest: str
    model: str
    classes: list[str]
    changed: str | None = Field(
        None, description="Who made the model active, when and why, in words; null without a model store."
    )


class EngineInfo(Answer):
    name: str
    device: str
    ms: float | None = Field(description="Median time of the last calls, in ms; null before the first.")


class StoreInfo(Answer):
    evidence_ok: bool
    records_ok: bool
    free_mb: float
    detail: str


class JudgedInfo(Answer):
    """Number of stored alerts by what people found."""

    defect: int
    false_alarm: int
    unsure: int
    unjudged: int


class SinkInfo(Answer):
    name: str
    depth: int = Field(description="Number of undelivered events.")
    state: str
    detail: str


class Abilities(Answer):
    clips: bool
    shadow: bool = Field(description="Whether a shadow has a report.")
    learning: bool = Field(description="Whether false alarms can be learned: the stream has a model store.")


class Info(Answer):
    device: str
    version: str
    started_at: str
    uptime_s: float
    bundle: BundleInfo
    engine: EngineInfo
    cameras: list[str]
    spool: StoreInfo
    judged: JudgedInfo
    sinks: list[SinkInfo]
    can: Abilities
