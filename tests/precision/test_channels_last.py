"""Nothing but data moves: the same products and the same maps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgead.engines.onnx_session import open_session
from edgead.precision.channels_last import keep_channels_last

HEIGHT, WIDTH, CHANNELS = 3, 4, (2, 3)
TOTAL = sum(CHANNELS)
POSITIONS = HEIGHT * WIDTH


def make_model(
    levels: int = 1, *, back: tuple[int, ...] = (1, 2, 0), keepdims: int = 0, axis: int = 1
) -> onnx.ModelProto:
    """Two features `(N, C, H, W)` joined, a product with a matrix per position, and a map of mean squares, per level."""
    random = np.random.default_rng(0)
    constants: dict[str, NDArray[np.generic]] = {
        "columns": np.asarray([-1, TOTAL, POSITIONS], np.int64),
        "shape": np.asarray([-1, TOTAL, HEIGHT, WIDTH], np.int64),
    }
    nodes, outputs = [], []
    for level in range(levels):
        constants[f"w{level}"] = random.normal(size=(POSITIONS, TOTAL, TOTAL)).astype(np.float32)
        nodes += [
            helper.make_node("Concat", ["a", "b"], [f"c{level}"], f"concat{level}", axis=axis),
            helper.make_node("Reshape", [f"c{level}", "columns"], [f"r{level}"], f"columns{level}"),
            helper.make_node("Transpose", [f"r{level}"], [f"x{level}"], f"rows{level}", perm=(2, 0, 1)),
            helper.make_node("MatMul", [f"x{level}", f"w{level}"], [f"y{level}"], f"product{level}"),
            helper.make_node("Transpose", [f"y{level}"], [f"t{level}"], f"transpose{level}", perm=back),
            helper.make_node("Reshape", [f"t{level}", "shape"], [f"z{level}"], f"reshape{level}"),
            helper.make_node("Mul", [f"z{level}", f"z{level}"], [f"s{level}"], f"square{level}"),
            helper.make_node("ReduceMean", [f"s{level}"], [f"m{level}"], f"mean{level}", axes=[1], keepdims=keepdims),
        ]
        outputs.append(helper.make_tensor_value_info(f"m{level}", TensorProto.FLOAT, [None] * (3 + keepdims)))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, HEIGHT, WIDTH])
        for name, channels in zip("ab", CHANNELS, strict=True)
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, images: int, names: list[str] | None = None) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(1)
    feed = {
        name: random.normal(size=(images, channels, HEIGHT, WIDTH)).astype(np.float32)
        for name, channels in zip("ab", CHANNELS, strict=True)
    }
    return list(open_session(model.SerializeToString(), 1).run(names, feed))


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("images", [1, 2])
def test_the_same_maps(levels: int, images: int) -> None:
    before = make_model(levels)
    after = keep_channels_last(before)
    onnx.checker.check_model(after)
    for first, second in zip(run(before, images), run(after, images), strict=True):
        assert second.shape == (images, HEIGHT, WIDTH)
        np.testing.assert_allclose(second, first, rtol=1e-5)
    front = ["Transpose", "Transpose", "Concat", "Reshape", "Transpose", "MatMul"]
    assert kinds(after) == [*front, "Mul", "ReduceMean", "Transpose", "Reshape"] * levels


def test_the_product_reads_and_gives_the_same_bits() -> None:
    before = make_model()
    for name in ("x0", "y0"):
        before.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3))
    after = keep_channels_last(before)
    assert kinds(after)[:3] == ["Transpose", "Transpose", "Concat"]
    for first, second in zip(run(before, 2, ["x0", "y0"]), run(after, 2, ["x0", "y0"]), strict=True):
        np.testing.assert_array_equal(first, second)


def reading(name: str) -> onnx.ModelProto:
    """With another reader of a tensor."""
    model = make_model()
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def product_of_two() -> onnx.ModelProto:
    model = make_model()
    next(node for node in model.graph.node if node.op_type == "Mul").input[1] = "other"
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, TOTAL, 1, 1), np.float32), "other"))
    return model


def other_columns() -> onnx.ModelProto:
    """The Reshape before the product takes the positions for channels."""
    model = make_model()
    (columns,) = [tensor for tensor in model.graph.initializer if tensor.name == "columns"]
    columns.CopyFrom(numpy_helper.from_array(np.asarray([-1, POSITIONS, TOTAL], np.int64), "columns"))
    return model


FRONT, BACK = ["Concat", "Reshape", "Transpose", "MatMul"], ["Transpose", "Reshape", "Mul", "ReduceMean"]


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        (reading("c0"), FRONT),
        (reading("r0"), FRONT),
        (reading("t0"), BACK),
        (reading("z0"), BACK),
        (reading("s0"), BACK),
        (product_of_two(), BACK),
        (make_model(keepdims=1), BACK),
        (make_model(back=(1, 0, 2)), BACK),
        (make_model(axis=2), FRONT),
        (other_columns(), FRONT),
    ],
)
def test_what_something_else_reads_stays(model: onnx.ModelProto, kept: list[str]) -> None:
    after = kinds(keep_channels_last(model))
    assert (after[:4] if kept is FRONT else after[-4:]) == kept
