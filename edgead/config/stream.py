"""Settings of a running stream: cameras, zones, alerts, storage and dashboard."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from edgead.config.section import Section
from edgead.redaction import remember_login

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
        raise ValueError("corners are (x, y) between 0 and 1, as shares of the frame's width and height")
    return polygon


def _pairs(value: Any) -> Any:
    # a mapping in YAML; a tuple can be hashed
    return tuple(value.items()) if isinstance(value, dict) else value


Name = Annotated[str, AfterValidator(_checked_name)]
Polygon = Annotated[tuple[tuple[float, float], ...], AfterValidator(_checked_polygon)]


class StreamConfig(Section):
    """Capture and display of frames."""

    queue_size: int = Field(4, ge=1, le=1000, description="Number of frames that a file source may read ahead.")
    record_fps: float = Field(25.0, gt=0, le=240, description="Frame rate of --record for a source without one.")
    folder_fps: float = Field(
        2.0, gt=0, le=240, description="Images per second of a folder, in a recording and in the times of alerts."
    )
    opacity: float = Field(0.6, ge=0, le=1, description="Opacity of the heatmap on the frame.")
    open_timeout_s: float = Field(10.0, gt=0, le=600, description="Timeout for a source's first frame, in seconds.")
    read_timeout_s: float = Field(5.0, gt=0, le=600, description="Timeout for a live source's next frame, in seconds.")
    max_restarts: int = Field(
        10, ge=0, le=1000, description="Maximum number of reconnections to a live source per restart window."
    )
    restart_window_s: float = Field(300.0, gt=0, description="Length of the restart window, in seconds.")
    max_frame_age_s: float = Field(
        1.0, ge=0, le=60, description="Maximum age of a live frame, in seconds; older ones are dropped. 0: none are."
    )
    camera_format: str = Field(
        "", description="Format requested from a USB or CSI camera, e.g. MJPG 1280x720@30; empty: the camera's default."
    )
    csi_flip: int = Field(0, ge=0, le=7, description="Rotation of a CSI camera's frames: nvvidconv's flip-method.")
    decoder: Literal["auto", "ffmpeg", "gstreamer"] = Field(
        "auto", description="Decoder of RTSP streams; auto: GStreamer where it can decode the video, else FFmpeg."
    )
    rtsp_transport: Literal["tcp", "udp"] = Field("tcp", description="Transport protocol of RTSP streams.")
    rtsp_latency_ms: int = Field(
        200, ge=0, le=10000, description="GStreamer's jitter buffer for late RTP packets, in ms."
    )
    snapshot_fps: float = Field(
        2.0, ge=0.2, le=60, description="Requests per second to an HTTP address that answers with a single image."
    )
    loop: bool = Field(False, description="Begin a video file again at its end, until the stream is stopped.")
    watch_settle_s: float = Field(
        0.5,
        gt=0,
        le=60,
        description="Time for which a file of a watched folder must be unchanged before it is read, in seconds.",
    )
    watch_existing: bool = Field(False, description="Also read the files that a watched folder contains at the start.")
    check_pictures: bool = Field(
        True,
        description="Report frozen, black, over-exposed and blurred frames of live cameras instead of judging them.",
    )
    frozen_s: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="Time without any change after which a frame counts as frozen, in seconds; 0: never.",
    )
    black_ratio: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Limit for black frames, as a share of the darkest good image's brightness, both by their brightest parts.",
    )
    white_margin: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Limit for over-exposed frames: share of white pixels beyond that of the whitest good image.",
    )
    blur_ratio: float = Field(
        0.5, ge=0, lt=1, description="Limit for blurred frames, as a share of the least sharp good image's sharpness."
    )
    engine_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="Time after which a call of the engine counts as hung, in seconds."
    )


class AlertConfig(Section):
    """Rules that turn a run of anomalous frames into an alert."""

    open_frames: int = Field(
        3, ge=1, le=10000, description="Number of anomalous frames that open an alert (N of the last M)."
    )
    window_frames: int = Field(5, ge=1, le=10000, description="Number of recent frames considered (M).")
    close_frames: int = Field(
        5, ge=1, le=10000, description="Number of consecutive frames below the closing level that close an alert."
    )
    close_ratio: float = Field(
        0.9, gt=0, le=1, description="Closing level as a share of the way from the median good score to the threshold."
    )
    cooldown_s: float = Field(
        0.0,
        ge=0,
        le=86400,
        description="Pause after an alert before the next one may open, in seconds; defects within it are not reported.",
    )

    min_area: float = Field(
        0.0, ge=0, le=1, description="Minimum marked share of the zone for a frame to count as anomalous."
    )
    latch: bool = Field(False, description="Keep an alert open until it is acknowledged.")
    resume_s: float = Field(
        60.0,
        ge=0,
        le=86400,
        description="Minimum time that a held alert which resumes stays open, in seconds: its resumption is reported at "
        "most once in this time.",
    )
    false_alarms_per_hour: float | None = Field(
        None,
        gt=0,
        le=1e5,
        description="False alarms per hour that set the thresholds, instead of a rate per image; shared evenly by the zones it covers.",
    )
    false_alarm_basis: Literal["images", "measured", "watched"] = Field(
        "images",
        description="Basis of that budget: the good images alone, which holds on any line; how frames above the "
        "threshold cluster on this line; or hours of watching it.",
    )
    severities: Annotated[tuple[tuple[Name, float], ...], BeforeValidator(_pairs)] = Field(
        (("minor", 1.0), ("major", 2.0), ("critical", 4.0)),
        description="Severity bands by peak score, NAME: MULTIPLE of the distance from the median good score to the threshold.",
    )

    @model_validator(mode="after")
    def _window_holds_open(self) -> AlertConfig:
        if self.open_frames > self.window_frames:
            raise ValueError(
                f"open_frames must not exceed window_frames (got {self.open_frames} > {self.window_frames})"
            )
        return self


class SpoolConfig(Section):
    """Retention of alerts, and behaviour on a full disk."""

    evidence_mb: float = Field(
        4000.0, gt=0, le=1e7, description="Maximum size of all snapshots and clips together, in MB."
    )
    evidence_days: float = Field(90.0, gt=0, le=36500, description="Retention of snapshots and clips, in days.")
    event_days: float = Field(
        30.0, gt=0, le=36500, description="Retention of events that every sink has confirmed, in days."
    )
    record_days: float | None = Field(
        None, gt=0, le=36500, description="Retention of alert records, in days; unset: they are kept."
    )
    min_free_mb: float = Field(
        500.0, ge=0, le=1e7, description="Free disk space below which only records are written, in MB."
    )
    memory_events: int = Field(
        10000,
        ge=1,
        le=1000000,
        description="Maximum number of changes buffered in memory while the disk cannot be written.",
    )


class ClipConfig(Section):
    """Short video of an alert."""

    seconds_before: float = Field(
        4.0,
        ge=0,
        le=120,
        description="Length of the clip before the alert opened, in seconds; 0 before and after: no clips.",
    )
    seconds_after: float = Field(
        4.0, ge=0, le=120, description="Length of the clip after the alert opened, in seconds."
    )
    fps: float = Field(10.0, gt=0, le=60, description="Frame rate of clips; never higher than that of judged frames.")
    max_side_px: int = Field(
        640, ge=64, le=4096, description="Maximum side of a clip's frames, in pixels; larger ones are scaled down."
    )
    memory_mb: float = Field(32.0, gt=0, le=4096, description="Memory for buffered clip frames per camera, in MB.")


class WebConfig(Section):
    """Dashboard and REST API."""

    address: str | None = Field(
        None, description="Address of the dashboard, HOST:PORT, as for --web; unset: no dashboard."
    )
    certificate: Path | None = Field(None, description="TLS certificate, PEM; requires the key.")
    key: Path | None = Field(None, description="TLS private key, PEM; requires the certificate.")
    hosts: tuple[str, ...] = Field(
        (), description="Host names under which a reverse proxy shows the dashboard, on any port."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks of reverse proxies whose X-Forwarded-For, -Proto and -Prefix are believed, e.g. "
        "127.0.0.1.",
    )
    session_h: float = Field(12.0, gt=0, le=8760, description="Maximum session lifetime, in hours.")
    idle_h: float = Field(2.0, gt=0, le=8760, description="Time without requests after which a session ends, in hours.")
    max_viewers: int = Field(8, ge=1, le=1000, description="Maximum number of simultaneous live views.")
    teach_base: Path | None = Field(
        None, description="Base bundle for teaching new parts on the dashboard; unset: no teaching. Requires --models."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                ipaddress.ip_network(one)
            except ValueError as error:
                raise ValueError(f"must be addresses or networks: {error}") from None
        return value


class ZoneConfig(Section):
    """Part of a camera's frame with alerts of its own."""

    name: Name = Field(description="Unique name of the zone.")
    include: tuple[Polygon, ...] = Field((), description="Included polygons of [x, y] in 0..1; none: the whole frame.")
    exclude: tuple[Polygon, ...] = Field((), description="Excluded polygons of [x, y] in 0..1.")
    threshold: float | None = Field(
        None, description="Score threshold, in raw units; unset: from the false-alarm rate."
    )
    false_alarm_rate: float | None = Field(
        None, gt=0, lt=1, description="Share of good frames above the threshold; unset: the camera's."
    )
    alerts: dict[str, Any] = Field({}, description="Keys of `alerts` that differ for this zone.")


class CameraConfig(Section):
    """One of several cameras on one engine."""

    name: Name = Field(description="Unique display name of the camera.")
    source: str = Field(description="Source as for --source, or camera:N.")
    class_name: str | None = Field(
        None, alias="class", description="Class of the parts, for bundles of several classes."
    )
    threshold: float | None = Field(
        None, description="Score threshold, in raw units; unset: from the false-alarm rate."
    )
    false_alarm_rate: float | None = Field(
        None, gt=0, lt=1, description="Share of good frames above the threshold; unset: the bundle's."
    )
    zones: tuple[ZoneConfig, ...] = Field((), description="Zones of the frame to watch; none: the whole frame.")
    alerts: dict[str, Any] = Field({}, description="Keys of `alerts` that differ for this camera.")
    stream: dict[str, Any] = Field({}, description="Keys of `stream` that differ for this camera.")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @field_validator("source")
    @classmethod
    def _remember_login(cls, source: str) -> str:
        remember_login(source)
        return source

    @field_validator("zones")
    @classmethod
    def _zones_differ(cls, zones: tuple[ZoneConfig, ...]) -> tuple[ZoneConfig, ...]:
        check_unique(zones)
        return zones


def check_unique(named: tuple[CameraConfig, ...] | tuple[ZoneConfig, ...]) -> None:
    """Raise ValueError if two of them have the same name."""
    names = [one.name for one in named]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ValueError(f"names must be unique, got twice: {', '.join(double)}")
