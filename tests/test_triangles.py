"""Triangular matrices of a graph: blocks give the same product, and only what is not zero is stored."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgead.triangles import BLOCKS, MIN_CHANNELS, is_triangular, join_triangles, split_triangles, stored_numbers

POSITIONS = 6


def graph_of(matrix: NDArray[np.float32]) -> onnx.ModelProto:
    """A graph `y = x W`, with one matrix per position."""
    positions, channels, _ = matrix.shape
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [positions, "n", channels]) for name in "xy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    graph = helper.make_graph([node], "one", values[:1], values[1:], [numpy_helper.from_array(matrix, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def triangular(channels: int) -> NDArray[np.float32]:
    return np.triu(np.random.default_rng(channels).standard_normal((POSITIONS, channels, channels))).astype(np.float32)


def result_of(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": x})[0])


@pytest.mark.parametrize("channels", [MIN_CHANNELS, 35, 176])
def test_blocks_give_the_product(channels: int) -> None:
    """Widths that the number of blocks divides and others; several images at once."""
    matrix = triangular(channels)
    model, whole = graph_of(matrix), graph_of(matrix)
    x = np.random.default_rng(1).standard_normal((POSITIONS, 3, channels)).astype(np.float32)
    split_triangles(model)
    assert [node.op_type for node in model.graph.node].count("MatMul") == BLOCKS
    np.testing.assert_allclose(result_of(model, x), result_of(whole, x), rtol=1e-4, atol=1e-4)
    stored = sum(numpy_helper.to_array(tensor).size for tensor in model.graph.initializer if len(tensor.dims) == 3)
    assert stored == stored_numbers(matrix) < 0.65 * matrix.size


def test_joined_again_it_is_the_same_graph() -> None:
    """Matrix to the bit, names, and no constant that nothing reads."""
    matrix = triangular(44)
    model = graph_of(matrix)
    split_triangles(model)
    join_triangles(model)
    expected = graph_of(matrix)
    assert list(model.graph.node) == list(expected.graph.node)
    assert list(model.graph.initializer) == list(expected.graph.initializer)


def test_what_is_not_triangular_stays() -> None:
    """One number below one diagonal, a small matrix, a matrix with a second reader."""
    full = triangular(40)
    full[3, 20, 5] = 1e-30
    assert not is_triangular(full)
    for matrix in (full, triangular(MIN_CHANNELS - 1), np.transpose(triangular(40), (0, 2, 1)).copy()):
        model = graph_of(matrix)
        split_triangles(model)
        assert model == graph_of(matrix)
    twice = graph_of(triangular(40))
    twice.graph.node.append(helper.make_node("Abs", ["w"], ["other"], "other"))
    before = twice.SerializeToString()
    split_triangles(twice)
    assert twice.SerializeToString() == before


def test_other_graphs_are_joined_to_themselves() -> None:
    """A Concat of other products is left alone."""
    model = graph_of(triangular(40))
    before = model.SerializeToString()
    join_triangles(model)
    assert model.SerializeToString() == before
