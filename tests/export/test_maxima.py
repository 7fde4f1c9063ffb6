"""The largest of many channels in parts: the same numbers from faster operators."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.export.maxima import MIN_CHANNELS, PARTS, split_maxima


def make_graph(channels: int) -> onnx.ModelProto:
    """A convolution to so many channels, and the largest of them at each place."""
    weight = np.random.default_rng(0).standard_normal((channels, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "affinity"),
        helper.make_node("ReduceMax", ["a"], ["y"], "largest", axes=[1], keepdims=0),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, size)
        for name, size in (("x", ["n", 3, 4, 5]), ("y", ["n", 4, 5]))
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def result_of(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("channels", [MIN_CHANNELS, 2048])
def test_the_largest_is_the_same_to_the_bit(channels: int) -> None:
    model, split = make_graph(channels), make_graph(channels)
    split_maxima(split)
    assert [node.op_type for node in split.graph.node] == ["Conv", "Split", "Max", "ReduceMax"]
    np.testing.assert_array_equal(result_of(split), result_of(model))


@pytest.mark.parametrize("channels", [MIN_CHANNELS - PARTS, MIN_CHANNELS + 1])
def test_few_channels_and_odd_numbers_are_left_alone(channels: int) -> None:
    model = make_graph(channels)
    split_maxima(model)
    assert model == make_graph(channels)
