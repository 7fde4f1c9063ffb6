"""Every kind of model exports to operators, attributes and types that all supported TensorRT versions take.

The answer comes from a table of documents, not from TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgead.export.onnx_graph import DeployedModel, onnx_from_model
from edgead.models.detector import Detector

from ..engines.facts import tensorrt_facts
from ..models.test_vae_usf import VARIANTS as VAE_VARIANTS
from ..models.test_vae_usf import make_vae
from ..tiny import SIDE, fit, make_model
from .tensorrt_operators import operator_problems, table, versions
from .test_onnx_graph import VARIANTS as FLOW_VARIANTS

HGAD = {"name": "hgad", "pyramid": (64, 32), "position_channels": 16, "components": 3}
CLASSES = ("bolt", "disc", "nut")
MODELS: dict[str, Callable[[], Detector]] = {
    **{name: lambda s=settings: make_model(**s) for name, settings in FLOW_VARIANTS.items()},
    **{f"vae-{name}": lambda s=settings: make_vae(**s) for name, settings in VAE_VARIANTS.items()},
    "hgad-affine": lambda: make_model(("16",), CLASSES, **HGAD, coupling="affine"),
    "hgad-uniform": lambda: make_model(("16",), CLASSES, **HGAD, coupling="uniform"),
    "hgad-one-class": lambda: make_model(("8", "16"), ("bolt",), **HGAD, coupling="affine"),
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    torch.manual_seed(0)
    model = fit(MODELS[request.param](), tmp_path_factory.mktemp("fit"), count=24)
    return onnx_from_model(DeployedModel(model), (SIDE, SIDE))


@pytest.mark.parametrize("version", versions())
def test_the_exported_graph_is_taken(exported: onnx.ModelProto, version: str) -> None:
    """No operator, attribute, type or opset that this version refuses or computes badly."""
    assert operator_problems(exported, version) == []


def test_the_table_and_the_bindings_speak_of_the_same_versions() -> None:
    """The operator table and the bindings' facts cover the same versions."""
    assert versions() == tuple(tensorrt_facts())
    assert not set(table()["operators"]) & set(table()["forbidden"])


def test_every_operator_of_the_table_exists() -> None:
    """Every row names an ONNX operator, so that a misspelt one cannot forbid what it means to allow."""
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert set(table()["operators"]) | set(table()["forbidden"]) <= known


# graphs with one thing in them that some version does not take

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])
Constants = dict[str, NDArray[np.generic]]


def graph_of(
    *nodes: onnx.NodeProto, constants: Constants | None = None, opset: int = 17, x: onnx.ValueInfoProto = X
) -> onnx.ModelProto:
    """A graph from `x` to `y`."""
    tensors = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def node(op_type: str, inputs: str = "x", outputs: str = "y", **attributes: object) -> onnx.NodeProto:
    names = [name.strip() for name in inputs.split(",")]
    return helper.make_node(op_type, names, outputs.split(","), name=op_type.lower(), **attributes)


KERNEL = np.ones((4, 4, 3, 3), np.float32)
ONE = np.float32(0.5)
ZERO = np.int8(0)


def pair(
    source: str = "x", target: str = "y", scale: str = "s", zero: str = ", z", **attributes: object
) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """A QuantizeLinear and its DequantizeLinear."""
    quantize = node("QuantizeLinear", f"{source}, {scale}{zero}", f"{target}_q", **attributes)
    return quantize, node("DequantizeLinear", f"{target}_q, {scale}{zero}", target, **attributes)


PIXELS = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 8, 8, 3])
HALF = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 4, 8, 8])
EVERY = versions()
NOT_8 = EVERY[1:]
PER_CHANNEL = np.full(4, 0.5, np.float32)

RIGHT = {
    "relu": graph_of(node("Relu")),
    "pixels through a cast": graph_of(node("Cast", to=1), x=PIXELS),
    "average pool": graph_of(node("AveragePool", kernel_shape=[3, 3], dilations=[1, 1]), opset=19),
    "top 10": graph_of(node("TopK", "x, k", "y,i"), constants={"k": np.array([10])}),
    "int8 activation": graph_of(*pair(), constants={"s": ONE, "z": ZERO}),
    "int8 weight per channel": graph_of(
        *pair("w", "v", axis=0),
        node("Conv", "x, v"),
        constants={"w": KERNEL, "s": PER_CHANNEL, "z": np.zeros(4, np.int8)},
    ),
    "stored int8 weight": graph_of(
        node("DequantizeLinear", "w, s, z", "v", axis=0),
        node("Conv", "x, v"),
        constants={"w": KERNEL.astype(np.int8), "s": PER_CHANNEL, "z": np.zeros(4, np.int8)},
    ),
    "float16 between casts": graph_of(node("Cast", "x", "a", to=10), node("Relu", "a", "b"), node("Cast", "b", to=1)),
}
WRONG = {
    "unknown operator": (graph_of(node("Unique")), EVERY, "not in the table"),
    "log-sum-exp": (graph_of(node("ReduceLogSumExp", axes=[1])), EVERY, "without a shift"),
    "log-softmax": (graph_of(node("LogSoftmax")), EVERY, "underflows"),
    "gelu": (graph_of(node("Gelu"), opset=20), EVERY[:1], "from 10.3.0 on"),
    "opset 18": (graph_of(node("Relu"), opset=18), EVERY[:1], "opset 18, 8.6.1 takes 9 to 17"),
    "opset 21": (graph_of(node("Relu"), opset=21), EVERY[:2], "opset 21"),
    "opset 25": (graph_of(node("Relu"), opset=25), EVERY, "opset 25"),
    "transposed pixels": (
        graph_of(node("Transpose", "x", "a", perm=[0, 3, 1, 2]), node("Cast", "a", to=1), x=PIXELS),
        EVERY,
        "which only a Cast may",
    ),
    "pixels inside": (
        graph_of(node("Cast", "x", "a", to=2), node("Cast", "a", to=1)),
        EVERY,
        "to uint8",
    ),
    "double": (graph_of(node("Cast", "x", "a", to=11), node("Cast", "a", to=1)), EVERY, "to 11"),
    "int64 arithmetic": (
        graph_of(node("Cast", "x", "a", to=6), node("Sqrt", "a", "b"), node("Cast", "b", to=1)),
        EVERY,
        "is int32",
    ),
    "dilated average pool": (
        graph_of(node("AveragePool", kernel_shape=[3, 3], dilations=[2, 2]), opset=19),
        EVERY,
        "dilations are [2, 2]",
    ),
    "pool over one dimension": (graph_of(node("MaxPool", kernel_shape=[3])), EVERY, "1 spatial dimensions"),
    "indices of a pool": (graph_of(node("MaxPool", "x", "y,i", kernel_shape=[3, 3])), EVERY, "more than 1 output"),
    "too large a top": (
        graph_of(node("TopK", "x, k", "y,i"), constants={"k": np.array([4000])}),
        EVERY,
        "is 4000, must be below 3840",
    ),
    "top of a computed size": (
        graph_of(node("Shape", "x", "k"), node("TopK", "x, k", "y,i")),
        EVERY,
        "input 1 must be a constant",
    ),
    "unsorted top": (
        graph_of(node("TopK", "x, k", "y,i", sorted=0), constants={"k": np.array([4])}),
        EVERY,
        "sorted is 0",
    ),
    "cubic resize": (
        graph_of(node("Resize", "x,,s", mode="cubic"), constants={"s": np.ones(4, np.float32)}),
        EVERY,
        "mode is cubic",
    ),
    "antialiased resize": (
        graph_of(node("Resize", "x,,s", mode="linear", antialias=1), constants={"s": np.ones(4, np.float32)}, opset=18),
        EVERY,
        "antialias is 1",
    ),
    "crop and resize": (
        graph_of(
            node("Resize", "x,,s", mode="linear", coordinate_transformation_mode="tf_crop_and_resize"),
            constants={"s": np.ones(4, np.float32)},
        ),
        EVERY,
        "coordinate_transformation_mode is tf_crop_and_resize",
    ),
    "wrapping pad": (
        graph_of(node("Pad", "x, p", mode="wrap"), constants={"p": np.zeros(8, np.int64)}, opset=19),
        EVERY,
        "mode is wrap",
    ),
    "asymmetric int8": (graph_of(*pair(), constants={"s": ONE, "z": np.int8(3)}), EVERY, "not a constant 0"),
    "uint8 activations": (graph_of(*pair(), constants={"s": ONE, "z": np.uint8(0)}), EVERY, "must be int8"),
    "no zero point": (graph_of(*pair(zero=""), constants={"s": ONE}), EVERY, "means uint8 in ONNX"),
    "dequantized without a zero point": (
        graph_of(
            node("DequantizeLinear", "w, s", "v", axis=0),
            node("Conv", "x, v"),
            constants={"w": KERNEL.astype(np.int8), "s": PER_CHANNEL},
        ),
        EVERY[:1],
        "which 8.x demands",
    ),
    "int32 bias": (
        graph_of(
            node("DequantizeLinear", "b, s, z", "c"),
            node("Conv", "x, w, c"),
            constants={"w": KERNEL, "b": np.zeros(4, np.int32), "s": ONE, "z": np.int32(0)},
        ),
        EVERY,
        "b is int32",
    ),
    "negative scale": (graph_of(*pair(), constants={"s": -ONE, "z": ZERO}), EVERY, "not positive"),
    "computed scale": (
        graph_of(node("ReduceMax", "x", "s", keepdims=0), *pair(), constants={"z": ZERO}),
        EVERY,
        "the scale is not a constant",
    ),
    "activation per channel": (
        graph_of(*pair(axis=1), constants={"s": PER_CHANNEL, "z": np.zeros(4, np.int8)}),
        EVERY,
        "per channel of an activation",
    ),
    "weight along its inputs": (
        graph_of(
            *pair("w", "v", axis=1),
            node("Conv", "x, v"),
            constants={"w": KERNEL, "s": PER_CHANNEL, "z": np.zeros(4, np.int8)},
        ),
        EVERY,
        "must be 0",
    ),
    "float16 scales of opset 17": (
        graph_of(*pair(), constants={"s": np.float16(0.5), "z": ZERO}, x=HALF),
        EVERY,
        "float16 scale",
    ),
    "quantized transposed convolution": (
        graph_of(*pair("x", "a"), node("ConvTranspose", "a, w"), constants={"w": KERNEL, "s": ONE, "z": ZERO}),
        EVERY,
        "wrong output",
    ),
    "relu of int8": (
        graph_of(
            node("QuantizeLinear", "x, s, z", "a"),
            node("Relu", "a", "b"),
            node("DequantizeLinear", "b, s, z"),
            constants={"s": ONE, "z": ZERO},
        ),
        EVERY,
        "is int8",
    ),
}


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("case", RIGHT)
def test_right_graphs_pass(case: str, version: str) -> None:
    """Operators allowed by the documents are accepted; opset 19 alone is too new for 8.6."""
    found = operator_problems(RIGHT[case], version)
    assert [problem for problem in found if not problem.startswith("opset 19")] == []


@pytest.mark.parametrize("case", WRONG)
def test_wrong_graphs_fail(case: str) -> None:
    """One forbidden thing each, found for exactly the versions that refuse it."""
    model, refusing, message = WRONG[case]
    found = {version: operator_problems(model, version) for version in versions()}
    assert [v for v, problems in found.items() if any(message in one for one in problems)] == list(refusing), found


def test_float16_scales_pass_from_opset_19_on_and_not_in_8() -> None:
    """The form in which int8 layers pass float16 on to each other."""
    model = graph_of(*pair(), constants={"s": np.float16(0.5), "z": ZERO}, x=HALF, opset=19)
    found = {version: operator_problems(model, version) for version in versions()}
    assert [version for version, problems in found.items() if not problems] == list(NOT_8)
    assert any("float16 scale" in problem for problem in found[EVERY[0]])


def test_an_int64_input_fails() -> None:
    """Int64 inputs are refused because TensorRT 9.0 changed their buffers from int32 to int64."""
    x = helper.make_tensor_value_info("x", TensorProto.INT64, [1])
    found = operator_problems(graph_of(node("Cast", to=1), x=x), EVERY[-1])
    assert "input or output x of int64" in found


def test_a_changed_export_fails(tmp_path: Path) -> None:
    """The real graph with one attribute changed is refused: real graphs are looked at as closely as the small ones."""
    torch.manual_seed(0)
    model = onnx_from_model(DeployedModel(fit(make_model(), tmp_path, count=24)), (SIDE, SIDE))
    resize = next(one for one in model.graph.node if one.op_type == "Resize")
    next(one for one in resize.attribute if one.name == "mode").s = b"cubic"
    assert any("mode is cubic" in problem for problem in operator_problems(model, EVERY[0]))
