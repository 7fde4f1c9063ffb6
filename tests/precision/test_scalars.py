"""Constants of equal values become scalars where that changes no shape and no bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.engines.onnx_session import open_session
from edgead.precision.scalars import use_scalars


def make_model(operator: str, value: np.ndarray, channels: int) -> onnx.ModelProto:
    """One operator on `(N, channels, 2, 2)`."""
    shape = ["N", channels, 2, 2]
    result = ["N", max(channels, value.shape[1] if value.ndim == 4 else 1), 2, 2]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "c"], ["y"], "node")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(value.astype(np.float32), "c")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("operator", "value", "channels", "is_scalar"),
    [
        ("Mul", np.full((1, 3, 1, 1), 0.1), 3, True),
        ("Add", np.full((3, 1, 1), -1.7), 3, True),
        ("Add", np.array([1.0, 1.0, 2.0]).reshape(1, 3, 1, 1), 3, False),
        ("Mul", np.full((1, 3, 1, 1), 0.1), 1, False),
        ("Add", np.full((4, 1, 2, 2), 1.0), 3, False),
        ("Sub", np.full((1, 3, 1, 1), 0.1), 3, False),
    ],
)
def test_only_what_keeps_the_shape_becomes_a_scalar(
    operator: str, value: np.ndarray, channels: int, is_scalar: bool
) -> None:
    model = make_model(operator, value, channels)
    changed = use_scalars(model)
    (constant,) = changed.graph.initializer
    assert (list(constant.dims) == []) == is_scalar
    x = np.random.default_rng(0).normal(size=(4, channels, 2, 2)).astype(np.float32)
    before, after = (open_session(m.SerializeToString(), 1).run(None, {"x": x})[0] for m in (model, changed))
    np.testing.assert_array_equal(before, after)
