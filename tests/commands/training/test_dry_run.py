"""A dry run says what a training does, and needs neither weights nor memory nor data."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.commands.train import TrainResult, train
from edgead.commands.training.dry_run import DryRun, dry_run
from edgead.commands.training.needs import training_needs
from edgead.config.root import Config
from edgead.errors import ConfigError, DataError, StorageError
from edgead.models.zoo import load_model
from edgead.progress import Silent
from tests.tiny_run import tiny_config

FULL = Path("/proc")  # a file system without any free space
needs_full_disk = pytest.mark.skipif(not FULL.is_dir(), reason="no file system that is full for sure")


class Steps(Silent):
    """Remembers notes, and how many steps of training there were."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        self.steps = total if task == "Training" else self.steps


def plan(config: Config, folder: Path) -> DryRun:
    return dry_run(config, Silent(), out=None, runs=folder)


def test_it_says_what_the_training_does(tiny_data: Path, tiny_result: TrainResult, tmp_path: Path) -> None:
    """Parameters and feature maps are those of the trained model, the parts of the images those of its bundle."""
    planned = plan(tiny_config(tiny_data), tmp_path)
    model = load_model(tiny_result.bundle)
    assert planned.n_learned == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert planned.n_parameters == sum(p.numel() for p in model.parameters())
    assert planned.features == {k: (model.backbone.channels[k], *model.backbone.sizes[k]) for k in ("16", "32")}
    images = tiny_result.bundle.manifest.provenance.n_images
    facts = dict(planned.facts)
    assert facts["images"].startswith(f"{images['fit']} to learn from, {images['early_stop']} to stop by")
    assert f"{images['threshold']} for the threshold" in facts["images"]
    assert facts["classes"] == "disc"
    assert not list(tmp_path.iterdir()), "nothing is written"
    planned.check()


@pytest.mark.parametrize("fibers", [0, 50])
def test_steps_are_those_of_the_training(tiny_data: Path, tmp_path: Path, fibers: int) -> None:
    """The number of steps is the one that training counts to, with whole maps and with single vectors."""
    kernels = [[1, 1]]
    config = tiny_config(tiny_data, train__epochs=1, train__batch_size=7, train__fibers=fibers, model__kernels=kernels)
    progress = Steps()
    train(config, progress, out=tmp_path / "run", runs=tmp_path, resume=False)
    assert progress.steps > 1
    assert dict(plan(config, tmp_path).facts)["steps"].startswith(f"{progress.steps} per epoch")


def test_training_says_its_needs_before_the_work(tiny_data: Path, tmp_path: Path) -> None:
    """The sentence of the dry run is among the notes of the training, in front of the first step."""
    config, progress = tiny_config(tiny_data, train__epochs=0), Steps()
    train(config, progress, out=tmp_path / "run", runs=tmp_path, resume=False)
    planned = plan(config, tmp_path).needs
    assert planned is not None
    (note,) = [note for note in progress.notes if "Training needs" in note]
    assert note.endswith(planned.describe())


def test_without_data_the_model_is_described(tmp_path: Path) -> None:
    """No data folder is no error: sizes are per image, and the disk is not checked."""
    planned = plan(tiny_config(tmp_path / "nowhere", train__cache_dir=str(FULL / "x")), tmp_path)
    assert planned.needs is None
    facts = dict(planned.facts)
    assert "no folder" in facts["images"]
    assert facts["needs"].startswith("Each image takes 0.02 MB for its features")  # 112x8x8 + 320x4x4, 2 bytes each
    planned.check()


def test_data_that_do_not_suffice_are_an_error(tmp_path: Path) -> None:
    """A folder that is there is looked at: an empty one is the error of `train`."""
    with pytest.raises(DataError, match="empty"):
        plan(tiny_config(tmp_path), tmp_path)


def test_the_device_must_be_there(tmp_path: Path) -> None:
    """A device that this machine has not is said now rather than by the training."""
    with pytest.raises(ConfigError, match=r"train\.device"):
        plan(tiny_config(tmp_path / "nowhere", train__device="cuda:97"), tmp_path)


@needs_full_disk
def test_a_full_disk_is_an_error(tiny_data: Path, tmp_path: Path) -> None:
    """A shared cache without room is refused by the dry run, and by training before any feature is computed."""
    config = tiny_config(tiny_data, train__cache_dir=str(FULL / "cache"))
    with pytest.raises(StorageError, match="Training needs"):
        plan(config, tmp_path).check()
    with pytest.raises(StorageError, match="Training needs"):
        train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)


def test_needs_follow_the_settings(tiny_data: Path, tiny_result: TrainResult) -> None:
    """Position starts, a shared cache and other processes change what is needed, in their own way."""
    model = load_model(tiny_result.bundle)
    one = training_needs(tiny_config(tiny_data), model, 1000)
    assert (one.features_disk_mb, one.whitened_disk_mb) == (0, 0)
    shared = training_needs(tiny_config(tiny_data, train__cache_dir="c"), model, 1000)
    assert (shared.features_disk_mb, shared.whitened_disk_mb) == (one.features_memory_mb, 0)
    several = training_needs(tiny_config(tiny_data), model, 1000, processes=2)
    assert (several.features_disk_mb, several.whitened_disk_mb) == (one.features_memory_mb, one.whitened_memory_mb)
    assert several.memory_mb < one.memory_mb


def test_a_closed_form_is_planned_as_one(tiny_data: Path, tmp_path: Path) -> None:
    """All images are fitted, nothing is trained in steps, and the sizes to try are named."""
    config = tiny_config(tiny_data, model__couplings="never", train__larger_sizes=[160])
    facts = dict(plan(config, tmp_path).facts)
    assert facts["images"].startswith("40 to fit, each left out in turn")
    assert facts["steps"] == "none: a closed form"
    assert facts["sizes"].startswith("128 px")
    assert facts["parameters"].startswith("64 trainable")


def test_backbones_to_try_are_named(tiny_data: Path, tmp_path: Path) -> None:
    """One without weights is a problem of the plan, as of the training."""
    named = tiny_config(tiny_data, model__couplings="never", train__backbones=["tf_efficientnet_lite1"])
    assert dict(plan(named, tmp_path).facts)["also tried"] == "tf_efficientnet_lite1"
    missing = tiny_config(tiny_data, model__couplings="never", train__backbones=["resnet18.a1_in1k"])
    problem = plan(missing, tmp_path).weights
    assert problem is not None
    assert "resnet18" in str(problem)
