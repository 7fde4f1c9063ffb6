"""Models of requests and answers about cameras."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel, model_validator

from edgead.stream.monitoring.live_pictures import MAX_WIDTH, MIN_WIDTH
from edgead.web.models import Answer, Asked

Score = Annotated[float, Field(allow_inf_nan=False, description="Raw units.")]


class Percentiles(Answer):
    p50: float
    p95: float


class Scale(Answer):
    low: float
    threshold: float
    high: float


class RateAnswer(Answer):
    model_config = ConfigDict(title="Rate")

    false_alarm_rate: float = Field(description="Share of good frames above the threshold.")
    certified: bool
    interval: tuple[float, float] | None = Field(
        description="95 % interval of an extrapolated threshold for this share, raw units."
    )
    n_images: int


class Alarms(Answer):
    per_hour: float
    interval: tuple[float, float] | None
    certified: bool
    text: str


class ZoneAlert(Answer):
    id: str
    state: Literal["open", "held"]
    severity: str | None
    peak_score: float


class Zone(Answer):
    name: str
    score: float | None
    threshold: float
    level: float | None = Field(description="0 is an ordinary good image, 1 the threshold.")
    is_anomalous: bool
    include: list[list[tuple[float, float]]] = Field(
        description="Polygons of [x, y] in 0..1; empty for the whole frame."
    )
    exclude: list[list[tuple[float, float]]]
    rate: RateAnswer
    alarms_per_hour: Alarms | None
    alert: ZoneAlert | None


State = Literal["waiting", "running", "missing", "lost", "resting", "hung", "failed", "ended"]
Verdict = Literal["ok", "anomaly", "alert", "held", "fault", "lost", "failed", "waiting"]


class CameraAnswer(Answer):
    model_config = ConfigDict(title="Camera")

    name: str
    source: str = Field(description="Source without secrets.")
    class_name: str | None = Field(alias="class")
    state: State
    fault: str | None
    verdict: Verdict
    fps: float
    n_captured: int
    n_judged: int
    n_dropped: int
    n_unjudged: int
    n_alerts: int
    restarts: int
    last_error: str | None
    unlike: str | None = Field(
        description="Warning, once found, that the frames are unlike the training images; thresholds do not hold then."
    )
    delay_ms: Percentiles | None
    size: tuple[int, int] | None = Field(description="Height and width in pixels.")
    scale: Scale
    zones: list[Zone]


class Cameras(RootModel[list[CameraAnswer]]):
    """All cameras, in the order of the configuration."""


class PictureQuery(Asked):
    heatmap: bool = Field(False, description="Overlay the heatmap on the bundle's fixed scale.")
    width: int = Field(960, ge=MIN_WIDTH, le=MAX_WIDTH, description="Width in pixels; at most that of the frame.")


class ScoresQuery(Asked):
    zone: str | None = Field(None, max_length=64, description="Zone name; default: the first zone.")
    seconds: float = Field(600.0, ge=1, le=86400, description="Time span in seconds.")


class Scores(Answer):
    zone: str
    threshold: float
    points: list[tuple[float, float, float]] = Field(description="[age in s, low, high], oldest first.")
    alerts: list[tuple[float, float | None, str]] = Field(
        description="[age of the opening in s, age of the end in s or null, id], oldest first."
    )


_WAYS = ("value", "false_alarm_rate", "alarms_per_hour")


def _exactly_one(schema: dict[str, Any]) -> None:
    schema["oneOf"] = [{"required": [way], "properties": {way: {"type": "number"}}} for way in _WAYS]


class ThresholdRequest(Asked):
    """A new threshold; exactly one of the three keys."""

    model_config = ConfigDict(json_schema_extra=_exactly_one)

    value: Score | None = None
    false_alarm_rate: float | None = Field(None, gt=0, lt=1, description="Share of good frames above the threshold.")
    alarms_per_hour: float | None = Field(
        None, gt=0, le=3600, allow_inf_nan=False, description="Accepted false alarms per hour."
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> ThresholdRequest:
        if sum(getattr(self, way) is not None for way in _WAYS) != 1:
            raise ValueError(f"give exactly one of {', '.join(_WAYS)}")
        return self


class ThresholdPreview(ThresholdRequest):
    """A threshold that is only asked about."""

    seconds: float = Field(600.0, ge=1, le=86400, description="Time whose alerts are counted, in seconds.")


class Replay(Answer):
    """Alerts of the past frames under the alert rules, with the threshold asked about and with the present one."""

    seconds: float = Field(description="Time that was counted; at most that of the last 18,000 frames of this model.")
    alerts: int
    alerts_now: int
    at_most: bool = Field(description="Whether fewer are possible: the rules ask for a marked area, which is not kept.")


class ThresholdAnswer(Answer):
    """A change of the threshold, accepted or only asked about; an accepted one takes effect between two frames."""

    before: float = Field(alias="from")
    after: float = Field(alias="to")
    rate: RateAnswer
    text: str
    warning: str = Field("", description="Part of `text` that says `Careful`; empty for an ordinary threshold.")
    past: Replay | None = Field(None, description="Null for a change, or without frames.")
