"""Clipped activations lie around 0 afterwards, and the graph computes the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from edgead.engines.onnx_session import open_session
from edgead.precision.centre import centre, centred_tensors
from edgead.precision.graph import Graph
from edgead.precision.int8 import Int8Options, tensors_to_calibrate
from edgead.precision.quantiser import Quantiser
from edgead.precision.ranges import TensorRange, collect_statistics
from edgead.precision.recipe import Recipe

from .graphs import make_graph, make_images

TENSOR = "depthwise.out.clip"


def outputs(model: onnx.ModelProto, names: list[str] | None = None) -> list[np.ndarray]:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for name in names or []:
        changed.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    result: list[np.ndarray] = open_session(changed.SerializeToString(), 1).run(names, {"image": make_images()})
    return result


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def seen(model: onnx.ModelProto, tensor: str) -> TensorRange:
    found = collect_statistics(model, tensors_to_calibrate(model), make_images(), threads=1)[tensor]
    return TensorRange(min(found.low, 0.0), found.high)


def test_the_graph_computes_the_same_around_another_middle() -> None:
    model = make_graph()
    before = seen(model, TENSOR)
    moved, ranges = centre(model, {TENSOR: before})
    for first, second in zip(outputs(model), outputs(moved), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-5)
    (old,), (new,) = outputs(model, [TENSOR]), outputs(moved, [TENSOR])
    middle = float(np.float16(before.high / 2))
    np.testing.assert_allclose(new, old - middle, atol=1e-5)
    assert ranges[TENSOR].low == -middle
    assert ranges[TENSOR].high == pytest.approx(middle, rel=1e-3)
    assert [n.op_type for n in moved.graph.node] == [n.op_type for n in model.graph.node]


def test_values_beyond_the_range_are_cut_where_they_were() -> None:
    """Defects may exceed what good images showed: the clip stays at its limit, whatever range the integers cover."""
    model = make_graph()
    moved, _ = centre(model, {TENSOR: TensorRange(0.0, 1.0)})
    (old,), (new,) = outputs(model, [TENSOR]), outputs(moved, [TENSOR])
    assert old.max() > 1.0
    np.testing.assert_allclose(new, old - 0.5, atol=1e-5)
    clips = [n for n in moved.graph.node if n.op_type == "Clip"]
    limits = {n.output[0]: [float(Graph(moved).constant(name)) for name in n.input[1:]] for n in clips}
    assert limits == {"expand.out.clip": [0.0, 6.0], TENSOR: [-0.5, 5.5]}


def test_only_what_unpadded_convolutions_read_is_moved() -> None:
    model = make_graph()
    assert centred_tensors(model) == [TENSOR]  # the other one is read by a padded convolution


def change_reader(model: onnx.ModelProto) -> None:
    next(a for a in node(model, "project").attribute if a.name == "pads").ints[0] = 1


def add_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info(TENSOR, onnx.TensorProto.FLOAT, None))


def add_reader(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Abs", [TENSOR], ["also"], "also"))


def read_before_clip(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Abs", ["depthwise.out"], ["also"], "also"))


def clip_below_zero(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    graph.set_constant("below", np.array(-1.0, np.float32))
    next(n for n in graph.nodes if n.output[0] == TENSOR).input[1] = "below"
    model.CopyFrom(graph.model)


def pad_the_same(model: onnx.ModelProto) -> None:
    reader = node(model, "project")
    del reader.attribute[:]
    reader.attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))


@pytest.mark.parametrize(
    "change", [change_reader, add_output, add_reader, read_before_clip, clip_below_zero, pad_the_same]
)
def test_anything_else_that_would_see_the_move_forbids_it(change: Callable[[onnx.ModelProto], None]) -> None:
    model = make_graph()
    change(model)
    assert centred_tensors(model) == []


def test_a_reader_without_a_bias_gets_one() -> None:
    model = make_graph()
    del node(model, "project").input[2:]
    moved, _ = centre(model, {TENSOR: seen(model, TENSOR)})
    for first, second in zip(outputs(model), outputs(moved), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-5)


def quantiser(layout: str, recipe: Recipe) -> Quantiser:
    options = Int8Options(layout)  # type: ignore[arg-type]
    return Quantiser(make_graph(), make_images(), recipe, options, lambda *_: None, threads=1)


def test_tensorrts_form_rounds_to_half_the_step() -> None:
    plain = quantiser("tensorrt", Recipe(centre=False))
    moved = quantiser("tensorrt", Recipe())
    assert moved.ranges[TENSOR].high == pytest.approx(plain.ranges[TENSOR].high / 2, rel=1e-3)
    others = set(plain.ranges) - {TENSOR}
    assert {name: moved.ranges[name] for name in others} == {name: plain.ranges[name] for name in others}

    def error(form: Quantiser) -> float:
        exact, rounded = outputs(make_graph())[0], outputs(form.graph(set(form.candidates) - {"project"}))[0]
        return float(np.square(rounded - exact).mean())

    assert error(moved) < 0.6 * error(plain)


def test_onnx_runtimes_form_has_no_need_of_it() -> None:
    """Centring changes nothing for ONNX Runtime, whose integers have a zero point."""
    with_it, without = (quantiser("onnxruntime", Recipe(centre=value)) for value in (True, False))
    assert with_it.graph().SerializeToString() == without.graph().SerializeToString()
