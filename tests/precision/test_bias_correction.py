"""Rounding shifts no channel in the mean, once its bias is corrected."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgead.engines.onnx_session import open_session
from edgead.precision.bias_correction import bias_errors
from edgead.precision.graph import Graph
from edgead.precision.int8 import Int8Options, Layout, quantisable_nodes, tensors_to_calibrate, to_int8
from edgead.precision.quantiser import Quantiser
from edgead.precision.ranges import choose_range, collect_statistics
from edgead.precision.recipe import Recipe

from .graphs import make_graph, make_images

NODES = quantisable_nodes(make_graph())


def mean_of(model: onnx.ModelProto, tensor: str, images: np.ndarray) -> np.ndarray:
    """Mean of each channel of a tensor inside a graph."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    extended.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    (values,) = open_session(extended.SerializeToString(), 1).run([tensor], {"image": images})
    return np.asarray(values).mean(axis=(0, 2, 3))


def calibrated(model: onnx.ModelProto, layout: Layout) -> tuple[dict, Int8Options]:  # type: ignore[type-arg]
    statistics = collect_statistics(model, tensors_to_calibrate(model), make_images(8), threads=1)
    ranges = {n: choose_range(s, "minmax", symmetric=layout == "tensorrt") for n, s in statistics.items()}
    return ranges, Int8Options(layout, reduce_range=True)


@pytest.mark.parametrize("layout", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("node", ["expand", "depthwise", "last"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_of_every_channel_is_that_of_the_float_layer(layout: Layout, node: str, seed: int) -> None:
    """With one layer in integers, seven-bit weights and a mean far from 0, on the images that were measured."""
    model = make_graph(seed)
    ranges, options = calibrated(model, layout)
    images = make_images(8)
    errors = bias_errors(model, ranges, [node], options, images, threads=1)
    tensor = f"{node}.out"
    wanted = mean_of(model, tensor, images)
    without = mean_of(to_int8(model, ranges, [node], options), tensor, images) - wanted
    corrected = mean_of(to_int8(model, ranges, [node], options, bias_errors=errors), tensor, images) - wanted
    # ONNX Runtime's form also rounds the result, which the twin leaves out
    step = 0.0 if layout == "tensorrt" else (ranges[_result(model, node)].high - ranges[_result(model, node)].low) / 255
    assert np.abs(without).max() > 20 * 1e-5
    assert np.abs(corrected).max() < 1e-5 + 0.1 * step
    np.testing.assert_allclose(errors[node], without, atol=1e-5 + 0.1 * step)


def _result(model: onnx.ModelProto, node: str) -> str:
    graph = Graph(model)
    return graph.result_of(next(n for n in graph.nodes if n.name == node))


def test_errors_are_means_over_the_images() -> None:
    model = make_graph()
    ranges, options = calibrated(model, "tensorrt")
    images = make_images(6)
    whole = bias_errors(model, ranges, NODES, options, images, threads=1)
    parts = [bias_errors(model, ranges, NODES, options, images[i : i + 2], threads=1) for i in (0, 2, 4)]
    for name in NODES:
        np.testing.assert_allclose(whole[name], np.mean([part[name] for part in parts], axis=0), atol=1e-6)


def test_layers_in_float_keep_their_bias_and_a_missing_one_is_added() -> None:
    model = make_graph()
    graph = Graph(model)
    stem = next(node for node in graph.nodes if node.name == "stem")
    del stem.input[2]
    graph.refresh()
    graph.drop_unused()
    recipe = Recipe(bias_correction=True, rounding="nearest", images=4)
    found = Quantiser(graph.model, make_images(8), recipe, Int8Options("tensorrt"), lambda *_: None, threads=1)
    made = Graph(found.graph(["expand"]))
    np.testing.assert_array_equal(made.constant("expand.bias"), Graph(model).constant("expand.bias"))
    assert not np.array_equal(made.constant("last.bias"), Graph(model).constant("last.bias"))
    added = next(node for node in made.nodes if node.name == "stem")
    errors = bias_errors(found.model, found.ranges, ["stem"], found.options, make_images(8)[[0, 2, 5, 7]], threads=1)
    np.testing.assert_allclose(made.constant(added.input[2]), -errors["stem"])


def test_a_graph_that_rounding_does_not_change_has_no_errors() -> None:
    model = make_graph()
    graph = Graph(model)
    weight = graph.constant("stem.weight")
    graph.set_constant("stem.weight", np.zeros_like(weight))
    ranges, options = calibrated(graph.model, "tensorrt")
    errors = bias_errors(graph.model, ranges, ["stem"], options, make_images(4), threads=1)
    np.testing.assert_array_equal(errors["stem"], 0.0)
