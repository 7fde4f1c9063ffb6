"""The image is read as integers, and almost nothing changes except the time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.engines.onnx_session import open_session
from edgead.precision.graph import Graph
from edgead.precision.image_input import read_integers
from edgead.precision.int8 import Int8Options, Layout
from edgead.precision.quantiser import Quantiser
from edgead.precision.recipe import Recipe
from edgead.precision.scalars import use_scalars
from tests.precision.graphs import SIDE, make_graph, make_images


def with_scale(value: float) -> onnx.ModelProto:
    graph = Graph(make_graph())
    graph.set_constant("scale", np.full((1, 3, 1, 1), value, np.float32))
    return use_scalars(graph.model)


def with_first(scale: float, shift: float, **attributes: object) -> onnx.ModelProto:
    """Model with this scale and shift, first-convolution `attributes` replaced and `stem.out` as an output."""
    graph = Graph(make_graph())
    graph.set_constant("scale", np.full((1, 3, 1, 1), scale, np.float32))
    graph.set_constant("shift", np.full((1, 3, 1, 1), shift, np.float32))
    stem = next(node for node in graph.nodes if node.name == "stem")
    kept = [a for a in stem.attribute if a.name not in attributes]
    made = [helper.make_attribute(name, value) for name, value in attributes.items()]
    copies = [onnx.AttributeProto() for _ in [*kept, *made]]
    for copy, value in zip(copies, [*kept, *made], strict=True):
        copy.CopyFrom(value)
    del stem.attribute[:]
    stem.attribute.extend(copies)
    graph.model.graph.output.append(helper.make_tensor_value_info("stem.out", TensorProto.FLOAT, [None] * 4))
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


@pytest.mark.parametrize(
    ("strides", "pads"), [([1, 1], [1, 1, 1, 1]), ([2, 2], [0, 0, 1, 1]), ([1, 2], [2, 1, 0, 3]), ([2, 1], [0] * 4)]
)
def test_rows_give_what_planes_gave(strides: list[int], pads: list[int]) -> None:
    before = with_first(1 / 64, -2.0, strides=strides, pads=pads)
    after = read_integers(before)
    onnx.checker.check_model(after)
    assert kinds(after)[:3] == ["Reshape", "DequantizeLinear", "Conv"]
    assert not {"Cast", "Transpose"} & set(kinds(after))
    np.testing.assert_allclose(run(after, "stem.out"), run(before, "stem.out"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "shift", "shifts"), [(1 / 64, -2.0, 0), (1 / 127.5, -1.0, 1), (1 / 64, 0.5, 1), (1 / 64, -4.5, 1)]
)
def test_whole_grey_levels_become_the_zero_point(scale: float, shift: float, shifts: int) -> None:
    """Others stay sums, so that zeros around the image stay zeros."""
    before = with_first(scale, shift)
    after = read_integers(before)
    assert kinds(after)[: 3 + shifts] == ["Reshape", "DequantizeLinear", *["Add"] * shifts, "Conv"]
    np.testing.assert_allclose(run(after, "stem.out"), run(before, "stem.out"), rtol=1e-4, atol=1e-5)


def test_a_first_convolution_may_have_no_bias() -> None:
    before = with_first(1 / 127.5, -1.0)
    del next(node for node in before.graph.node if node.name == "stem").input[2:]
    np.testing.assert_allclose(run(read_integers(before), "stem.out"), run(before, "stem.out"), rtol=1e-4, atol=1e-5)


def test_planes_stay_where_rows_do_not_serve() -> None:
    before = with_first(1 / 64, -2.0, dilations=[2, 2], pads=[2] * 4)
    after = read_integers(before)
    assert kinds(after)[:4] == ["Transpose", "DequantizeLinear", "Add", "Conv"]
    np.testing.assert_array_equal(run(after, "stem.out"), run(before, "stem.out"))


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
    ids=["negative scale", "float image", "no cast", "no scalar"],
)
def test_other_graphs_stay_as_they_are(model: onnx.ModelProto) -> None:
    assert read_integers(model) == model


@pytest.mark.parametrize(("layout", "casts"), [("onnxruntime", 0), ("tensorrt", 1)])
def test_onnx_runtimes_form_reads_integers(layout: Layout, casts: int) -> None:
    found = Quantiser(make_graph(), make_images(8), Recipe(), Int8Options(layout), lambda *_: None, threads=1)
    assert kinds(found.graph(["stem"])).count("Cast") == casts
