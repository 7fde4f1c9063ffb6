"""Settings of a running stream: cameras, their zones, and when an alert opens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from edgead.config.section import Section

# Names end up in topics, file names and addresses of pages.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits, '_', '.' or '-', and starts with a letter or digit")
    return name


def _checked_polygon(polygon: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if len(polygon) < 3:
        raise ValueError(f"a polygon has at least 3 corners, got {len(polygon)}")
    if not all(0.0 <= value <= 1.0 for corner in polygon for value in corner):
        raise ValueError("corners are (x, y) between 0 and 1, as shares of the picture's width and height")
    return polygon


def _pairs(value: Any) -> Any:
    # a mapping in YAML; a tuple can be hashed
    return tuple(value.items()) if isinstance(value, dict) else value


Name = Annotated[str, AfterValidator(_checked_name)]
Polygon = Annotated[tuple[tuple[float, float], ...], AfterValidator(_checked_polygon)]


class StreamConfig(Section):
    """How frames are taken and shown."""

    queue_size: int = Field(4, ge=1, le=1000, description="Frames that a file source may read ahead.")
    record_fps: float = Field(25.0, gt=0, le=240, description="Frame rate of --record when the source has none.")
    folder_fps: float = Field(
        2.0, gt=0, le=240, description="Pictures of a folder per second, in a recording and in the times of alerts."
    )
    opacity: float = Field(0.6, ge=0, le=1, description="How strongly the heatmap covers the picture.")
    open_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest wait for a source's first frame, in seconds."
    )
    read_timeout_s: float = Field(
        5.0, gt=0, le=600, description="Longest wait for a live source's next frame, in seconds."
    )
    max_restarts: int = Field(10, ge=0, le=1000, description="Reconnections to a live source per restart window.")
    restart_window_s: float = Field(300.0, gt=0, description="Length of the restart window, in seconds.")
    max_frame_age_s: float = Field(
        1.0, ge=0, le=60, description="A live frame that was captured longer ago is dropped; 0 drops none. In seconds."
    )
    camera_format: str = Field(
        "", description="What a USB or CSI camera shall give, e.g. MJPG 1280x720@30; empty: its own choice."
    )
    csi_flip: int = Field(0, ge=0, le=7, description="How a CSI camera's pictures are turned: nvvidconv's flip-method.")
    decoder: Literal["auto", "ffmpeg", "gstreamer"] = Field(
        "auto", description="Who decodes RTSP; auto: GStreamer where it has a hardware decoder, else FFmpeg."
    )
    rtsp_transport: Literal["tcp", "udp"] = Field("tcp", description="How RTSP's pictures travel.")
    rtsp_latency_ms: int = Field(
        200, ge=0, le=10000, description="How long GStreamer waits for late RTP packets, in ms."
    )
    watch_settle_s: float = Field(
        0.5, gt=0, le=60, description="How long a file of a watched folder must not change before it is read, in s."
    )
    watch_existing: bool = Field(False, description="Also take the files that a watched folder holds at the start.")
    check_pictures: bool = Field(
        True,
        description="Do not judge frozen, black, over-exposed and blurred pictures of live cameras, but report them.",
    )
    frozen_s: float = Field(
        10.0, ge=0, le=3600, description="A picture that does not change for so long is frozen; 0: never. In seconds."
    )
    black_ratio: float = Field(
        0.3, ge=0, lt=1, description="Black: darker than this share of the darkest good image, by its brightest parts."
    )
    white_margin: float = Field(
        0.15, gt=0, le=1, description="Over-exposed: so much more white than the whitest good image, as a share of all."
    )
    blur_ratio: float = Field(
        0.5, ge=0, lt=1, description="Blurred: less sharp than this share of the least sharp good image."
    )
    engine_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="Longest call of the engine before it counts as hung, in seconds."
    )


class AlertConfig(Section):
    """When a run of anomalous frames becomes an alert."""

    open_frames: int = Field(
        3, ge=1, le=10000, description="Anomalous frames needed to open an alert (N of the last M)."
    )
    window_frames: int = Field(5, ge=1, le=10000, description="Frames looked back on (M).")
    close_frames: int = Field(
        5, ge=1, le=10000, description="Frames in a row below the closing level that end an alert."
    )
    close_ratio: float = Field(
        0.9, gt=0, le=1, description="Closing level as a share of the way from the median good score to the threshold."
    )
    cooldown_s: float = Field(
        0.0, ge=0, le=86400, description="Pause after an alert before the next may open, in seconds; it hides defects."
    )

    min_area: float = Field(
        0.0, ge=0, le=1, description="Share of the zone that must be marked for a frame to be anomalous."
    )
    latch: bool = Field(False, description="An alert stays until somebody acknowledges it.")
    false_alarms_per_hour: float | None = Field(
        None,
        gt=0,
        le=1e5,
        description="Sets the thresholds instead of a rate per image; shared evenly by the zones that it is said for.",
    )
    false_alarm_basis: Literal["images", "measured", "watched"] = Field(
        "images",
        description="What that rests on: the good images alone, which holds on any line; how the line's own exceeding "
        "frames gather; or hours of watching it.",
    )
    severities: Annotated[tuple[tuple[Name, float], ...], BeforeValidator(_pairs)] = Field(
        (("minor", 1.0), ("major", 2.0), ("critical", 4.0)),
        description="Bands by the peak, NAME: MULTIPLE of the way from the median good score to the threshold.",
    )

    @model_validator(mode="after")
    def _window_holds_open(self) -> AlertConfig:
        if self.open_frames > self.window_frames:
            raise ValueError(
                f"open_frames must not exceed window_frames (got {self.open_frames} > {self.window_frames})"
            )
        return self


class SpoolConfig(Section):
    """How long alerts are kept, and what happens when there is no room."""

    evidence_mb: float = Field(4000.0, gt=0, le=1e7, description="Limit of all pictures and clips together, in MB.")
    evidence_days: float = Field(90.0, gt=0, le=36500, description="Oldest picture or clip, in days.")
    event_days: float = Field(30.0, gt=0, le=36500, description="Oldest event that every sink has confirmed, in days.")
    record_days: float | None = Field(
        None, gt=0, le=36500, description="Oldest record of an alert, in days; unset: records stay."
    )
    min_free_mb: float = Field(
        500.0, ge=0, le=1e7, description="With less free space on the disk only records are written, in MB."
    )
    memory_events: int = Field(
        10000, ge=1, le=1000000, description="Changes that wait in memory while the disk takes none."
    )


class ClipConfig(Section):
    """The short video of an alert."""

    seconds_before: float = Field(
        4.0, ge=0, le=120, description="What it shows before the alert opened; with 0 after too: none."
    )
    seconds_after: float = Field(4.0, ge=0, le=120, description="What it shows after the alert opened.")
    fps: float = Field(10.0, gt=0, le=60, description="Frames per second, at most those that were judged.")
    max_side_px: int = Field(640, ge=64, le=4096, description="Larger pictures are shrunk to it.")
    memory_mb: float = Field(32.0, gt=0, le=4096, description="Limit of the frames kept per camera, in MB.")


class WebConfig(Section):
    """The dashboard and its REST API."""

    address: str | None = Field(None, description="HOST:PORT, as --web takes it; unset: no dashboard.")
    certificate: Path | None = Field(None, description="For TLS, PEM; together with the key.")
    key: Path | None = Field(None, description="For TLS, PEM; together with the certificate.")
    hosts: tuple[str, ...] = Field((), description="Names of a proxy that browsers call a server on loopback by.")
    session_h: float = Field(12.0, gt=0, le=8760, description="A login lasts so long at most, in hours.")
    idle_h: float = Field(2.0, gt=0, le=8760, description="Without a request for so long it ends, in hours.")
    max_viewers: int = Field(8, ge=1, le=1000, description="Live pictures at the same time.")


class ZoneConfig(Section):
    """A part of a camera's picture with alerts of its own."""

    name: Name = Field(description="Of the zone.")
    include: tuple[Polygon, ...] = Field((), description="Polygons of [x, y] in 0..1; none: the whole picture.")
    exclude: tuple[Polygon, ...] = Field((), description="Polygons that are not looked at.")
    threshold: float | None = Field(None, description="Score, raw units; unset: by the rate of false alarms.")
    false_alarm_rate: float | None = Field(
        None, gt=0, lt=1, description="Share of good frames over the threshold; unset: the camera's."
    )
    alerts: dict[str, Any] = Field({}, description="Keys of `alerts` that differ here.")


class CameraConfig(Section):
    """One of several cameras on one engine."""

    name: Name = Field(description="For people; unique.")
    source: str = Field(description="As --source takes it, or camera:N.")
    class_name: str | None = Field(None, alias="class", description="Kind of part, for bundles of several.")
    threshold: float | None = Field(None, description="Score, raw units; unset: by the rate of false alarms.")
    false_alarm_rate: float | None = Field(
        None, gt=0, lt=1, description="Share of good frames over the threshold; unset: the bundle's."
    )
    zones: tuple[ZoneConfig, ...] = Field((), description="Parts of the picture to watch; none: the whole picture.")
    alerts: dict[str, Any] = Field({}, description="Keys of `alerts` that differ for this camera.")
    stream: dict[str, Any] = Field({}, description="Keys of `stream` that differ for this camera.")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @field_validator("zones")
    @classmethod
    def _zones_differ(cls, zones: tuple[ZoneConfig, ...]) -> tuple[ZoneConfig, ...]:
        check_unique(zones)
        return zones


def check_unique(named: tuple[CameraConfig, ...] | tuple[ZoneConfig, ...]) -> None:
    """Raise ValueError where two have the same name."""
    names = [one.name for one in named]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ValueError(f"names must differ, got twice: {', '.join(double)}")
