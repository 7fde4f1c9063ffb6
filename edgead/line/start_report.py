"""Report at the start of a stream: bundle, engine, thresholds and their sources, and what was forgotten."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.bundle import Bundle
from edgead.errors import StorageError
from edgead.line.threshold_choice import PER_HOUR, ThresholdChoice
from edgead.runner import REFERENCE, Runner
from edgead.storage import write_json
from edgead.stream.camera import Camera
from edgead.stream.consumers.threshold_memory import KeptThreshold, Place
from edgead.stream.zone_monitor import ZoneMonitor

_LOG = logging.getLogger(__name__)

FILE = ".last-start"
_SCOPES = {
    "zone": "the settings of the zone",
    "camera": "the settings of the camera",
    "line": "the settings of the line or the command line",
}


@dataclass(frozen=True)
class Judge:
    """Bundle and engine that judge the frames of a stream.

    Attributes:
        bundle: Digest of the bundle.
        trained_at: UTC time of its training.
        engine: Name of the engine.
    """

    bundle: str
    trained_at: str
    engine: str

    @classmethod
    def of(cls, bundle: Bundle, runner: Runner) -> Judge:
        return cls(bundle.digest, bundle.manifest.provenance.created_at, runner.engine_name)

    @property
    def precision(self) -> str:
        """Precision of the engine: fp32, fp16 or int8."""
        return "fp32" if self.engine == REFERENCE else self.engine.rpartition("-")[2]


@dataclass(frozen=True)
class StartReport:
    """Sentences for people, and the same in values for the event `stream_started`."""

    sentences: tuple[str, ...]
    values: Mapping[str, Any]


def start_report(
    bundle: Bundle,
    runner: Runner,
    cameras: Sequence[Camera],
    choices: Mapping[Place, ThresholdChoice],
    kept: Sequence[KeptThreshold],
    forgotten: Sequence[str],
    previous: Judge | None,
) -> StartReport:
    """Report on a stream that is about to start.

    Args:
        bundle, runner: Bundle and open engine.
        cameras: Cameras with the thresholds that they start with.
        choices: Choices of the settings.
        kept: Thresholds that people set in earlier streams and that are in force.
        forgotten: Sentences about those that are not.
        previous: Bundle and engine of the last stream with this alert folder; None if unknown.
    """
    judge = Judge.of(bundle, runner)
    by_place = {(one.camera, one.zone): one for one in kept}
    model = bundle.manifest.model
    sentences = [
        f"Bundle {judge.bundle[:12]}: {model}, trained {judge.trained_at}, {bundle.path}",
        f"Engine {judge.engine}: {judge.precision} on {runner.device}",
    ]
    thresholds = {}
    for camera in cameras:
        for zone in camera.zones:
            place = (camera.name, zone.name)
            source = threshold_source(choices[place], zone, by_place.get(place))
            sentences.append(f"Threshold of {camera.name}, {zone.name}: {zone.threshold.value:.6g}, {source}")
            thresholds[f"{camera.name}/{zone.name}"] = {"value": zone.threshold.value, "source": source}
    lost = [*_changes(previous, judge, bundle), *forgotten]
    values = {
        "model": model, "trained_at": judge.trained_at, "precision": judge.precision, "thresholds": thresholds,
        "forgotten": lost,
    }  # fmt: skip
    return StartReport((*sentences, *_changes(previous, judge, bundle)), values)


def threshold_source(choice: ThresholdChoice, zone: ZoneMonitor, kept: KeptThreshold | None) -> str:
    """Where a threshold comes from, in words."""
    if kept is not None:
        budget = "" if kept.alarms_per_hour is None else f" by {kept.alarms_per_hour:g} false alarms per hour"
        return f"set by {kept.who} on the dashboard{budget}"
    record = zone.threshold
    basis = "certified by" if record.certified else "extrapolated from"
    promise = (
        f"{100 * record.false_alarm_rate:.3g} % of good images above it, {basis} {record.n_images} held-out images"
    )
    if choice.value is None:
        return f"from the bundle ({promise})"
    where = _SCOPES[choice.scope]
    if choice.kind == "threshold":
        return f"from {where}"
    what = f"{choice.value:g} false alarms per hour" if choice.kind == PER_HOUR else f"rate {choice.value:g}"
    return f"from {where}: {what} ({promise})"


def _changes(previous: Judge | None, judge: Judge, bundle: Bundle) -> list[str]:
    """Sentences about a bundle or engine that is not that of the last stream."""
    if previous is None or previous == judge:
        return []
    before = f"The last stream with this alert folder ran bundle {previous.bundle[:12]} (trained {previous.trained_at})"
    if previous.engine == judge.engine:
        return [f"{before}."]
    sentence = f"{before} with the engine {previous.engine}, and this one runs {judge.engine}"
    if previous.bundle != judge.bundle and previous.precision != judge.precision:
        precision = "" if previous.precision == "fp32" else f" --{previous.precision}"
        return [
            f"{sentence}: engines belong to one bundle and are not taken over by another. To build that one: "
            f"edgead build-engine {bundle.path}{precision}"
        ]
    return [f"{sentence}."]


def last_start(folder: Path) -> Judge | None:
    """Bundle and engine of the last stream with this alert folder; None if unknown."""
    try:
        return Judge(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def note_start(folder: Path, judge: Judge) -> None:
    """Store bundle and engine for the next stream."""
    try:
        write_json(folder / FILE, asdict(judge))
    except StorageError as error:
        _LOG.debug("%s The next stream cannot say what has changed.", error)
