"""Choice of a zone's threshold among settings, command line, dashboard and bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgead.config.root import Config
from edgead.config.stream import CameraConfig, ZoneConfig
from edgead.stream.consumers.threshold_memory import KeptThreshold, Place
from edgead.stream.zones import WHOLE_IMAGE

PER_HOUR = "false_alarms_per_hour"
Kind = Literal["threshold", "false_alarm_rate", "false_alarms_per_hour"]
Scope = Literal["zone", "camera", "line", "bundle", "dashboard"]


@dataclass(frozen=True)
class ThresholdChoice:
    """The setting that decides one zone's threshold.

    Attributes:
        kind: Kind of the value: a score in raw units, a share of good frames, or false alarms per hour.
        value: The value; None = the bundle's own threshold.
        scope: Where it is set. False alarms per hour of a camera or the line are shared by its zones.
        per_hour: Alarm budget of a threshold set on the dashboard; None for a fixed threshold.
    """

    kind: Kind
    value: float | None
    scope: Scope
    per_hour: float | None = None

    def __str__(self) -> str:
        return "the bundle's threshold" if self.value is None else f"{self.kind} {float(self.value)!r}"


@dataclass(frozen=True)
class LineThresholds:
    """Defaults of the line for zones without a setting of their own.

    Attributes:
        per_hour: False alarms per hour of the whole line, shared by the zones without an own setting.
        false_alarm_rate: Share of good frames that may alarm, from the command line.
    """

    per_hour: float | None = None
    false_alarm_rate: float | None = None


def resolve_threshold(
    zone: ZoneConfig,
    camera: CameraConfig,
    line: LineThresholds,
    *,
    kept: KeptThreshold | None = None,
    with_budgets: bool = True,
) -> ThresholdChoice:
    """Choose the setting that decides a zone's threshold.

    A value set on the dashboard takes precedence as long as the settings have not changed since. Of the settings the
    first of these wins: the zone's false alarms per hour, the zone's and the camera's threshold, the zone's and the
    camera's rate, the camera's and the line's false alarms per hour, the command line's rate, the bundle.

    Args:
        zone: Settings of the zone.
        camera: Settings of its camera.
        line: Settings of the whole line.
        kept: Threshold set on the dashboard of an earlier stream, for this zone.
        with_budgets: Whether false alarms per hour count; without them the result is the initial threshold of a stream
            whose frame rate is not known yet.
    """
    chosen = next(
        ThresholdChoice(kind, value, scope)
        for kind, value, scope in _candidates(zone, camera, line)
        if scope == "bundle" or (value is not None and (with_budgets or kind != PER_HOUR))
    )
    return chosen if kept is None else prefer_kept(chosen, kept)


def prefer_kept(chosen: ThresholdChoice, kept: KeptThreshold) -> ThresholdChoice:
    """Return the dashboard's value, unless the settings have changed since; older files do not record the settings."""
    if kept.settings not in (None, str(chosen)):
        return chosen
    return ThresholdChoice("threshold", kept.value, "dashboard", kept.alarms_per_hour)


def resolve_thresholds(
    configs: Sequence[CameraConfig], config: Config, *, false_alarm_rate: float | None, per_hour: float | None
) -> dict[Place, ThresholdChoice]:
    """Choices of the settings for every zone of a line.

    Args:
        configs: Settings of the cameras.
        config: Settings shared by all cameras.
        false_alarm_rate, per_hour: Values for all zones, from the command line.
    """
    line = LineThresholds(config.alerts.false_alarms_per_hour if per_hour is None else per_hour, false_alarm_rate)
    return {
        (camera.name, zone.name): resolve_threshold(zone, camera, line)
        for camera in configs
        for zone in camera.zones or (ZoneConfig(name=WHOLE_IMAGE),)
    }


def _candidates(
    zone: ZoneConfig, camera: CameraConfig, line: LineThresholds
) -> Iterable[tuple[Kind, float | None, Scope]]:
    return (
        ("false_alarms_per_hour", zone.alerts.get(PER_HOUR), "zone"),
        ("threshold", zone.threshold, "zone"),
        ("threshold", camera.threshold, "camera"),
        ("false_alarm_rate", zone.false_alarm_rate, "zone"),
        ("false_alarm_rate", camera.false_alarm_rate, "camera"),
        ("false_alarms_per_hour", camera.alerts.get(PER_HOUR), "camera"),
        ("false_alarms_per_hour", line.per_hour, "line"),
        ("false_alarm_rate", line.false_alarm_rate, "line"),
        ("threshold", None, "bundle"),
    )
