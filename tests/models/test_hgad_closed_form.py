"""HGAD in closed form as a detector: one graph for all label modes, and what its head does with classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgead.bundle import class_bias
from edgead.config.file import load_config
from edgead.config.model import ModelConfig
from edgead.engines.onnx_runner import OnnxRunner
from edgead.errors import ConfigError
from edgead.evaluation.compare import compare_outputs
from edgead.export.onnx_graph import DeployedModel, onnx_from_model, operator_counts
from edgead.flows.linear import ActNorm
from edgead.models.class_head import ClassHead
from edgead.models.hgad_closed_form import ClosedFormHgad
from edgead.models.torch_runner import TorchRunner
from edgead.precision.int8 import position_products

from ..export.tensorrt_operators import operator_problems, versions
from ..tiny import CPU, SIDE, make_images, make_model

CLASSES = ("bolt", "disc", "gear")


@pytest.fixture(scope="module")
def model() -> ClosedFormHgad:
    """Classes of each form, one with a smaller input and one with fewer centres, with weights that tell the classes apart."""
    torch.manual_seed(0)
    found = make_model(
        ("8+16:12",), CLASSES, name="hgad", start="closed-form", couplings="never", class_share=0.25,
        class_forms=("positions", "centres", "centres"), class_sizes=(SIDE // 2, SIDE, SIDE), class_centres=(0, 5, 3),
        class_fractions=(0.05, 0.2, 0.1), centres=5,
    )  # fmt: skip
    assert isinstance(found, ClosedFormHgad)
    with torch.no_grad():
        for level in found.levels:
            assert not isinstance(level.start, ActNorm)
            level.start.weight.add_(0.1 * torch.randn_like(level.start.weight))
        for level, count in zip(found.levels[1:], (5, 3), strict=True):
            assert level.centres is not None
            assert len(level.centres) == count
            level.centres.normal_()
        for index in range(3):
            found.head.heads[index].get_buffer("mean_0").fill_(0.5 + index)
            found.head.set_class(index, (0.1 * index, 1.0 + index), (0.2, 0.5))
    return found.eval()


def test_one_graph_gives_torchs_numbers_whatever_is_known(model: ClosedFormHgad, tmp_path: Path) -> None:
    """Folded torch and ONNX Runtime give the unfolded numbers, the class unknown or given; products per position stay such."""
    deployed = DeployedModel(model)
    proto = onnx_from_model(deployed, (SIDE, SIDE))
    onnx.save(proto, str(tmp_path / "m.onnx"))
    counts = operator_counts(proto)
    assert not {"Softmax", "LogSoftmax", "ReduceLogSumExp", "Gather", "ArgMax"} & set(counts)
    assert len(position_products(proto)) == 1
    assert [problem for version in versions() for problem in operator_problems(proto, version)] == []
    images = make_images(3, seed=7)
    unfolded, folded = (TorchRunner(m, model, (SIDE, SIDE), CPU) for m in (model, deployed))
    seen = []
    with OnnxRunner(tmp_path / "m.onnx", threads=1, engine_name="reference") as runner:
        for bias in (None, *(class_bias(CLASSES, [name] * 3) for name in CLASSES)):
            truth, exported = unfolded.infer(images, bias), runner.infer(images, bias)
            for other in (folded.infer(images, bias), exported):
                assert compare_outputs(truth, other, 1e9).max_relative_difference < 1e-4
            seen.append(exported["anomaly_map"])
    assert float(np.abs(seen[1] - seen[2]).max()) > 1e-3, "the class given changes nothing"


@torch.no_grad()
def test_the_map_is_that_of_the_class_that_explains_the_image() -> None:
    """The nearer class decides the whole map; a far image of no class keeps finite numbers, and a given class is obeyed."""
    head = ClassHead([[(4, 4)]] * 2, [1.0], (0.25, 0.5))
    near, far = torch.zeros(1, 4, 4), torch.full((1, 4, 4), 50.0)
    near[0, 0, 0] = 9.0
    total, score, class_score = head([near, far])
    torch.testing.assert_close(total, near)
    assert float(score) == pytest.approx(9.0 / 4)
    assert int(class_score.argmax()) == 0
    given = head([near, far], torch.tensor([[-1e4, 0.0]]))[0]
    torch.testing.assert_close(given, far)
    assert float(head([far, near])[1]) == pytest.approx(9.0 / 8), "the second class averages over twice as many values"
    for impossible in (1e30, float("inf")):
        total, score, _ = head([torch.full((1, 4, 4), impossible), near])
        torch.testing.assert_close(total, near)
        both = head([torch.full((1, 4, 4), impossible)] * 2, torch.tensor([[-1e4, 0.0]]))
        assert bool(torch.isfinite(both[0]).all())
        assert float(both[1]) > 1e3


def test_the_start_follows_the_settings() -> None:
    """Closed form by default; settings of the published form, or of a bundle of before, choose that one."""
    assert ModelConfig(name="hgad").start == "closed-form"
    assert ModelConfig(name="hgad").couplings == "never"
    assert ModelConfig(name="hgad", components=4).start == "published"  # type: ignore[call-arg]
    assert load_config(None, {"model.name": "hgad", "model.loss_terms": ["intra"]}).model.start == "published"
    assert load_config(None, {"model.name": "hgad", "train.epochs": 3}).model.start == "published"
    published = ModelConfig(name="hgad", start="published")
    assert (published.pyramid, published.blocks, published.couplings) == ((320, 160), 12, "always")
    before = {key: value for key, value in published.model_dump().items() if key not in ("start", "class_forms")}
    assert ModelConfig.model_validate(before) == published
    with pytest.raises(ConfigError, match="class_centres needs one number per class"):
        load_config(None, {"model.name": "hgad", "model.class_centres": [64]})
    with pytest.raises(ConfigError, match="no use for couplings=never with start=published"):
        load_config(None, {"model.name": "hgad", "model.start": "published", "model.couplings": "never"})
    with pytest.raises(ConfigError, match=r"has no choice of model\.start"):
        load_config(None, {"model.start": "published"})
    with pytest.raises(ConfigError, match=r"need model\.start=published"):
        load_config(None, {"model.name": "hgad", "data.tiles": "2x2"})
