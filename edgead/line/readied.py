"""Cameras of a line made ready for one model: zones, thresholds, budgets, and what people had set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import Bundle
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.line.alarm_budget import AlarmBudget, alarm_budget, start_within_budget
from edgead.line.cameras import make_cameras
from edgead.line.kept_thresholds import restore_thresholds
from edgead.line.threshold_choice import ThresholdChoice, resolve_thresholds
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.stream.camera import Camera
from edgead.stream.consumers.threshold_memory import Place, ThresholdMemory
from edgead.stream.sources.source import Source


@dataclass(frozen=True)
class LineSettings:
    """Settings that every model of a line is made ready with.

    Attributes:
        cameras: Settings of the cameras.
        config: Settings shared by all cameras.
        false_alarm_rate, per_hour: Values for all zones, from the command line.
        alerts_dir: Alert folder, which also holds the thresholds that people set; None = no alerts.
    """

    cameras: Sequence[CameraConfig]
    config: Config
    false_alarm_rate: float | None = None
    per_hour: float | None = None
    alerts_dir: Path | None = None


@dataclass(frozen=True)
class Readied:
    """Cameras ready for one model.

    Attributes:
        cameras: Cameras, not yet opened, with the thresholds that they start with.
        choices: Choices of the settings.
        budget: False alarms per hour to keep.
        memory: Thresholds set by people; None without an alert folder.
        forgotten: Sentences about those that do not hold for this model.
    """

    cameras: list[Camera]
    choices: dict[Place, ThresholdChoice]
    budget: AlarmBudget
    memory: ThresholdMemory | None
    forgotten: list[str]


def make_ready(
    line: LineSettings,
    bundle: Bundle,
    runner: Runner,
    progress: Progress,
    sources: Mapping[str, Source],
    *,
    writes: bool = True,
) -> Readied:
    """Make the cameras of a line for a bundle and its open engine.

    Args:
        line: Settings of the line.
        bundle, runner: Bundle and open engine.
        progress: Receives notes and progress.
        sources: Sources by camera name, in place of those in the settings.
        writes: Whether thresholds that no longer hold are removed from the alert folder.

    Raises:
        EdgeadError: If a source, class or zone does not exist for this bundle.
    """
    config = line.config
    made = make_cameras(
        line.cameras, bundle, runner, config, progress, false_alarm_rate=line.false_alarm_rate, sources=sources
    )
    choices = resolve_thresholds(line.cameras, config, false_alarm_rate=line.false_alarm_rate, per_hour=line.per_hour)
    budget = alarm_budget(choices)
    start_within_budget(budget, made, assumed_fps=config.stream.record_fps, progress=progress)
    if line.alerts_dir is None:
        return Readied(made, choices, budget, None, [])
    settings = {place: str(choice) for place, choice in choices.items()}
    memory = ThresholdMemory(line.alerts_dir, bundle.digest, runner.engine_name, settings, writes=writes)
    scales = {one.name: bundle.thresholds(one.class_name).heatmap_scale for one in line.cameras}
    forgotten = restore_thresholds(memory, choices, made, scales, budget, progress)
    return Readied(made, choices, budget, memory, forgotten)
