"""Handlers and models of the shadow: what another model would have changed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from starlette.responses import FileResponse, Response

from edgead.stream.shadow.report import ShadowReport
from edgead.web.endpoint import Call
from edgead.web.errors import Refusal
from edgead.web.models import Answer


class ModelOfShadow(Answer):
    bundle: str = Field(description="Digest of the bundle.")
    engine: str


class ShadowForecast(Answer):
    per_hour: float = Field(description="Alarms per hour of the watched time.")
    hours: float = Field(description="Length of the forecast, in hours.")
    low: int = Field(description="Lower end of the prediction interval of the alarms in this time.")
    high: int
    confidence: float
    n_seen: int
    seen_h: float = Field(description="Watched time, in hours.")


class ShadowCamera(Answer):
    judged: int
    both: int
    only_active: int
    only_shadow: int
    seconds: float = Field(description="Time in which alerts were counted.")
    alerts: int
    alerts_active: int


class ShadowDifference(Answer):
    kind: str = Field(description="`only_active` or `only_shadow`: which model calls the frame anomalous.")
    camera: str
    frame: int
    time_s: float
    active_level: float = Field(description="Normalised score: 0 is an ordinary good image, 1 the threshold.")
    shadow_level: float
    picture: str = Field(
        description="Name for `/shadow/pictures/`: the heatmap of the active model, then the shadow's."
    )


class ShadowCostAnswer(Answer):
    ms: float | None
    cpu_share: float = Field(description="Processor time as a share of one core.")
    memory_mb: float
    latency_ms: float | None = Field(description="Median latency of the active model's frames while the shadow rests.")
    latency_beside_ms: float | None = Field(description="The same while it works.")
    slowdown: float | None
    skipped: int
    share: float


class ShadowAnswer(Answer):
    """What a shadow found; the last one after its end."""

    shadow: ModelOfShadow
    active: ModelOfShadow | None
    judged: int = Field(description="Frames judged by both models.")
    frames: int = Field(description="Frames judged by the active model meanwhile.")
    both: int
    only_active: int
    only_shadow: int
    watched_s: float
    alerts: int = Field(description="Alerts that the shadow would have opened in the watched time.")
    alerts_active: int
    forecast: ShadowForecast | None
    cameras: dict[str, ShadowCamera]
    differences: list[ShadowDifference]
    cost: ShadowCostAnswer
    ended: str = Field(description="Reason of its end; empty while it runs.")
    problem: str
    text: str = Field(description="All of it in words.")


def shadow(call: Call) -> ShadowAnswer:
    content = _report(call).to_json()
    return ShadowAnswer.model_validate({key: content[key] for key in ShadowAnswer.model_fields})


def picture(call: Call) -> Response:
    """Send the picture of a difference; only names in the report are."""
    report, name = _report(call), call.request.path_params["picture"]
    known = {one.picture for one in report.differences}
    path = None if report.folder is None or name not in known else Path(report.folder) / name
    if path is None or path.is_symlink() or not path.is_file():
        raise Refusal(404, "There is no such picture.", hint="It may have given way to a larger difference.")
    return FileResponse(path, media_type="image/jpeg")


def _report(call: Call) -> ShadowReport:
    report = None if call.stream.shadow is None else call.stream.shadow()
    if report is None:
        raise Refusal(404, "This stream has no shadow.", hint="Start it with `edgead stream --shadow BUNDLE`.")
    return report
