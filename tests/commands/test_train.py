"""Training from the command's point of view: what it writes, what it refuses, what survives a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import open_bundle
from edgead.commands.train import TrainResult, train
from edgead.commands.training.runs import BUNDLE, CHECKPOINT, LATEST, RUN_FILE, unfinished_run
from edgead.commands.training.trained_flow import CURVE, CURVE_TABLE
from edgead.errors import ConfigError, DataError
from edgead.manifest import POOLED
from edgead.models.zoo import read_weights
from edgead.progress import Silent
from tests.notes import Notes
from tests.tiny_run import tiny_config


def test_run_folder_holds_everything(tiny_result: TrainResult) -> None:
    """A finished run has its settings, checkpoint, history, curve and a bundle that verifies, and `latest` names it."""
    run = tiny_result.run
    assert {RUN_FILE, CHECKPOINT, CURVE, CURVE_TABLE, "history.json", BUNDLE} == {path.name for path in run.iterdir()}
    assert (run.parent / LATEST).resolve() == run.resolve()
    assert cv2.imread(str(run / CURVE)) is not None
    history = json.loads((run / "history.json").read_text())
    assert len(history["held_out_loss"]) == tiny_result.state.epoch + 1
    rows = [line.split(",") for line in (run / CURVE_TABLE).read_text().splitlines()]
    assert rows[0] == ["epoch", "fit_loss", "held_out_loss"]
    assert [float(row[2]) for row in rows[1:]] == history["held_out_loss"]
    record = json.loads((run / RUN_FILE).read_text())
    assert record["config"]["train"]["epochs"] == 2
    assert record["versions"]["torch"]


def test_bundle_says_where_it_comes_from(tiny_result: TrainResult) -> None:
    """Split sizes add up, the scores kept are those of the threshold images, parity and costs are recorded."""
    manifest = open_bundle(tiny_result.bundle.path).manifest
    images = manifest.provenance.n_images
    assert images["fit"] + images["early_stop"] + images["threshold"] == 40
    assert len(manifest.thresholds[POOLED].scores) == images["threshold"]
    assert manifest.parity.folded_vs_unfolded <= 1e-4
    assert manifest.parity.onnx_vs_unfolded <= 1e-4
    assert manifest.cost.flow_multiply_adds_folded < manifest.cost.flow_multiply_adds_unfolded
    assert manifest.cost.multiply_adds > manifest.cost.flow_multiply_adds_folded


def test_training_improves_the_held_out_likelihood(tiny_result: TrainResult) -> None:
    """The kept epoch is the one with the smallest held-out NLL, and not worse than the closed-form start."""
    state = tiny_result.state
    assert state.kept_loss == min(state.held_out_loss)
    assert np.isfinite(state.held_out_loss).all()


def test_couplings_that_do_not_help_are_dropped(tiny_data: Path, tmp_path: Path) -> None:
    """Untrained couplings change nothing, so `auto` leaves them out of the bundle, and the bundle loads without them."""
    from edgead.models.zoo import load_model

    config = tiny_config(tiny_data, model__couplings="auto", train__epochs=0)
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert result.pseudo_auroc[0] == result.pseudo_auroc[1]
    assert not result.couplings_kept
    assert not any("latent" in name for name in result.bundle.manifest.provenance.metrics)
    assert result.bundle.manifest.provenance.config["model"]["blocks"] == 0
    assert sum(parameter.requires_grad for parameter in load_model(result.bundle).parameters()) == 2


def test_same_seed_gives_the_same_bundle(tiny_data: Path, tiny_result: TrainResult, tmp_path: Path) -> None:
    """Training again with the same seed gives the same weights to the bit and the same thresholds."""
    again = train(tiny_config(tiny_data), Silent(), out=tmp_path / "again", runs=tmp_path, resume=False)
    first, second = (
        read_weights(result.bundle.weights_path, result.bundle.model_path) for result in (tiny_result, again)
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert again.bundle.manifest.thresholds == tiny_result.bundle.manifest.thresholds


def test_another_seed_gives_other_couplings(tiny_data: Path, tiny_result: TrainResult, tmp_path: Path) -> None:
    """The seed matters: the rotations differ, so the comparison above compares something."""
    other = train(tiny_config(tiny_data, train__seed=1), Silent(), out=tmp_path / "x", runs=tmp_path, resume=False)
    first, second = (
        read_weights(result.bundle.weights_path, result.bundle.model_path) for result in (tiny_result, other)
    )
    assert any(not np.array_equal(first[name], second[name]) for name in first)


def test_broken_images_are_left_out_and_named(tiny_data: Path, tmp_path: Path) -> None:
    """Training continues without unreadable images, names them and counts them in the bundle."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    (data / "train" / "good" / "empty.png").write_bytes(b"")
    whole = next((data / "train" / "good").glob("0*.png")).read_bytes()
    (data / "train" / "good" / "cut.png").write_bytes(whole[: len(whole) // 2])
    notes = Notes()
    result = train(tiny_config(data, train__epochs=0), notes, out=tmp_path / "run", runs=tmp_path, resume=False)
    said = "\n".join(notes.texts)
    assert "empty.png" in said
    assert "cut.png" in said
    assert result.n_broken == 2
    assert result.bundle.manifest.provenance.n_images["left_out"] == 2


def test_one_image_is_not_enough(tiny_data: Path, tmp_path: Path) -> None:
    """A folder with one image is refused with the number that is needed."""
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(next((tiny_data / "train" / "good").iterdir()), data)
    with pytest.raises(DataError, match="1 readable good images; at least 20"):
        train(tiny_config(data), Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert not (tmp_path / "run").exists()


def test_mixed_sizes_and_modes_train(tiny_data: Path, tmp_path: Path) -> None:
    """Grey, colour, alpha, 16-bit, JPEG and BMP of different sizes in one folder are one training set."""
    data = tmp_path / "mixed"
    data.mkdir()
    for i, path in enumerate(sorted((tiny_data / "train" / "good").iterdir())[:30]):
        image = cv2.resize(cv2.imread(str(path)), (100 + 3 * i, 140 - 2 * i))
        kinds = [
            ("png", image),
            ("png", cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)),
            ("png", cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)),
            ("tiff", image.astype(np.uint16) * 16),
            ("jpg", image),
            ("bmp", image),
        ]
        suffix, image = kinds[i % len(kinds)]
        assert cv2.imwrite(str(data / f"{i}.{suffix}"), image)
    result = train(tiny_config(data, train__epochs=0), Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert result.bundle.manifest.preprocessing.white_level == 4095


def test_existing_run_is_not_overwritten(tiny_data: Path, tiny_result: TrainResult) -> None:
    """--out with a run in it is refused without --resume."""
    with pytest.raises(ConfigError, match="already contains a run"):
        train(tiny_config(tiny_data), Silent(), out=tiny_result.run, runs=tiny_result.run.parent, resume=False)


def test_resume_refuses_other_settings(tiny_data: Path, tiny_result: TrainResult) -> None:
    """A run cannot be resumed with other settings."""
    config = tiny_config(tiny_data, train__batch_size=5)
    with pytest.raises(ConfigError, match="other settings"):
        train(config, Silent(), out=tiny_result.run, runs=tiny_result.run.parent, resume=True)


def test_nothing_to_resume(tmp_path: Path) -> None:
    """--resume without an unfinished run says so."""
    with pytest.raises(ConfigError, match="no unfinished run"):
        unfinished_run(tmp_path)


def test_fastflow_affine_trains_and_exports(tiny_data: Path, tmp_path: Path) -> None:
    """The published model, affine couplings on separate strides without a per-position start, makes a bundle too."""
    config = tiny_config(
        tiny_data, model__name="fastflow", model__levels=["16", "32"], model__level_weights=[1.0, 1.0], model__blocks=2,
        train__epochs=1,
    )  # fmt: skip
    assert config.model.coupling == "affine"
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    assert result.bundle.manifest.parity.onnx_vs_unfolded <= 1e-4
