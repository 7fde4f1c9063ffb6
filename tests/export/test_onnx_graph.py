"""The exported graph is the detector: same numbers, nothing that an edge runtime lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgead.engines.onnx_runner import OnnxRunner
from edgead.evaluation.compare import compare_outputs
from edgead.export.onnx_graph import (
    BATCH_AXIS,
    DeployedModel,
    _fuse_pads,
    graph_multiply_adds,
    graph_parameters,
    onnx_from_model,
    operator_counts,
)
from edgead.flows.flow import FlowSequence
from edgead.flows.linear import ActNorm
from edgead.flows.multiscale import ParallelFlow
from edgead.models.backbone import Backbone
from edgead.models.detector import Detector
from edgead.models.level import Level, LevelSpec
from edgead.models.packaged_weights import LITE0
from edgead.models.scoring import ScoreHead
from edgead.models.torch_runner import TorchRunner
from edgead.triangles import BLOCKS

from ..tiny import CPU, SIDE, fit, make_images, make_model

VARIANTS = {
    "uniform": {},
    "uniform-lu-two-levels": {"levels": ("8:6", "16:5+8:4"), "mix": "lu", "kernels": ((3, 3), (1, 1))},
    "uniform-no-positions": {"mix": "permutation", "positions": False},
    "affine": {"coupling": "affine", "mix": "permutation", "positions": False, "levels": ("8", "16")},
    "affine-positions": {"coupling": "affine", "mix": "lu"},
    "no-blocks": {"blocks": 0},
    "altub": {"base": "altub", "mix": "lu"},
    "fastflow": {"name": "fastflow", "levels": ("8", "16"), "base": "altub"},
    "fastflow-uniform": {"name": "fastflow", "levels": ("8", "16"), "coupling": "uniform", "base": "altub"},
    "cflow-affine": {"name": "cflow", "levels": ("8", "16"), "position_channels": 16, "base": "altub"},
    "cflow-uniform": {"name": "cflow", "levels": ("8", "16"), "position_channels": 16, "coupling": "uniform"},
    "uflow-affine": {"name": "uflow", "levels": ("8", "16"), "base": "altub"},
    "uflow-uniform": {"name": "uflow", "levels": ("8", "16"), "coupling": "uniform", "base": "altub"},
    "uflow-uniform-nfa": {"name": "uflow", "levels": ("8", "16"), "coupling": "uniform", "segmentation": "nfa"},
    "fastflow-altub-nfa": {"name": "fastflow", "levels": ("8", "16"), "base": "altub", "segmentation": "nfa"},
    "cflow-uniform-nfa": {
        "name": "cflow",
        "levels": ("8", "16"),
        "position_channels": 16,
        "coupling": "uniform",
        "segmentation": "nfa",
    },
    "uniform-nfa": {"segmentation": "nfa"},
    "uflow-positions": {"name": "uflow", "levels": ("8:8", "16:12"), "coupling": "uniform", "positions": True},
}
AFFINE = ("affine", "affine-positions", "fastflow", "cflow-affine", "uflow-affine", "fastflow-altub-nfa")
POSITIONS = (
    "uniform",
    "uniform-nfa",
    "uniform-lu-two-levels",
    "affine-positions",
    "no-blocks",
    "altub",
    "uflow-positions",
)


@pytest.fixture(scope="module", params=VARIANTS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Detector, onnx.ModelProto]:
    """A fitted detector and its graph."""
    torch.manual_seed(0)
    model = fit(make_model(**VARIANTS[request.param]), tmp_path_factory.mktemp("fit"))
    return request.param, model, onnx_from_model(DeployedModel(model), (SIDE, SIDE))


def test_the_graph_is_valid_opset_17(exported: tuple[str, Detector, onnx.ModelProto]) -> None:
    """The checker accepts it, with opset 17 of the standard domain alone."""
    _, _, proto = exported
    onnx.checker.check_model(proto, full_check=True)
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 17)]


def test_inputs_and_outputs_are_the_contract(exported: tuple[str, Detector, onnx.ModelProto]) -> None:
    """uint8 images of a fixed size in; float32 map, score and, for the NFA, each level's norm out; the batch is free."""
    name, model, proto = exported
    (image,) = proto.graph.input
    found = {value.name: value.type.tensor_type for value in [image, *proto.graph.output]}
    norms = {f"level_norm_{i}": size for i, size in enumerate(model.head.sizes if name.endswith("nfa") else ())}
    shapes = {name: [d.dim_param or d.dim_value for d in t.shape.dim] for name, t in found.items()}
    assert shapes == {
        "image": [BATCH_AXIS, SIDE, SIDE, 3],
        "anomaly_map": [BATCH_AXIS, *model.head.size],
        "pred_score": [BATCH_AXIS],
        **{norm: [BATCH_AXIS, *size] for norm, size in norms.items()},
    }
    assert {name: t.elem_type for name, t in found.items()} == {
        "image": TensorProto.UINT8,
        "anomaly_map": TensorProto.FLOAT,
        "pred_score": TensorProto.FLOAT,
        **dict.fromkeys(norms, TensorProto.FLOAT),
    }


def test_level_norms_are_the_standardised_mean_squares_of_the_latents(
    exported: tuple[str, Detector, onnx.ModelProto], tmp_path: Path
) -> None:
    """Level norms of the folded graph are the unfolded latents' mean squares, as far from 1 as the head finds them far."""
    name, model, proto = exported
    if not name.endswith("nfa"):
        assert not model.norm_names
        return
    onnx.save(proto, str(tmp_path / "m.onnx"))
    images = make_images(3, seed=9)
    with torch.no_grad():
        latents = model.transform(model.inputs(model.features(torch.from_numpy(images))))
    with OnnxRunner(tmp_path / "m.onnx", threads=1, engine_name="reference") as runner:
        outputs = runner.infer(images)
    assert len(model.norm_names) == len(latents)
    for index, (norm, latent) in enumerate(zip(model.norm_names, latents, strict=True)):
        mean, gain = (model.head.get_buffer(f"{part}_{index}").numpy() for part in ("mean", "gain"))
        deviations = (latent.z.square().mean(dim=1).numpy() - mean) * gain
        expected = 1.0 + deviations * np.sqrt(2.0 / latent.z.shape[1])
        assert float(np.ptp(expected)) > 0.01
        np.testing.assert_allclose(outputs[norm], expected, rtol=1e-4, atol=1e-4)


def test_only_plain_operators_are_left(exported: tuple[str, Detector, onnx.ModelProto]) -> None:
    """No shape arithmetic, no padding node; exp and tanh only for affine couplings, MatMul only for positions."""
    name, _, proto = exported
    counts = operator_counts(proto)
    never = {"Pad", "Shape", "Gather", "GatherND", "ScatterND", "Log", "Constant", "ConstantOfShape", "Identity", "If",
             "Loop", "Expand", "Cos", "Softplus", "Gemm", "Where", "Range"}  # fmt: skip
    assert not never & set(counts)
    exponential = {"Exp", "Tanh"} & set(counts)
    assert exponential == ({"Exp", "Tanh"} if name in AFFINE else set())
    levels = 2 if name in ("uniform-lu-two-levels", "uflow-positions") else 1
    # without a flow folded into it, the matrix per position is triangular and multiplied in blocks
    products = BLOCKS if name == "no-blocks" else levels
    assert counts["MatMul"] == (products if name in POSITIONS else 0)
    assert counts["Cast"] == 1


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_gives_torchs_numbers(
    exported: tuple[str, Detector, onnx.ModelProto], batch: int, tmp_path: Path
) -> None:
    """Maps and scores of the graph, for any batch size, are those of the unfolded torch model within 1e-4."""
    _, model, proto = exported
    onnx.save(proto, str(tmp_path / "m.onnx"))
    images = make_images(batch, seed=7)
    images[0, 10:20, 10:20] = 255
    truth = TorchRunner(model, model, (SIDE, SIDE), CPU).infer(images)
    assert float(np.ptp(truth["anomaly_map"])) > 0.1
    with OnnxRunner(tmp_path / "m.onnx", threads=1, engine_name="reference") as runner:
        comparison = compare_outputs(truth, runner.infer(images), float(truth["pred_score"].mean()) + 1.0)
    assert comparison.max_relative_difference < 1e-4
    assert comparison.score_relative_difference < 1e-4
    assert comparison.verdict_flips == 0


def test_exporting_leaves_the_model_alone(tmp_path: Path) -> None:
    """The trained model scores the same after an export as before."""
    model = fit(make_model(mix="lu"), tmp_path)
    images = torch.from_numpy(make_images(2))
    with torch.no_grad():
        before = model(images)
        onnx_from_model(DeployedModel(model), (SIDE, SIDE))
        after = model(images)
    assert torch.equal(before[0], after[0])


def test_asymmetric_padding_moves_into_the_convolutions(tmp_path: Path) -> None:
    """A network with TensorFlow padding exports without Pad nodes and keeps its numbers, at a size no stride divides."""
    backbone = Backbone(LITE0, None, ("8", "16"), (SIDE, 96))
    level = Level(LevelSpec.parse("8"), backbone.channels, backbone.sizes, positions=False)
    flow = ParallelFlow([ActNorm(level.channels)], [level.channels])
    model = Detector(backbone, [level], flow, [FlowSequence([])], ScoreHead([level.size], [1.0], 0.1)).eval()
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, 96, 3), dtype=np.uint8)
    with torch.no_grad():
        model.levels[0].start.initialise(model.levels[0].inputs(model.features(torch.from_numpy(images))))
    proto = onnx_from_model(DeployedModel(model), (SIDE, 96))
    assert "Pad" not in operator_counts(proto)
    pads = [list(a.ints) for n in proto.graph.node for a in n.attribute if n.op_type == "Conv" and a.name == "pads"]
    assert any(p[:2] != p[2:] for p in pads), "no padding was asymmetric: the test shows nothing"
    onnx.save(proto, str(tmp_path / "m.onnx"))
    truth = TorchRunner(model, model, (SIDE, 96), CPU).infer(images)
    with OnnxRunner(tmp_path / "m.onnx", threads=1, engine_name="reference") as runner:
        assert compare_outputs(truth, runner.infer(images), 0.0).max_relative_difference < 1e-4


@pytest.mark.parametrize(
    ("mode", "value", "pads", "fused"),
    [
        ("constant", 0.0, [0, 0, 1, 0, 0, 0, 2, 1], True),
        ("constant", 1.0, [0, 0, 1, 0, 0, 0, 2, 1], False),
        ("reflect", 0.0, [0, 0, 1, 0, 0, 0, 2, 1], False),
        ("constant", 0.0, [0, 1, 1, 0, 0, 0, 2, 1], False),
        ("constant", 0.0, [0, 0, -1, 0, 0, 0, 2, 1], False),
    ],
    ids=["zeros", "ones", "reflect", "channels", "crop"],
)
def test_only_pads_of_zeros_are_fused(mode: str, value: float, pads: list[int], fused: bool) -> None:
    """A Pad that a convolution's own padding cannot express stays."""
    constants = {
        "pads": np.array(pads, np.int64),
        "value": np.array(value, np.float32),
        "weight": np.ones((1, 1 + pads[1], 3, 3), np.float32),
    }
    nodes = [
        helper.make_node("Pad", ["x", "pads", "value"], ["padded"], mode=mode),
        helper.make_node("Conv", ["padded", "weight"], ["y"], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    _fuse_pads(proto)
    assert ("Pad" not in operator_counts(proto)) == fused
    if fused:
        assert list(proto.graph.node[0].attribute[0].ints) == [2, 1, 3, 2]


def test_costs_are_those_of_the_layers(exported: tuple[str, Detector, onnx.ModelProto]) -> None:
    """Multiply-adds and parameters of the graph are those of the torch layers that it is made of."""
    _, model, proto = exported
    deployed = DeployedModel(model)
    counted = 0

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(module, torch.nn.Conv2d)
        counted += module.weight.numel() * output.shape[2] * output.shape[3]

    for name, module in deployed.named_modules():
        # timm computes the last stage though nothing asks for it; the graph does not hold it
        if isinstance(module, torch.nn.Conv2d) and not name.startswith("backbone.body.blocks.4"):
            module.register_forward_hook(count)
    with torch.no_grad():
        deployed(torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8))
    weights = {t.name: t for t in proto.graph.initializer}
    products = sum(int(np.prod(weights[n.input[1]].dims)) for n in proto.graph.node if n.op_type == "MatMul")
    assert graph_multiply_adds(proto) == counted + products
    _, after = deployed.flow_cost()
    assert 0 < after <= graph_multiply_adds(proto)
    assert graph_parameters(proto) == sum(
        int(np.prod(t.dims)) for t in proto.graph.initializer if t.data_type == TensorProto.FLOAT
    )
