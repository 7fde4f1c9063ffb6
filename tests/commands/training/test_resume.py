"""A resumed run keeps its own settings, names what differs, and belongs to one process at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgead import train_bundle
from edgead.commands.train import TrainResult, train
from edgead.commands.training.resume import resumed_config
from edgead.commands.training.runs import RUN_FILE, locked_run
from edgead.config.root import Config
from edgead.errors import ConfigError, StorageError
from edgead.progress import Silent
from tests.notes import Notes
from tests.tiny_run import tiny_config


@pytest.fixture
def run(tiny_result: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run, in a folder without settings."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_result.run, tmp_path / "run")
    return tmp_path / "run"


def resumed(run: Path, file: Path | None = None, notes: Notes | None = None, **overrides: object) -> Config:
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return resumed_config(file, dotted, notes or Silent(), out=run, runs=run.parent)


def test_without_options_the_settings_are_the_runs(run: Path, tiny_data: Path) -> None:
    """Nothing has to be repeated: image size, levels and epochs come from the record."""
    config, before = resumed(run), tiny_config(tiny_data)
    assert (config.data, config.model, config.train) == (before.data, before.model, before.train)


def test_the_same_settings_may_be_repeated(run: Path, tiny_data: Path) -> None:
    """Options with the run's own values change nothing."""
    assert resumed(run, train__epochs=2, model__levels=["16:24+32:8"]) == resumed(run)


def test_device_and_place_of_the_data_may_change(run: Path) -> None:
    """A run continues on another device, and with its images elsewhere."""
    config = resumed(run, data__root="elsewhere", train__device="cuda:3")
    assert (config.data.root, config.train.device) == (Path("elsewhere"), "cuda:3")


def test_settings_that_differ_are_named_with_both_values(run: Path) -> None:
    """The error names each setting that was asked for otherwise, by option or file, and no other."""
    (run.parent / "mine.yaml").write_text("train:\n  learning_rate: 0.01\n  epochs: 2\n")
    with pytest.raises(ConfigError, match="other settings") as caught:
        resumed(run, run.parent / "mine.yaml", model__blocks=3)
    assert "train.learning_rate is 0.002, not 0.01" in caught.value.message
    assert "model.blocks is 2, not 3" in caught.value.message
    assert "epochs" not in caught.value.message


def test_another_detector_is_named_as_such(run: Path) -> None:
    """A detector that does not even go with the run's other settings is one difference, not a list of errors."""
    with pytest.raises(ConfigError, match=r"model\.name is 'usf', not 'vae-usf'\."):
        resumed(run, model__name="vae-usf")


def test_the_file_of_the_folder_does_not_stop_a_run(run: Path) -> None:
    """`edgead.yaml` is read by every command: where it differs from the run, a note says that it does not apply."""
    (run.parent / "edgead.yaml").write_text("train:\n  epochs: 9\n  device: cuda:1\nstream:\n  folder_fps: 3\n")
    notes = Notes()
    config = resumed(run, notes=notes)
    assert (config.train.epochs, config.train.device) == (2, "cuda:1")
    (note,) = notes.texts
    assert note.endswith("train.epochs is 2, not 9.")


@pytest.mark.slow
def test_a_run_of_an_older_version_resumes(run: Path, tiny_data: Path) -> None:
    """A setting that the record does not have yet has its default, which means as before."""
    record = json.loads((run / RUN_FILE).read_text())
    for part in ("config", "settings"):
        record[part]["train"].pop("held_out_images")
        record[part]["data"]["calibration_fraction"] = record[part]["data"].pop("threshold_fraction")
    record.pop("images")
    (run / RUN_FILE).write_text(json.dumps(record))
    assert resumed(run) == tiny_config(tiny_data)
    assert train_bundle(out=run, runs=run.parent, resume=True).state.epoch == 2


def test_a_folder_without_a_record_is_no_run(tmp_path: Path) -> None:
    """A misspelt folder is refused, and not made."""
    with pytest.raises(ConfigError, match=r"run\.json is missing or damaged") as caught:
        resumed(tmp_path / "typo")
    assert "start a new run" in caught.value.hint
    with pytest.raises(ConfigError, match=r"run\.json is missing or damaged"):
        train(tiny_config(tmp_path), Silent(), out=tmp_path / "typo", runs=tmp_path, resume=True)
    assert not (tmp_path / "typo").exists()


def test_other_images_are_named(run: Path, tiny_data: Path) -> None:
    """Images that were added, removed or changed since the start are counted and named."""
    shutil.copytree(tiny_data / "train" / "good", "part")
    record = json.loads((run / RUN_FILE).read_text())
    record["images"] = {Path(name).name: digest for name, digest in record["images"].items()}
    (run / RUN_FILE).write_text(json.dumps(record))
    Path("part/000.png").rename("part/new.png")
    Path("part/001.png").write_bytes(Path("part/001.png").read_bytes() + b"\0")
    with pytest.raises(ConfigError, match="other images") as caught:
        train_bundle("part", out=run, runs=run.parent, resume=True)
    assert "1 added, such as new.png; 1 removed, such as 000.png; 1 changed, such as 001.png" in caught.value.message


def test_one_process_at_a_time_trains_in_a_run(run: Path) -> None:
    """While a process has a run, another one that resumes it is refused before it reads an image or removes a file."""
    unfinished = run / ".checkpoint.01234567.tmp.safetensors"
    unfinished.touch()
    shutil.rmtree(run / "bundle")
    with locked_run(run):
        for out in (run, None):
            with pytest.raises(StorageError, match=r"trains in .*run"):
                train_bundle(data="nowhere", out=out, runs=run.parent, resume=True)
    assert unfinished.exists()


def test_resuming_removes_what_a_kill_left(run: Path) -> None:
    """Temporary files and folders of a killed process go; files of others stay."""
    left = [run / ".checkpoint.01234567.tmp.safetensors", run / ".run.89abcdef.tmp", run / ".export.01234567.tmp"]
    for path in left[:2]:
        path.touch()
    left[2].mkdir()
    (run / "notes.tmp").touch()
    train_bundle(out=run, runs=run.parent, resume=True)
    assert not [path for path in left if path.exists()]
    assert (run / "notes.tmp").exists()
    assert not list(run.glob(".*"))
