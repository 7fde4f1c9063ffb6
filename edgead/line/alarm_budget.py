"""Alarm budgets: false alarms per hour of each zone, and the thresholds that keep them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edgead.evaluation.alarm_rate import promise_from_images
from edgead.evaluation.pace import Pace
from edgead.line.threshold_choice import PER_HOUR, ThresholdChoice
from edgead.progress import Progress
from edgead.stream.camera import Camera
from edgead.stream.consumers.threshold_memory import Place

AlarmBudget = dict[Place, float]


def alarm_budget(choices: Mapping[Place, ThresholdChoice]) -> AlarmBudget:
    """False alarms per hour of every zone with a budget; the budget of a camera or the line is shared evenly.

    Args:
        choices: Choice that decides each zone's threshold, from `resolve_thresholds`.
    """
    wanted = {place: choice for place, choice in choices.items() if choice.kind == PER_HOUR}

    def sharing(place: Place) -> Place | str:
        scope = wanted[place].scope
        return place if scope == "zone" else place[0] if scope == "camera" else ""

    counts = Counter(sharing(place) for place in wanted)
    return {place: (choice.value or 0.0) / counts[sharing(place)] for place, choice in wanted.items()}


def start_within_budget(
    budget: AlarmBudget, cameras: Sequence[Camera], *, assumed_fps: float, progress: Progress
) -> None:
    """Set the thresholds that keep the budgets at an assumed frame rate, and report their basis.

    Raises:
        DataError: If a zone has fewer than 5 good scores.
    """
    for camera in cameras:
        for zone in camera.zones:
            wanted = budget.get((camera.name, zone.name))
            if wanted is None:
                continue
            promise = promise_from_images(zone.good_scores, wanted, Pace(assumed_fps, zone.rules.open_frames))
            zone.set_threshold(record=promise.threshold)
            progress.note(f"{camera.name}, {zone.name}: {promise.sentence}")
