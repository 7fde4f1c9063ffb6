"""Multiply-adds and bytes of layers, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgead.commands.train import TrainResult
from edgead.precision.layers import layer_costs


def weights(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def test_a_block_with_a_skip() -> None:
    """Clip and Add are part of the convolution before them; the skip's tensor is read twice, and its own layer keeps it."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "second"),
        helper.make_node("Add", ["c", "b"], ["d"], "skip"),
        helper.make_node("MaxPool", ["d"], ["y"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 4, 4])
    graph = helper.make_graph(nodes, "g", [x], [y], [weights("w1", 4, 3, 3, 3), weights("w2", 4, 4, 1, 1)])
    first, second, pool = layer_costs(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))

    image, map_, small = 4 * 3 * 64, 4 * 4 * 64, 4 * 4 * 16
    assert (first.name, first.multiply_adds, first.n_bytes) == ("first", 4 * 3 * 9 * 64, image + 4 * 4 * 3 * 9 + map_)
    assert (second.name, second.multiply_adds, second.n_bytes) == ("second", 4 * 4 * 64, 3 * map_ + 4 * 16)
    assert (pool.operator, pool.multiply_adds, pool.n_bytes) == ("MaxPool", 0, map_ + small)
    assert first.members == {"first", "relu", "a", "b"}
    assert second.members == {"second", "skip", "c", "d"}
    assert second.intensity == 2 * second.multiply_adds / second.n_bytes


def test_a_bundle_keeps_its_multiply_adds(tiny_result: TrainResult) -> None:
    """The layers of a real graph add up to the bundle's stated cost, and each node is in one layer."""
    bundle = tiny_result.bundle
    proto = onnx.load(str(bundle.model_path))
    layers = layer_costs(proto)
    assert sum(layer.multiply_adds for layer in layers) == bundle.manifest.cost.multiply_adds
    names = [name for layer in layers for name in layer.members]
    assert len(names) == len(set(names))
    weights_bytes = sum(4 * int(np.prod(tensor.dims)) for tensor in proto.graph.initializer)
    assert sum(layer.n_bytes for layer in layers) > weights_bytes
