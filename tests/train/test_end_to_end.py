"""From images to a bundle through `edgead train`'s function, for the settings that the defaults do not use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.commands.train import train
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.engines.opening import open_engine
from edgead.engines.parity import compare_to_reference
from edgead.models.zoo import load_model, read_weights
from edgead.progress import Silent

from ..tiny import BACKBONE, SIDE, write_parts_and_weights


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with thirty good parts and weights of a small backbone."""
    return write_parts_and_weights(tmp_path_factory.mktemp("end-to-end"), n_train=30)


def settings(place: Path, **overrides: object) -> Config:
    values: dict[str, object] = {
        "data.root": str(place / "data"),
        "model.backbone": BACKBONE,
        "model.weights": str(place / "w.safetensors"),
        "model.image_size": SIDE,
        "model.levels": ["8:8+16:4"],
        "train.epochs": 2,
        "train.device": "cpu",
        "train.ridge": 0.1,
    }
    values.update({name.replace("__", "."): value for name, value in overrides.items()})
    return load_config(None, values)


@pytest.mark.parametrize(
    "overrides",
    [
        {"model__mix": "lu"},
        {"model__name": "fastflow", "model__level_weights": [1.0]},
        {"model__coupling": "affine", "model__mix": "lu", "model__positions": False},
        {"model__levels": ["8:6", "16:8"], "model__level_weights": [1.0, 2.0], "model__blocks": 0},
    ],
    ids=["uniform-lu", "fastflow", "affine-lu", "two-levels-no-blocks"],
)
def test_every_kind_of_model_becomes_a_bundle(overrides: dict[str, object], place: Path, tmp_path: Path) -> None:
    """Training ends in a bundle whose graph reproduces its reference, and whose weights load as the same model."""
    result = train(settings(place, **overrides), Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    with open_engine(result.bundle, "reference", threads=1) as runner:
        comparison = compare_to_reference(result.bundle, runner)
    assert comparison.max_relative_difference < 1e-4
    model = load_model(result.bundle)
    reference = result.bundle.reference()
    with torch.no_grad():
        maps, _ = model(torch.from_numpy(reference["images"]))
    np.testing.assert_allclose(maps.numpy(), reference["anomaly_map"], rtol=1e-2, atol=1e-3)


def test_features_on_disk_train_the_same_model(place: Path, tmp_path: Path) -> None:
    """Without memory for the features the run gives the same weights, and takes its cache away at the end."""
    weights = []
    for limit in (0, 1000):
        config = settings(place, train__cache_memory_mb=limit)
        result = train(config, Silent(), out=tmp_path / f"run{limit}", runs=tmp_path, resume=False)
        weights.append(read_weights(result.bundle.weights_path, result.bundle.model_path))
        assert not (result.run / "cache").exists()
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_a_run_killed_at_any_stage_ends_as_the_undisturbed_one(place: Path, tmp_path: Path) -> None:
    """Killed while reading, caching, fitting, training or exporting, `train --resume` ends with the same weights."""
    words = [
        "train", "--data", place / "data", "--backbone", BACKBONE, "--weights", place / "w.safetensors",
        "--image-size", SIDE, "--epochs", 8, "--device", "cpu", "--set", "model.levels=['8:8+16:4']",
        "--set", "train.ridge=0.1", "--set", "train.cache_memory_mb=0",
    ]  # fmt: skip

    def start(run: Path) -> subprocess.Popen[bytes]:
        resume = ["--resume"] if (run / "run.json").exists() else []
        command = [sys.executable, "-m", "edgead", *map(str, words), "--out", str(run), *resume]
        return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def epochs(run: Path) -> int:
        try:
            return len(json.loads((run / "history.json").read_text())["fit_loss"])
        except (OSError, ValueError):
            return 0

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait(300) == 0
    stages: list[Callable[[], bool]] = [
        lambda: (killed / "run.json").exists(),
        lambda: any(killed.glob("cache/*/*")),
        lambda: (killed / "checkpoint.safetensors").exists(),
        lambda: epochs(killed) > 4,
        lambda: any(killed.glob(".export.*")),
    ]
    kills = 0
    for reached in stages:
        process = start(killed)
        deadline = time.monotonic() + 300
        while process.poll() is None and not reached() and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        kills += process.wait(60) == -signal.SIGKILL
        if (killed / "bundle").exists():
            break
    assert kills >= 4, "the run ended before it could be killed"
    if not (killed / "bundle").exists():
        assert start(killed).wait(300) == 0
    first, second = (
        read_weights(run / "bundle" / "weights.safetensors", run / "bundle" / "model.onnx") for run in (whole, killed)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
