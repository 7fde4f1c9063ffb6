"""What people set on the dashboard goes on in the next stream, until the settings say something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgead.config.root import Config
from edgead.config.stream import CameraConfig, ZoneConfig
from edgead.evaluation.threshold import MIN_IMAGES
from edgead.heatmap import HeatmapScale
from edgead.line.alarm_budget import AlarmWishes
from edgead.progress import Progress
from edgead.stream.alarms.threshold_range import threshold_range
from edgead.stream.camera import Camera
from edgead.stream.consumers.threshold_memory import Place, ThresholdMemory
from edgead.stream.zones import PICTURE

_PER_HOUR = "false_alarms_per_hour"


def threshold_settings(
    configs: Sequence[CameraConfig], config: Config, false_alarm_rate: float | None, per_hour: float | None
) -> dict[Place, str]:
    """What the settings say of each zone's threshold, in words: the one setting that decides it.

    Args:
        configs: Of the cameras.
        config: Settings that they share.
        false_alarm_rate, per_hour: For all, as the command line says them.
    """
    total = per_hour if per_hour is not None else config.alerts.false_alarms_per_hour
    settings = {}
    for camera in configs:
        for zone in camera.zones or (ZoneConfig(name=PICTURE),):
            # in the order of `alarm_wishes` and `make_camera`
            candidates = (
                (_PER_HOUR, zone.alerts.get(_PER_HOUR)),
                ("threshold", zone.threshold),
                ("threshold", camera.threshold),
                ("false_alarm_rate", zone.false_alarm_rate),
                ("false_alarm_rate", camera.false_alarm_rate),
                (_PER_HOUR, camera.alerts.get(_PER_HOUR)),
                (_PER_HOUR, total),
                ("false_alarm_rate", false_alarm_rate),
            )
            said = (f"{key} {float(value)!r}" for key, value in candidates if value is not None)
            settings[camera.name, zone.name] = next(said, "the bundle's threshold")
    return settings


def restore_thresholds(
    memory: ThresholdMemory,
    settings: Mapping[Place, str],
    cameras: Sequence[Camera],
    scales: Mapping[str, HeatmapScale],
    wishes: AlarmWishes,
    progress: Progress,
) -> None:
    """Go on with the thresholds and the alarms per hour that people set in an earlier stream.

    They come before what the settings say, unless that was changed since.

    Args:
        memory: Forgets what holds no longer.
        settings: Of now, from `threshold_settings`.
        cameras: With the thresholds of the settings.
        scales: By camera.
        wishes: Of the settings; gets those of people.
        progress: Gets a note on each.
    """
    for kept in memory.kept:
        place = (kept.camera, kept.zone)
        watch = next((one.watch(kept.zone) for one in cameras if one.name == kept.camera), None)
        if watch is None:
            continue
        what = f"{kept.camera}, {kept.zone}: the threshold {kept.value:.4g} that {kept.who} set"
        if kept.alarms_per_hour is not None:
            what = f"{what} by {kept.alarms_per_hour:g} false alarms per hour"
        meant = threshold_range(watch.good_scores, scales[kept.camera], watch.threshold.value)
        if kept.settings not in (None, settings[place]):
            memory.forget(*place)
            progress.note(
                f"{what} no longer holds: the settings said {kept.settings} then, and say {settings[place]} now."
            )
        elif refusal := meant.refusal(kept.value):
            memory.forget(*place)
            progress.note(f"{what} no longer holds. {refusal}")
        else:
            watch.set_threshold(value=kept.value)
            wishes.pop(place, None)
            if kept.alarms_per_hour is not None and len(watch.good_scores) >= MIN_IMAGES:
                wishes[place] = kept.alarms_per_hour
            progress.note(f"{what} still holds.")
