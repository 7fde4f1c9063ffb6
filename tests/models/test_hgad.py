"""HGAD as a detector: trained parts, class bias, and one graph for all three label modes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from edgead.bundle import class_bias
from edgead.config.file import load_config
from edgead.engines.onnx_runner import OnnxRunner
from edgead.errors import BundleError, ConfigError, ShapeError
from edgead.evaluation.compare import compare_outputs
from edgead.export.onnx_graph import DeployedModel, onnx_from_model, operator_counts
from edgead.models.detector import Detector, TrainingBatch
from edgead.models.torch_runner import TorchRunner

from ..tiny import CPU, SIDE, fit, make_images, make_model

CLASSES = ("bolt", "disc", "nut")


def make(tmp_path: Path, classes: tuple[str, ...] = CLASSES, **settings: object) -> Detector:
    torch.manual_seed(0)
    values = {"name": "hgad", "pyramid": (64, 32), "position_channels": 16, "components": 3, **settings}
    return fit(make_model(("16",), classes, **values), tmp_path)


@pytest.mark.parametrize("classes", [CLASSES, ("bolt",)], ids=["three", "one"])
@pytest.mark.parametrize("coupling", ["affine", "uniform"])
def test_one_graph_gives_torchs_numbers_whatever_is_known(
    coupling: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    """With the class open or given, the folded model and ONNX Runtime give the unfolded model's numbers within 1e-4."""
    model = make(tmp_path, classes, coupling=coupling)
    deployed = DeployedModel(model)
    onnx.save(onnx_from_model(deployed, (SIDE, SIDE)), str(tmp_path / "m.onnx"))
    images = make_images(4, seed=7)
    images[0, 10:30, 10:30] = 255
    unfolded, folded = (TorchRunner(m, model, (SIDE, SIDE), CPU) for m in (model, deployed))
    seen = []
    with OnnxRunner(tmp_path / "m.onnx", threads=1, engine_name="reference") as runner:
        assert [spec.name for spec in runner.output_specs] == ["anomaly_map", "pred_score", "class_score"]
        for bias in (None, *(class_bias(classes, [name] * 4) for name in classes)):
            truth, exported = unfolded.infer(images, bias), runner.infer(images, bias)
            for other in (folded.infer(images, bias), exported):
                assert compare_outputs(truth, other, 1e9).max_relative_difference < 1e-4
                np.testing.assert_allclose(other["class_score"], truth["class_score"], rtol=1e-4, atol=1e-4)
            seen.append(exported["anomaly_map"])
        with pytest.raises(ShapeError, match="class_bias"):
            runner.infer(images, np.zeros((4, len(classes) + 1), np.float32))
    if len(classes) > 1:
        assert float(np.abs(seen[1] - seen[2]).max()) > 1e-3, "the class given changes nothing"


def test_the_graph_takes_and_gives_the_contract(tmp_path: Path) -> None:
    """Images and an open batch of class biases in; map, score and one score per class out; nothing that TensorRT lowers badly."""
    proto = onnx_from_model(DeployedModel(make(tmp_path)), (SIDE, SIDE))
    sizes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*proto.graph.input, *proto.graph.output]
    }
    assert sizes == {
        "image": ["batch", SIDE, SIDE, 3],
        "class_bias": ["batch", 3],
        "anomaly_map": ["batch", 4, 4],
        "pred_score": ["batch"],
        "class_score": ["batch", 3],
    }
    assert proto.graph.input[1].type.tensor_type.elem_type == TensorProto.FLOAT
    never = {"ReduceLogSumExp", "LogSoftmax", "Softmax", "Gather", "Shape", "Where", "Pad", "Expand", "Softplus"}
    assert not never & set(operator_counts(proto))


def test_every_part_learns_in_its_stage(tmp_path: Path) -> None:
    """Flow and main centres learn in both stages, the components within a class in the second alone."""
    model = make(tmp_path)
    whitened = [torch.randn(6, level.channels, *level.size) for level in model.levels]
    batch = TrainingBatch(whitened, model.codes(), [torch.arange(6) % 3] * 2)
    for stage in (1, 2):
        model.zero_grad()
        torch.stack(model.loss_terms(batch, stage)).sum().backward()
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            within = name.endswith((".delta", ".phi"))
            learns = parameter.grad is not None and bool((parameter.grad != 0).any())
            assert learns == (stage == 2 or not within), (stage, name)


def test_terms_of_the_loss_are_those_of_the_settings(tmp_path: Path) -> None:
    """Stage 1 has information and entropy, stage 2 all four; a term that the settings leave out does not count."""
    losses = {}
    for name, terms in (("all", None), ("some", ("intra", "log_sigmoid")), ("none", ())):
        model = make(tmp_path, **({} if terms is None else {"loss_terms": terms}))
        whitened = [torch.ones(6, level.channels, *level.size) for level in model.levels]
        batch = TrainingBatch(whitened, model.codes(), [torch.arange(6) % 3] * 2)
        losses[name] = [torch.stack(model.loss_terms(batch, stage)).sum().item() for stage in (1, 2)]
    assert losses["some"][0] == losses["none"][0] == losses["none"][1] != losses["all"][0]
    assert losses["some"][1] != losses["none"][1]


def test_a_bias_names_one_class_or_none() -> None:
    """The named class has 0 and the others are excluded; no name excludes nothing; another name is an error."""
    np.testing.assert_array_equal(class_bias(CLASSES, ["disc", None]), [[-1e4, 0, -1e4], [0, 0, 0]])
    with pytest.raises(BundleError, match="no class 'gear'"):
        class_bias(CLASSES, ["gear"])


@pytest.mark.parametrize("key", ["model.base", "model.couplings", "model.loss"])
def test_settings_without_meaning_are_refused(key: str) -> None:
    """A base, a choice of couplings or a loss beside HGAD's own is a ConfigError."""
    value = {"model.base": "altub", "model.couplings": "auto", "model.loss": "log_sigmoid"}[key]
    with pytest.raises(ConfigError, match="hgad has no use"):
        load_config(None, {"model.name": "hgad", key: value})
