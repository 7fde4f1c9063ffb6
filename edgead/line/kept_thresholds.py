"""Thresholds set on the dashboard, restored in the next stream until the settings are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgead.evaluation.threshold import MIN_IMAGES
from edgead.heatmap import HeatmapScale
from edgead.line.alarm_budget import AlarmBudget
from edgead.line.threshold_choice import ThresholdChoice, prefer_kept
from edgead.progress import Progress
from edgead.stream.alarms.threshold_range import threshold_range
from edgead.stream.camera import Camera
from edgead.stream.consumers.threshold_memory import Place, ThresholdMemory


def restore_thresholds(
    memory: ThresholdMemory,
    choices: Mapping[Place, ThresholdChoice],
    cameras: Sequence[Camera],
    scales: Mapping[str, HeatmapScale],
    budget: AlarmBudget,
    progress: Progress,
) -> list[str]:
    """Restore the thresholds and alarm budgets that people set in an earlier stream.

    They take precedence over the settings, unless those have changed since.

    Args:
        memory: Kept thresholds; those that no longer hold are removed.
        choices: Choices of the current settings, from `resolve_thresholds`.
        cameras: Cameras with the thresholds of the settings; changed in place.
        scales: Colour scale by camera.
        budget: Alarm budgets of the settings; changed in place.
        progress: Receives a note on each kept threshold.

    Returns:
        Sentences about thresholds that no longer hold, also those of another bundle or engine.
    """
    forgotten = list(memory.forgotten)

    def forget(place: Place, sentence: str) -> None:
        memory.forget(*place)
        forgotten.append(sentence)

    for kept in memory.kept:
        place = (kept.camera, kept.zone)
        zone = next((one.zone(kept.zone) for one in cameras if one.name == kept.camera), None)
        what = f"{kept.camera}, {kept.zone}: the threshold {kept.value:.4g} that {kept.who} set"
        if kept.alarms_per_hour is not None:
            what = f"{what} by {kept.alarms_per_hour:g} false alarms per hour"
        if zone is None:
            # kept: the camera may be configured again
            forgotten.append(f"{what} is not used: there is no such camera and zone now.")
            continue
        meant = threshold_range(zone.good_scores, scales[kept.camera], zone.threshold.value)
        choice = prefer_kept(choices[place], kept)
        if choice.scope != "dashboard":
            forget(place, f"{what} no longer holds: the setting was {kept.settings} then and is {choice} now.")
        elif refusal := meant.refusal(kept.value):
            forget(place, f"{what} no longer holds. {refusal}")
        else:
            zone.set_threshold(value=kept.value)
            budget.pop(place, None)
            if kept.alarms_per_hour is not None and len(zone.good_scores) >= MIN_IMAGES:
                budget[place] = kept.alarms_per_hour
            progress.note(f"{what} still holds.")
    for sentence in forgotten:
        progress.note(sentence)
    return forgotten
