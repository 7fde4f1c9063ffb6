"""One tiny trained run, shared by the tests of all commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.bundle import Bundle, open_bundle
from edgead.progress import Silent
from edgead.commands.train import TrainResult, train
from edgead.config.root import Config
from edgead.config.file import load_config
from edgead.data.synthetic.make import write_dataset

SIDE = 128


def tiny_config(data: Path, **overrides: object) -> Config:
    """Settings that train in seconds."""
    values: dict[str, object] = {
        "data.root": str(data),
        "model.image_size": SIDE,
        "model.levels": ["16:24+32:8"],
        "train.epochs": 2,
        "train.device": "cpu",
        "train.pseudo_defects": 4,
        "model.couplings": "always",
    }
    values.update({name.replace("__", "."): value for name, value in overrides.items()})
    return load_config(None, values)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty good parts and a test set."""
    root = tmp_path_factory.mktemp("tiny") / "disc"
    write_dataset(root, "disc", n_train=40, n_test_good=5, n_test_per_defect=2, seed=1, size=(SIDE, SIDE))
    return root


@pytest.fixture(scope="session")
def tiny_result(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A run trained on them; do not change its files."""
    runs = tmp_path_factory.mktemp("runs")
    return train(tiny_config(tiny_data), Silent(), out=None, runs=runs, resume=False)


@pytest.fixture
def bundle_copy(tiny_result: TrainResult, tmp_path: Path) -> Callable[[], Bundle]:
    """Makes a copy of the bundle that a test may change."""

    def copy() -> Bundle:
        target = tmp_path / "bundle"
        shutil.copytree(tiny_result.bundle.path, target)
        return open_bundle(target)

    return copy
