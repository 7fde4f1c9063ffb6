"""Products with one matrix per position, in integers for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgead.builder.backends import saturates_in_int8
from edgead.engines.onnx_session import open_session, write_optimised
from edgead.precision.int8 import Int8Options, position_products, tensors_to_calibrate, to_int8
from edgead.precision.quantiser import Quantiser
from edgead.precision.recipe import Recipe
from edgead.triangles import MIN_CHANNELS, split_triangles

POSITIONS, CHANNELS = 6, 5


def make_product(seed: int, spread: float) -> tuple[onnx.ModelProto, np.ndarray]:
    """`x` `(P, N, C)` times one matrix per position, and values of x whose channels differ by `spread`."""
    random = np.random.default_rng(seed)
    scale = np.geomspace(1.0, spread, CHANNELS)
    weight = (random.normal(size=(POSITIONS, CHANNELS, CHANNELS)) / scale[:, None]).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [POSITIONS, "N", CHANNELS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [POSITIONS, "N", CHANNELS])],
        [numpy_helper.from_array(weight, "w")],
    )
    x = (random.normal(size=(POSITIONS, 3, CHANNELS)) * scale).astype(np.float32)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), x


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    (y,) = open_session(model.SerializeToString(), 1).run(None, {"x": x})
    return np.asarray(y)


def lowered(model: onnx.ModelProto, reach: np.ndarray, *, weights_first: bool = False) -> onnx.ModelProto:
    onnx.checker.check_model(model)
    options = Int8Options("onnxruntime", weights_first=weights_first)
    made = to_int8(model, {}, ["product"], options, {"x": reach})
    onnx.checker.check_model(made)
    return made


@given(seed=st.integers(0, 10_000), spread=st.sampled_from([1.0, 100.0, 1e4]))
@settings(max_examples=30, deadline=None)
def test_channels_of_any_scale_keep_their_eight_bits(seed: int, spread: float) -> None:
    """Each channel has a step of its own: the result is off by what eight bits on either side explain."""
    model, x = make_product(seed, spread)
    reach = np.abs(x).max(axis=(0, 1))
    made = lowered(model, reach)
    weight = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    by_x = np.einsum("c,pck->pk", reach / 127 / 2, np.abs(weight))
    steps = np.abs(weight * reach[:, None]).max(axis=1) / 127
    bound = by_x[:, None] + np.einsum("pnc,pk->pnk", np.abs(x) / reach, steps / 2) + 1e-4 * np.abs(run(model, x)).max()
    assert (np.abs(run(made, x) - run(model, x)) <= 1.1 * bound).all()
    assert [node.op_type for node in made.graph.node].count("MatMulInteger") == 1
    assert not position_products(made)


@given(factor=st.floats(1e-3, 1e6))
@settings(max_examples=20, deadline=None)
def test_what_was_never_seen_is_not_cut(factor: float) -> None:
    """A defect may exceed every good image: the step grows with it."""
    model, x = make_product(0, 1.0)
    made = lowered(model, np.abs(x).max(axis=(0, 1)))
    usual = run(made, x)
    np.testing.assert_allclose(run(made, x * np.float32(factor)), usual * factor, rtol=0.05, atol=0.05 * factor)


def test_weights_are_unsigned_and_products_exact_to_the_integer() -> None:
    """Signed weights would saturate on x86 processors without VNNI."""
    model, x = make_product(0, 1.0)
    made = lowered(model, np.abs(x).max(axis=(0, 1)))
    values = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    assert values["product/product/weight"].dtype == np.uint8
    equal = x * values["product/product/per_reach"]
    step = np.maximum(np.abs(equal).max(axis=-1, keepdims=True) / 127, 1e-7)
    weight = (values["product/product/weight"].astype(np.float64) - 128) * values["product/product/scale"]
    wanted = np.einsum("pnc,pck->pnk", np.rint(equal / step) * step, weight)
    np.testing.assert_allclose(run(made, x), wanted, rtol=1e-3, atol=2e-2)


@pytest.mark.skipif(saturates_in_int8(), reason="needs VNNI, as the form does")
@pytest.mark.parametrize("images", [1, 3])
def test_matrices_on_the_left_give_the_same_integers(images: int) -> None:
    model, x = make_product(0, 100.0)
    reach = np.abs(x).max(axis=(0, 1))
    x = x[:, :images]
    right, left = (lowered(model, reach, weights_first=first) for first in (False, True))
    np.testing.assert_array_equal(run(left, x), run(right, x))
    (product,) = (node for node in left.graph.node if node.op_type == "MatMulInteger")
    matrices = next(t for t in left.graph.initializer if t.name == product.input[0])
    assert list(matrices.dims) == [POSITIONS, CHANNELS, CHANNELS]


def test_onnx_runtime_joins_no_transposes_across_a_product_with_matrices_on_the_left(tmp_path: Path) -> None:
    """One of all three axes takes ten times as long as the two that it joins."""
    model, x = make_product(0, 1.0)
    nodes = [
        helper.make_node("Transpose", ["map"], ["x"], "before", perm=[2, 0, 1]),
        *model.graph.node,
        helper.make_node("Transpose", ["y"], ["result"], "after", perm=[1, 2, 0]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CHANNELS, POSITIONS]) for name in ("map", "result")
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], model.graph.initializer)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = lowered(whole, np.abs(x).max(axis=(0, 1)), weights_first=True)
    write_optimised(made.SerializeToString(), tmp_path / "model.onnx")
    nodes = onnx.load(str(tmp_path / "model.onnx")).graph.node
    orders = [tuple(helper.get_attribute_value(n.attribute[0])) for n in nodes if n.op_type == "Transpose"]
    assert orders
    assert (2, 1, 0) not in orders


def test_a_channel_that_is_always_zero_divides_by_nothing() -> None:
    model, x = make_product(0, 1.0)
    x[:, :, 0] = 0.0
    assert np.isfinite(run(lowered(model, np.abs(x).max(axis=(0, 1))), x)).all()


def test_its_input_is_calibrated_and_tensorrt_keeps_it() -> None:
    model, x = make_product(0, 1.0)
    assert tensors_to_calibrate(model) == ["x"]
    with pytest.raises(ValueError, match="product"):
        to_int8(model, {}, ["product"], Int8Options("tensorrt"), {"x": np.abs(x).max(axis=(0, 1))})


def test_a_matrix_in_blocks_becomes_the_same_integers() -> None:
    """A graph whose triangular matrices are split has the INT8 form of the one that is not."""
    random = np.random.default_rng(0)
    channels = MIN_CHANNELS
    weight = np.triu(random.normal(size=(4, channels, channels))).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "shape"], ["rows"], "rows"),
        helper.make_node("Transpose", ["rows"], ["x"], "turn", perm=[1, 0, 2]),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
        helper.make_node("ReduceMean", ["y"], ["anomaly_map"], "mean", axes=[2], keepdims=0),
    ]
    shape = np.asarray([-1, 4, channels], np.int64)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, channels // 4, 4])],
        [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [4, "N"])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(shape, "shape")],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    split = onnx.ModelProto()
    split.CopyFrom(whole)
    split_triangles(split)
    images = random.integers(0, 256, (8, 4, channels // 4, 4)).astype(np.uint8)
    recipe = Recipe(bias_correction=False)
    made = [
        Quantiser(model, images, recipe, Int8Options("onnxruntime"), lambda *_: None, threads=1)
        for model in (whole, split)
    ]
    assert made[1].candidates == made[0].candidates == ["product"]
    assert made[1].graph().SerializeToString() == made[0].graph().SerializeToString()
    assert made[1].coverage() == 1.0
