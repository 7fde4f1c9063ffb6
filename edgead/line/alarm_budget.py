"""How many false alarms per hour each zone may have, from what the user said for all, a camera or a zone."""

from __future__ import annotations

from collections.abc import Sequence

from edgead.config.root import Config
from edgead.config.stream import CameraConfig, ZoneConfig
from edgead.evaluation.alarm_rate import promise_from_images
from edgead.evaluation.pace import Pace
from edgead.progress import Progress
from edgead.stream.camera import Camera
from edgead.stream.zones import PICTURE

AlarmWishes = dict[tuple[str, str], float]
_KEY = "false_alarms_per_hour"


def alarm_wishes(configs: Sequence[CameraConfig], config: Config, per_hour: float | None) -> AlarmWishes:
    """False alarms per hour by camera and zone, shared evenly by the zones that a number is said for.

    A zone's own number comes before its camera's, that before `per_hour` and the one of all. Zones with a threshold or a
    rate per image of their own have none.
    """
    wishes: AlarmWishes = {}
    shared: list[tuple[str, str]] = []
    for camera in configs:
        rest = []
        for zone in camera.zones or (ZoneConfig(name=PICTURE),):
            place, own = (camera.name, zone.name), zone.alerts.get(_KEY)
            if own is not None:
                wishes[place] = own
            elif all(
                value is None
                for value in (zone.threshold, zone.false_alarm_rate, camera.threshold, camera.false_alarm_rate)
            ):
                rest.append(place)
        of_camera = camera.alerts.get(_KEY)
        if of_camera is None:
            shared += rest
        else:
            wishes |= dict.fromkeys(rest, of_camera / max(1, len(rest)))
    total = per_hour if per_hour is not None else config.alerts.false_alarms_per_hour
    if total is not None and shared:
        wishes |= dict.fromkeys(shared, total / len(shared))
    return wishes


def begin_with(wishes: AlarmWishes, cameras: Sequence[Camera], *, assumed_fps: float, progress: Progress) -> None:
    """Set the thresholds that promise the wishes at a frame rate that the stream has yet to show, and say what they rest on.

    Raises:
        DataError: If a zone has fewer than 5 good scores.
    """
    for camera in cameras:
        for watch in camera.watches:
            wanted = wishes.get((camera.name, watch.name))
            if wanted is None:
                continue
            promise = promise_from_images(watch.good_scores, wanted, Pace(assumed_fps, watch.rules.open_frames))
            watch.set_threshold(record=promise.threshold)
            progress.note(f"{camera.name}, {watch.name}: {promise.sentence}")
