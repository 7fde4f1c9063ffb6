"""A transformer as backbone needs nothing but its name."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
import timm
import torch
from safetensors.torch import save_file

from edgead.commands.train import TrainResult, train
from edgead.engines.opening import open_engine
from edgead.precision.cost import node_multiply_adds
from edgead.runner import REFERENCE

from ..notes import Notes
from ..tiny import write_parts_and_weights
from ..tiny_run import tiny_config

BACKBONE = "test_vit"
ASKED, SIZE = 100, 96


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list[str]]:
    """A run with the default levels on a transformer whose position code has another size; the notes."""
    folder = write_parts_and_weights(tmp_path_factory.mktemp("transformer"), n_train=40)
    torch.manual_seed(0)
    save_file(timm.create_model(BACKBONE, pretrained=False).state_dict(), folder / "vit.safetensors")
    config = tiny_config(
        folder / "data",
        model__backbone=BACKBONE,
        model__weights=str(folder / "vit.safetensors"),
        model__levels=["16+32:64"],
        model__image_size=ASKED,
        train__epochs=0,
    )
    notes = Notes()
    return train(config, notes, out=folder / "run", runs=folder, resume=False), notes.texts


def test_levels_and_size_are_chosen(trained: tuple[TrainResult, list[str]]) -> None:
    """The bundle has the transformer's default levels and the nearest size that patches fill, and a note for each."""
    result, notes = trained
    manifest = result.bundle.manifest
    assert manifest.provenance.config["model"]["levels"] == ["16@3:64+16@4:64"]
    assert manifest.preprocessing.image_size == (SIZE, SIZE)
    assert manifest.graph.map_size == (SIZE // 16, SIZE // 16)
    assert any(note.startswith("Levels: 16@3") for note in notes)
    assert any(note.startswith(f"Image size: {SIZE} px instead of {ASKED}") for note in notes)


def test_the_graph_gives_the_scores(trained: tuple[TrainResult, list[str]]) -> None:
    """The exported graph runs on any number of images and gives the reference scores."""
    bundle = trained[0].bundle
    reference = bundle.reference()
    with open_engine(bundle, REFERENCE, threads=1) as runner:
        for count in (1, 2):
            outputs = runner.infer(reference["images"][:count])
            np.testing.assert_allclose(outputs["pred_score"], reference["pred_score"][:count], rtol=1e-4)


def test_the_cost_counts_attention(trained: tuple[TrainResult, list[str]]) -> None:
    """Products with weights count for every token, and the two products of an attention for every pair of tokens."""
    import onnx

    bundle = trained[0].bundle
    costs = node_multiply_adds(onnx.load(str(bundle.model_path)))
    tokens, width = (SIZE // 16) ** 2 + 1, 64
    first = {name.rpartition("blocks.0/")[2]: cost for name, cost in costs.items() if "blocks.0/" in name}
    assert first["attn/proj/MatMul"] == tokens * width * width
    assert first["attn/MatMul"] == first["attn/MatMul_1"] == tokens * tokens * width
    assert bundle.manifest.cost.multiply_adds == sum(costs.values())
