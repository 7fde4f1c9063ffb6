"""A model of each class: trained, skipped, resumed, tried again, interrupted."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgead.bundle import open_bundle
from edgead.cli import app
from edgead.commands.train import train
from edgead.commands.train_each import EachPlan, plan_each, train_each
from edgead.commands.training.class_training import LOG, RECORD
from edgead.commands.training.runs import BUNDLE, RUN_FILE
from edgead.errors import ConfigError, MissingDependencyError
from edgead.progress import Silent
from tests.commands.plant import SETTINGS, command, holders, start, write_plant
from tests.notes import Notes


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two products, and one of three images; do not change its files."""
    root = write_plant(tmp_path_factory.mktemp("plant") / "parts", ("disc", "cap"))
    write_plant(root, ("cover",), n_train=3)
    return root


def planned(root: Path, out: Path, jobs: int | None = 2, launcher: str = "local", **changes: Any) -> EachPlan:
    settings = {**SETTINGS, "data.root": str(root), **{key.replace("__", "."): value for key, value in changes.items()}}
    return plan_each(None, settings, Silent(), out=out, jobs=jobs, launcher=launcher)


def test_a_plan_says_what_is_to_be_done(plant: Path, tmp_path: Path) -> None:
    """Classes by name with their images, and how many train at a time; nothing is written."""
    plan = planned(plant, tmp_path / "out")
    facts = dict(plan.facts())
    assert facts["classes"] == "3: 3 new"
    assert facts["trainings"].startswith("2 at a time on cpu")
    content = plan.to_json()
    assert [one["class"] for one in content["classes"]] == ["cap", "cover", "disc"]
    assert content["memory_mb"] > 800
    assert [one.name for one in plan.open_classes][-1] == "cover", "the smallest is the last one"
    assert plan.again.startswith(
        f"edgead train {plant} --each-class --out {tmp_path / 'out'} --jobs 2 --image-size 64 "
    )
    assert not (tmp_path / "out").exists()


def test_an_unknown_launcher_and_several_processes_are_refused(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And Ray, where it is not installed, with the command that installs it."""
    with pytest.raises(ConfigError, match="'slurm'"):
        planned(plant, tmp_path, launcher="slurm")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError) as caught:
        planned(plant, tmp_path, launcher="ray")
    assert "pip install 'edgead[ray]'" in caught.value.hint
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        planned(plant, tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "2"], "belong to --each-class"),
        (["--json"], "belong to --each-class"),
        (["--launcher", "ray"], "belong to --each-class"),
        (["--each-class", "--from-dataset", "d"], "--from-dataset"),
    ],
)
def test_options_without_each_other_are_refused(words: list[str], said: str) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigError, match=said):
        app(["train", *words], standalone_mode=False)


def test_a_dry_run_prints_the_plan(plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan is printed as a table, or as JSON."""
    words = command(plant, tmp_path / "out", "--dry-run")[3:]
    app(words, standalone_mode=False)
    said = capsys.readouterr().out
    assert "3: 3 new" in said
    assert "cover" in said
    app([*words, "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["jobs"] == 2


@pytest.mark.slow
def test_classes_are_trained_skipped_and_tried_again(plant: Path, tmp_path: Path) -> None:
    """Each has the bundle of a training alone; a class of three images fails alone, and is the only one of the next call."""
    out, notes = tmp_path / "out", Notes()
    first = train_each(planned(plant, out), notes)
    found = {one.name: one for one in first.results}
    assert {name: one.status for name, one in found.items()} == {"cap": "trained", "disc": "trained", "cover": "failed"}
    assert "3 readable good images" in found["cover"].error
    assert [one.name for one in first.failed] == ["cover"]
    alone = train(planned(plant, out).classes[-1].config, Silent(), out=tmp_path / "alone", runs=tmp_path, resume=False)
    bundle = open_bundle(out / "disc" / BUNDLE)
    assert bundle.manifest.thresholds == alone.bundle.manifest.thresholds
    assert bundle.manifest.classes == ("disc",)
    assert found["disc"].verdict == json.loads((out / "disc" / RECORD).read_text())["verdict"] is not None
    assert "Verdict: " in (out / "disc" / LOG).read_text()
    assert "error: " in (out / "cover" / LOG).read_text()
    assert any(text.startswith("cover: failed: ") for text in notes.texts)

    written = (out / "disc" / BUNDLE / "bundle.json").stat().st_mtime_ns
    write_plant(tmp_path / "more", ("cover",))
    plan = planned(plant, out)
    assert [one.name for one in plan.open_classes] == ["cover"]
    second = train_each(plan, Silent())
    assert {one.name: one.status for one in second.results} == {
        "cap": "finished", "disc": "finished", "cover": "failed"
    }  # fmt: skip
    assert (out / "disc" / BUNDLE / "bundle.json").stat().st_mtime_ns == written
    assert second.results[-1].verdict == found["disc"].verdict
    assert second.results[-1].seconds == found["disc"].seconds


class Interrupting(Silent):
    """Interrupts a training of three epochs after the second one, as a kill does."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Raise."""
        if task == "Training" and done > total * 2 // 3:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_class_is_resumed(plant: Path, tmp_path: Path) -> None:
    """It continues where it was, and ends with the thresholds of an uninterrupted training."""
    out = tmp_path / "out"
    one = planned(plant, out, train__epochs=3).classes[-1]
    with pytest.raises(KeyboardInterrupt):
        train(one.config, Interrupting(), out=one.run, runs=out, resume=False)
    assert one.state == "unfinished"
    result = train_each(planned(plant, out, train__epochs=3), Silent())
    assert result.results[-1].status == "trained"
    assert "The interrupted run continues." in (out / "disc" / LOG).read_text()
    whole = train(one.config, Silent(), out=tmp_path / "whole", runs=tmp_path, resume=False)
    assert open_bundle(out / "disc" / BUNDLE).manifest.thresholds == whole.bundle.manifest.thresholds


@pytest.mark.slow
def test_the_command_prints_a_table_and_what_failed(plant: Path, tmp_path: Path) -> None:
    """Exit status 1, the error of the failed class, and the command that tries it again; with --json one object."""
    process = start(command(plant, tmp_path / "out"), tmp_path)
    said, errors = process.communicate(timeout=900)
    assert process.returncode == 1, errors
    assert "disc" in said
    assert "trained" in said
    assert "cover failed: Class cover has 3 readable good images" in errors
    assert f"Try the failed ones again: edgead train {plant} --each-class --out {tmp_path / 'out'} --jobs 2" in errors
    process = start(command(plant, tmp_path / "out", "--json"), tmp_path)
    said, errors = process.communicate(timeout=900)
    assert process.returncode == 1, errors
    content = json.loads(said)
    assert content["n_failed"] == 1
    assert [one["status"] for one in content["classes"]] == ["finished", "failed", "finished"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("whole_group", [False, True])
def test_an_interrupt_ends_the_trainings(whole_group: bool, plant: Path, tmp_path: Path) -> None:
    """A signal to the command, or to all its processes as Ctrl+C sends it, leaves no process, exit status 130 and runs to resume."""
    out = tmp_path / "out"
    process = start(command(plant, out, train__epochs=5000), tmp_path)
    try:
        until = time.monotonic() + 900
        while len(list(out.glob("*/checkpoint.safetensors"))) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        workers = [pid for name in ("disc", "cap") for pid in holders(out / name / LOG)]
        assert len(workers) == 2
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Interrupted; 0 of 3 classes are finished. Continue: edgead train" in errors
    assert not [pid for name in ("disc", "cap") for pid in holders(out / name / LOG)]
    assert (out / "disc" / RUN_FILE).is_file()
