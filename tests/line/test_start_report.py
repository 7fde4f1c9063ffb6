"""Every start says what judges, and what of an earlier stream does not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edgead.commands.stream import StreamOutputs, stream
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.line.start_report import Judge, last_start, note_start, threshold_source
from edgead.line.threshold_choice import ThresholdChoice
from edgead.runner import FakeRunner
from edgead.stream.consumers.threshold_memory import FILE, KeptThreshold
from tests.notes import Notes

from ..commands.stream_runs import make_bundle
from ..stream.fakes import GOOD, ListSource, watch


class Int8Runner(FakeRunner):
    engine_name = "onnxruntime-int8"


class ReferenceRunner(FakeRunner):
    engine_name = "reference"


def start(folder: Path, bundle: Any, runner: FakeRunner, **camera: Any) -> tuple[list[str], dict[str, Any]]:
    """Notes of a start, and the values of its event."""
    notes = Notes()
    cameras = [CameraConfig.model_validate({"name": "line", "source": "list", **camera})]
    config = Config.model_validate({"sinks": [{"kind": "jsonl", "path": str(folder / "events.jsonl")}]})
    sources = {"line": ListSource([GOOD] * 3)}
    outputs = StreamOutputs(folder / "alerts")
    stream(bundle, runner, cameras, outputs, config=config, progress=notes, sources=sources)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return notes.texts, [event["values"] for event in events if event["kind"] == "stream_started"][-1]


def test_a_start_names_bundle_engine_and_thresholds(tmp_path: Path) -> None:
    """With digest, training, precision, and where each threshold comes from; the event says the same."""
    bundle = make_bundle(tmp_path)
    notes, values = start(tmp_path, bundle, FakeRunner((32, 32)), threshold=0.15)
    assert f"Bundle {bundle.digest[:12]}: usf, trained 2026-11-22T00:00:00Z, {bundle.path}" in notes
    assert "Engine fake-fp32: fp32 on cpu" in notes
    assert "Threshold of line, picture: 0.15, from the settings of the camera" in notes
    assert values["bundle"] == bundle.digest
    assert (values["trained_at"], values["engine"], values["precision"]) == (
        "2026-11-22T00:00:00Z",
        "fake-fp32",
        "fp32",
    )
    assert values["thresholds"] == {"line/picture": {"value": 0.15, "source": "from the settings of the camera"}}
    assert values["forgotten"] == []


def test_a_new_bundle_says_what_it_does_not_take_over(tmp_path: Path) -> None:
    """The int8 engine of the old bundle and a threshold set on the page are named, in the terminal and to the sinks."""
    old = make_bundle(tmp_path)
    start(tmp_path, old, Int8Runner((32, 32)))
    kept = dataclasses.asdict(KeptThreshold("line", "picture", 0.19, "Ada"))
    (tmp_path / "alerts" / FILE).write_text(
        json.dumps({"bundle": old.digest, "engine": "onnxruntime-int8", "thresholds": [kept]})
    )
    notes, _ = start(tmp_path, old, Int8Runner((32, 32)))
    assert "Threshold of line, picture: 0.19, set by Ada on the dashboard" in notes
    new = make_bundle(tmp_path)
    new.digest = "f" * 64
    notes, values = start(tmp_path, new, ReferenceRunner((32, 32)))
    (engine,) = [text for text in notes if "engine onnxruntime-int8, and this one runs reference" in text]
    assert f"ran bundle {old.digest[:12]} (trained 2026-11-22T00:00:00Z)" in engine
    assert engine.endswith(f"edgead build-engine {new.path} --int8")
    (threshold,) = [text for text in notes if "that Ada set on the dashboard is not used" in text]
    assert values["forgotten"] == [engine, threshold]
    notes, values = start(tmp_path, new, ReferenceRunner((32, 32)))
    assert values["forgotten"] == []


def test_the_last_start_is_remembered(tmp_path: Path) -> None:
    """A damaged or missing file is unknown, and a folder that takes nothing is no error."""
    judge = Judge("b" * 64, "2026", "onnxruntime-int8")
    assert last_start(tmp_path) is None
    note_start(tmp_path, judge)
    assert last_start(tmp_path) == judge
    assert judge.precision == "int8"
    (tmp_path / ".last-start").write_text("[]")
    assert last_start(tmp_path) is None
    note_start(tmp_path / ".last-start", judge)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (ThresholdChoice("threshold", None, "bundle"), "from the bundle (1 % of good images above it, certified by 99"),
        (ThresholdChoice("threshold", 1.0, "zone"), "from the settings of the zone"),
        (ThresholdChoice("false_alarm_rate", 0.002, "line"), "from the settings of the line or the command line: rate 0.002 ("),
        (ThresholdChoice("false_alarms_per_hour", 3.0, "camera"), "from the settings of the camera: 3 false alarms per hour ("),
    ],
)  # fmt: skip
def test_sources_of_thresholds(choice: ThresholdChoice, text: str) -> None:
    """Each kind of setting has its words."""
    assert threshold_source(choice, watch(), None).startswith(text)
