"""Which folders are classes, with which settings, how far each is, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgead.commands.train import TrainResult
from edgead.commands.training.class_folders import ClassFolder, class_folders, default_out, read_classes, refuse_several
from edgead.commands.training.class_training import finished_class
from edgead.commands.training.runs import BUNDLE, RUN_FILE
from edgead.errors import ConfigError, DataError
from edgead.progress import Silent
from tests.tiny_run import SIDE, tiny_config

TINY: dict[str, Any] = {
    "model.image_size": SIDE, "model.levels": ["16:24+32:8"], "train.epochs": 2, "train.device": "cpu",
    "train.pseudo_defects": 4, "train.variation": 0.0, "model.couplings": "always",
}  # fmt: skip


@pytest.fixture
def plant(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder with the classes `disc` and `ring`, of the same images; the tests run beside it."""
    for name in ("disc", "ring"):
        shutil.copytree(tiny_data, tmp_path / "parts" / name)
    return tmp_path / "parts"


def read(root: Path, out: Path, **settings: Any) -> dict[str, ClassFolder]:
    overrides = {**TINY, "data.root": str(root), **{key.replace("__", "."): value for key, value in settings.items()}}
    return {one.name: one for one in read_classes(None, overrides, out, Silent())}


def test_each_folder_is_a_class_but_for_masks_tables_and_hidden_ones(tmp_path: Path) -> None:
    """Names that only say what a mask is are left out, unless they may be products."""
    for name in ("bottle", "7", "label", "masks", "split_csv", "realiad_jsons", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "readme.txt").touch()
    assert [path.name for path in class_folders(tmp_path)] == ["7", "bottle", "label"]


@pytest.mark.parametrize("names", [("train", "test"), ("good", "scratch"), ("bottle", "NG")])
def test_one_data_set_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    """Folders that say good, defective or test are parts of one class."""
    for name in names:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="is one data set"):
        class_folders(tmp_path)


def test_a_folder_without_folders_is_refused(tmp_path: Path) -> None:
    """And so is one that is missing."""
    with pytest.raises(DataError, match="no folders"):
        class_folders(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        class_folders(tmp_path / "nowhere")


def test_a_class_that_holds_classes_is_refused(plant: Path) -> None:
    """One model of several products is not what was asked for."""
    with pytest.raises(DataError, match=r"2 classes \(disc, ring\)") as caught:
        refuse_several(tiny_config(plant))
    assert f"edgead train {plant} --each-class" in caught.value.hint
    refuse_several(tiny_config(plant / "disc"))


def test_each_class_has_its_folder_its_run_and_the_settings_of_all(plant: Path, tmp_path: Path) -> None:
    """Only the folder differs."""
    found = read(plant, tmp_path / "runs")
    assert list(found) == ["disc", "ring"]
    assert found["ring"].config.data.root == plant / "ring"
    assert found["ring"].run == tmp_path / "runs" / "ring"
    assert found["ring"].config.train == found["disc"].config.train == tiny_config(plant).train
    assert found["ring"].n_images == found["disc"].n_images > 40
    assert {one.state for one in found.values()} == {"new"}
    assert default_out(plant) == Path("runs/parts")


def test_excluded_images_are_those_of_their_class(plant: Path, tmp_path: Path) -> None:
    """A pattern begins with its class, or with one for several classes."""
    found = read(plant, tmp_path, data__exclude=["disc/train/good/000.png", "*/train/good/001.png"])
    assert found["disc"].config.data.exclude == ("train/good/000.png", "train/good/001.png")
    assert found["ring"].config.data.exclude == ("train/good/001.png",)
    for pattern in ("cap/train/good/000.png", "000.png"):
        with pytest.raises(ConfigError, match="names no class"):
            read(plant, tmp_path, data__exclude=[pattern])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data__good": ["a"]}, "data.good"),
        ({"data__masks": ["a"]}, "data.masks"),
        ({"train__add_to": "bundle", "model__name": "hgad"}, "--add-to"),
        ({"model__name": "hgad"}, "--model hgad"),
    ],
)
def test_what_is_about_one_class_is_refused(settings: dict[str, Any], said: str, plant: Path, tmp_path: Path) -> None:
    """With the option."""
    kept = {key: value for key, value in TINY.items() if "hgad" not in settings.values() or key.startswith("train.dev")}
    overrides = {**kept, "data.root": str(plant), **{key.replace("__", "."): value for key, value in settings.items()}}
    with pytest.raises(ConfigError, match=said):
        read_classes(None, overrides, tmp_path / "runs", Silent())


def test_runs_do_not_lie_among_the_classes(plant: Path, tmp_path: Path) -> None:
    """The next call would take them for one; nor may a class have the name of the link to the newest run."""
    with pytest.raises(ConfigError, match="lies in the folder of the classes"):
        read(plant, plant / "models")
    (plant / "latest").mkdir()
    with pytest.raises(ConfigError, match="cannot be a class"):
        read(plant, tmp_path / "runs")


@pytest.fixture
def finished(plant: Path, tiny_result: TrainResult, tmp_path: Path) -> Path:
    """Folder of the runs, in which that of `disc` is finished."""
    shutil.copytree(tiny_result.run, tmp_path / "runs" / "disc")
    return tmp_path / "runs"


def test_states_are_told_by_the_files_of_a_run(plant: Path, finished: Path) -> None:
    """A bundle is finished, a record without one is not, and anything else is new."""
    assert {name: one.state for name, one in read(plant, finished).items()} == {"disc": "finished", "ring": "new"}
    shutil.rmtree(finished / "disc" / BUNDLE)
    assert read(plant, finished)["disc"].state == "unfinished"
    (finished / "disc" / RUN_FILE).unlink()
    assert read(plant, finished)["disc"].state == "new"


def test_a_run_with_other_settings_is_named(plant: Path, finished: Path) -> None:
    """Skipping it would leave a model of other settings among the new ones."""
    with pytest.raises(ConfigError, match=r"other settings: train\.epochs is 2, not 3") as caught:
        read(plant, finished, train__epochs=3)
    assert str(finished / "disc") in caught.value.message


def test_images_that_changed_after_the_training_are_noticed(plant: Path, finished: Path) -> None:
    """A changed file does, and so does a new one with an old time, which changes the time of its folder."""
    one = read(plant, finished)["disc"]
    written = (one.run / BUNDLE).stat().st_mtime
    folders = [plant / "disc", *(path for path in (plant / "disc").rglob("*"))]
    for path in folders:
        os.utime(path, (written - 100, written - 100))
    assert not one.has_newer_images()
    added = plant / "disc" / "train" / "good" / "added.png"
    added.write_bytes(b"")
    os.utime(added, (written - 100, written - 100))
    os.utime(added.parent, (written + 100, written + 100))
    assert one.has_newer_images()


def test_a_finished_class_says_what_it_promises(plant: Path, finished: Path, tiny_result: TrainResult) -> None:
    """Rate and bundle come from the run; a bundle that does not verify is a failure with advice."""
    one = read(plant, finished)["disc"]
    found = finished_class(one)
    assert found.status == "finished"
    assert found.false_alarm_rate == tiny_result.bundle.thresholds().threshold.false_alarm_rate
    assert found.to_json()["bundle"] == str(finished / "disc" / BUNDLE)
    next((one.run / BUNDLE).glob("*.npz")).unlink()
    damaged = finished_class(one)
    assert damaged.status == "failed"
    assert damaged.bundle is None
    assert str(one.run) in damaged.hint
