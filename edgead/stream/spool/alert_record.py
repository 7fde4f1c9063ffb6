"""The record of an alert: the one model behind the database, `<id>.json`, events, REST and docs/events.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict

from edgead.stream.spool.json_values import plain

SCHEMA_VERSION = 1

State = Literal["open", "held", "closed"]
STATES: tuple[State, ...] = get_args(State)
Judgement = Literal["defect", "false-alarm", "unsure"]
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)
# Ids end with six hexadecimal digits; those of records older than the spool with four decimal ones.
ID_PATTERN = r"\d{8}T\d{6}Z-[0-9a-f]{4,6}"

_PER_KIND = ("pictures", "pictures_missing")

Text = Annotated[str, BeforeValidator(plain)]
Score = Annotated[float | None, BeforeValidator(plain)]


class RegionRecord(TypedDict, total=False):
    """A marked region, in pixels of the opening frame."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    x: int
    y: int
    width: int
    height: int
    area_px: int
    peak: Score


class AlertRecord(BaseModel):
    """An alert, or the part of it that a change sets.

    A change is a record of the alert's `id` and the fields to set; `merged` applies it. Fields of a later state are null
    until then. Later versions add keys and never change these: unknown keys of a newer version are kept.
    """

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    schema_version: int | None = Field(None, description="1.")
    edgead_version: str | None = Field(None, description="Version that opened the alert.")
    id: str = Field(description="UTC time of the opening and a random part; unique, sorts by time, fit for file names.")
    camera: Text | None = Field(None, description="Camera name.")
    zone: Text | None = Field(None, description="Zone name.")
    severity: Text | None = Field(None, description="Severity band of the peak, or null.")
    state: State | None = Field(
        None, description="`open`: active; `held`: over, but latched until it is acknowledged; or `closed`."
    )
    opened_at: str | None = Field(None, description="UTC, ISO 8601; time of the opening frame.")
    held_at: str | None = Field(None, description="UTC; when a latched alert last became quiet.")
    closed_at: str | None = Field(None, description="UTC; when the alert ended.")
    duration_s: float | None = Field(
        None,
        description="Seconds on the source's time line; by the clock if another process closed it; null if interrupted.",
    )
    ended_by: str | None = Field(
        None,
        description="`quiet`, `acknowledged`, `end_of_stream`, `model_changed`, or `interrupted`: the process died, and `closed_at` is when "
        "the next one noticed.",
    )
    latched: bool = Field(False, description="Whether it stays open until it is acknowledged.")
    acknowledged_at: str | None = Field(None, description="UTC; when it was acknowledged.")
    acknowledged_by: Text | None = Field(None, description="Who acknowledged it.")
    note: Text | None = Field(None, description="Note of the acknowledgement.")
    judgement: Judgement | None = Field(
        None, description="What a person found: `defect`, `false-alarm` or `unsure`; null until it is judged."
    )
    judgement_kind: Text | None = Field(
        None, description="Kind of defect or of false alarm, such as `scratch`; may be empty."
    )
    judgement_note: Text | None = Field(None, description="Note of the judgement; may be empty.")
    judged_at: str | None = Field(None, description="UTC; when it was judged, last time.")
    judged_by: Text | None = Field(None, description="Who judged it, last time.")
    n_judgements: int = Field(
        0, description="How often it has been judged: a judgement that replaces another states this number."
    )
    source: Text | None = Field(None, description="Source of the camera, without secrets.")
    origin: Text | None = Field(None, description="Where the opening frame came from; the image file for a folder.")
    frame_index: int | None = Field(None, description="Index of the opening frame.")
    time_s: Score = Field(None, description="Seconds of the opening frame on the source's time line.")
    score: Score = Field(None, description="Score of the opening frame, raw units.")
    threshold: Score = Field(None, description="Threshold of the zone, raw units.")
    pixel_threshold: Score = Field(None, description="Threshold of the anomaly map, raw units.")
    peak_score: Score = Field(None, description="Highest score of the alert so far, raw units.")
    peak_frame_index: int | None = Field(None, description="Index of the frame with the highest score.")
    segmentation: str | None = Field(
        None,
        description="How regions were marked: `threshold` (map above `pixel_threshold`), `hysteresis` (regions of the map "
        "above `pixel_threshold` that the bundle's rule keeps) or `nfa` (number of false alarms). Where none of them marks "
        "anything, the region around the largest value of the map: a region's `peak` may be below `pixel_threshold`.",
    )
    image_size: list[int] | None = Field(None, description="Height and width of the opening frame, in pixels.")
    regions: list[RegionRecord] = Field(
        default_factory=list, description="Marked regions of the opening frame inside the zone, strongest first."
    )
    bundle: str | None = Field(None, description="Digest of the bundle.")
    engine: str | None = Field(None, description="`<backend>-<precision>`.")
    class_name: Text | None = Field(None, alias="class", description="Kind of part, or null.")
    pictures: dict[str, str | None] = Field(
        default_factory=dict,
        description="File names of `snapshot`, `heatmap`, `peak` and `clip`, as far as they exist.",
    )
    pictures_missing: dict[str, str | None] = Field(
        default_factory=dict,
        description="Why a file does not exist: `disk_full`, `retention`, `vanished` (removed by another program) or "
        "`failed`.",
    )

    @staticmethod
    def stored(values: Mapping[str, Any]) -> AlertRecord:
        """A record as it is on disk, of any version; its types were checked when it was written."""
        return AlertRecord.model_construct(**values)

    def as_json(self) -> dict[str, Any]:
        """The keys that are set, unknown ones included, as JSON values."""
        return self.model_dump(by_alias=True, exclude_unset=True, warnings=False)

    def followed_by(self, change: AlertRecord) -> AlertRecord:
        """This change and a later one as one change."""
        earlier, later = self.as_json(), change.as_json()
        both = {key: {**earlier.get(key, {}), **later.get(key, {})} for key in _PER_KIND if key in {*earlier, *later}}
        return AlertRecord.stored({**earlier, **later, **both})

    def merged(self, change: AlertRecord) -> AlertRecord:
        """The record after a change; in `pictures` and `pictures_missing` None removes a key."""
        values = self.followed_by(change).as_json()
        for key in _PER_KIND:
            values[key] = {kind: value for kind, value in values.get(key, {}).items() if value is not None}
        return AlertRecord.stored(values)
