"""The picture is read as integers, and nothing changes but the time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.engines.onnx_runner import open_session
from edgead.precision.graph import Graph
from edgead.precision.int8 import Int8Options, Layout
from edgead.precision.picture import read_integers
from edgead.precision.quantiser import Quantiser
from edgead.precision.recipe import Recipe
from edgead.precision.scalars import use_scalars
from tests.precision.graphs import SIDE, make_graph, make_images


def with_scale(value: float) -> onnx.ModelProto:
    graph = Graph(make_graph())
    graph.set_constant("scale", np.full((1, 3, 1, 1), value, np.float32))
    return use_scalars(graph.model)


def run(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    return np.asarray(open_session(model.SerializeToString(), 1).run([name], {"image": make_images()})[0])


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("scale", [1 / 64, 1 / 127.5, 0.0173])
def test_the_same_to_the_bit(scale: float) -> None:
    before = with_scale(scale)
    shape = ["batch", 3, SIDE, SIDE]
    before.graph.output.append(helper.make_tensor_value_info("normal", TensorProto.FLOAT, shape))
    after = read_integers(before)
    onnx.checker.check_model(after, full_check=True)
    assert kinds(after)[:4] == ["Transpose", "DequantizeLinear", "Add", "Conv"]
    assert "Cast" not in kinds(after)
    for name in ("normal", "anomaly_map"):
        np.testing.assert_array_equal(run(after, name), run(before, name))


def test_floats_that_others_read_stay() -> None:
    before = with_scale(1 / 64)
    before.graph.output.append(helper.make_tensor_value_info("planes", TensorProto.FLOAT, None))
    after = read_integers(before)
    assert {"Cast", "DequantizeLinear"} <= set(kinds(after))
    np.testing.assert_array_equal(run(after, "planes"), run(before, "planes"))


def of_float_pictures(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def with_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    next(node for node in model.graph.node if node.op_type == "Cast").op_type = "Floor"
    return model


@pytest.mark.parametrize(
    "model",
    [with_scale(-1 / 64), of_float_pictures(with_scale(1 / 64)), with_rounding(with_scale(1 / 64)), make_graph()],
    ids=["negative scale", "float picture", "no cast", "no scalar"],
)
def test_other_graphs_stay_as_they_are(model: onnx.ModelProto) -> None:
    assert read_integers(model) == model


@pytest.mark.parametrize(("layout", "casts"), [("onnxruntime", 0), ("tensorrt", 1)])
def test_onnx_runtimes_form_reads_integers(layout: Layout, casts: int) -> None:
    found = Quantiser(make_graph(), make_images(8), Recipe(), Int8Options(layout), lambda *_: None, threads=1)
    assert kinds(found.graph(["stem"])).count("Cast") == casts
