"""The INT8 form: right numbers, the layout that each backend fuses, and nothing touched that shall stay float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgead.builder.backends import saturates_in_int8
from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.onnx_session import open_session, write_optimised
from edgead.precision.fp16 import half_between_integers
from edgead.precision.int8 import (
    Int8Options,
    Layout,
    activation_parameters,
    quantisable_nodes,
    quantise_weight,
    tensors_to_calibrate,
    to_int8,
)
from edgead.precision.ranges import TensorRange, choose_range, collect_statistics

from ..export.tensorrt_operators import operator_problems, versions
from .graphs import make_graph, make_images

LAYOUTS: tuple[Layout, ...] = ("tensorrt", "onnxruntime")


def ranges_of(model: onnx.ModelProto, *, symmetric: bool) -> dict[str, TensorRange]:
    found = collect_statistics(model, tensors_to_calibrate(model), make_images(), threads=1)
    return {name: choose_range(value, "minmax", symmetric=symmetric) for name, value in found.items()}


def quantised(
    layout: Layout, keep: tuple[str, ...] = (), *, half_scales: bool = False
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    model = make_graph()
    nodes = [name for name in quantisable_nodes(model) if name not in keep]
    ranges = ranges_of(model, symmetric=layout == "tensorrt")
    options = Int8Options(layout, half_scales=half_scales, reduce_range=layout == "onnxruntime" and saturates_in_int8())
    return model, to_int8(model, ranges, nodes, options)


def maps(model: onnx.ModelProto) -> np.ndarray:
    result: np.ndarray = open_session(model.SerializeToString(), 1).run(["anomaly_map"], {"image": make_images(4, 9)})[
        0
    ]
    return result


def relative(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).mean() / np.abs(first).mean())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_give_nearly_the_same_maps(layout: Layout) -> None:
    """A few per cent off with everything in integers, less with fewer layers, nothing with none."""
    model, full = quantised(layout)
    _, less = quantised(layout, ("stem", "expand", "depthwise", "project"))
    _, none = quantised(layout, tuple(quantisable_nodes(model)))
    reference = maps(model)
    assert 1e-4 < relative(reference, maps(full)) < 0.05
    assert relative(reference, maps(less)) < relative(reference, maps(full))
    np.testing.assert_array_equal(maps(none), reference)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_graph_is_checked_onnx(layout: Layout) -> None:
    _, model = quantised(layout)
    onnx.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("version", versions())
def test_tensorrt_takes_it(version: str) -> None:
    """Symmetric, float biases, weights per channel: what the table says of every version."""
    _, model = quantised("tensorrt")
    assert operator_problems(model, version) == []


def test_onnxruntime_layout_is_not_for_tensorrt() -> None:
    """The table finds the zero points and integer biases that TensorRT refuses, so the test above can fail."""
    _, model = quantised("onnxruntime")
    assert operator_problems(model, versions()[0])


def test_half_between_integers_is_for_opset_19() -> None:
    """Scales and everything between integers are float16, TensorRT 10 and later take it, 8 does not."""
    model, full = quantised("tensorrt", ("stem",), half_scales=True)
    half = half_between_integers(full, {"cast", "transpose", "multiply", "add", "square", "mean", "score"})
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    scales = [node.input[1] for node in half.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert scales
    assert {types[name] for name in scales} == {TensorProto.FLOAT16}
    assert types[next(node.input[1] for node in half.graph.node if node.name == "stem")] == TensorProto.FLOAT16
    problems = {version: operator_problems(half, version) for version in versions()}
    assert problems[versions()[0]]
    assert not any(problems[version] for version in versions()[1:])
    assert relative(maps(full), maps(half)) < 0.01
    assert relative(maps(model), maps(half)) < 0.05


def test_tensorrt_layout() -> None:
    """One pair in front of every convolution and of the skip branch; nothing behind a convolution."""
    _, model = quantised("tensorrt")
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    producer = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert [producer[node.input[i]].op_type for i in (0, 1)] == ["DequantizeLinear"] * 2
            assert constants[node.input[2]].dtype == np.float32
        if node.op_type == "QuantizeLinear":
            assert not constants[node.input[2]].any()
    residual = next(node for node in model.graph.node if node.name == "residual")
    assert [producer[name].op_type for name in residual.input] == ["DequantizeLinear", "Conv"]
    clip = next(node for node in model.graph.node if node.name == "expand.out/clip")
    assert producer[clip.input[0]].op_type == "Conv"


def test_onnxruntime_fuses_every_convolution(tmp_path: Path) -> None:
    """The optimised engine has integer convolutions and sums, and no float one."""
    _, model = quantised("onnxruntime")
    write_optimised(model.SerializeToString(), tmp_path / "engine.onnx")
    found = Counter(node.op_type for node in onnx.load(str(tmp_path / "engine.onnx")).graph.node)
    assert found["QLinearConv"] == 6
    assert found["QLinearAdd"] == 1
    assert not found["Conv"] + found["FusedConv"] + found["Clip"]
    with OnnxRunner(tmp_path / "engine.onnx", threads=1, engine_name="onnxruntime-int8") as runner:
        assert relative(maps(model), runner.infer(make_images(4, 9))["anomaly_map"]) < 1e-3


def test_a_float_layer_between_integers_stays_float(tmp_path: Path) -> None:
    """ONNX Runtime would quantise its weights by itself, with one scale for all channels."""
    _, model = quantised("onnxruntime", ("depthwise",))
    write_optimised(model.SerializeToString(), tmp_path / "engine.onnx")
    nodes = onnx.load(str(tmp_path / "engine.onnx")).graph.node
    assert Counter(node.op_type for node in nodes)["QLinearConv"] == 5


def test_weights_are_those_of_onnxruntimes_quantiser(tmp_path: Path) -> None:
    """Same integers and scales as `quantize_static` gives, per channel and symmetric."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"image": make_images(1)}]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    model, ours = quantised("tensorrt")
    onnx.save(model, str(tmp_path / "m.onnx"))
    quantize_static(
        str(tmp_path / "m.onnx"), str(tmp_path / "q.onnx"), Reader(), per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"],
        extra_options={"WeightSymmetric": True, "ActivationSymmetric": True, "QuantizeBias": False},
    )  # fmt: skip
    theirs = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(tmp_path / "q.onnx")).graph.initializer}
    mine = {t.name: numpy_helper.to_array(t) for t in ours.graph.initializer}
    for name in quantisable_nodes(model):
        scale = mine[f"{name}/weight/scale"]
        np.testing.assert_allclose(scale, theirs[f"{name}.weight_scale"], rtol=1e-5)
        difference = mine[f"{name}/weight/quantised"].astype(int) - theirs[f"{name}.weight_quantized"].astype(int)
        assert np.abs(difference).max() <= 1  # a half may round either way
        assert np.mean(difference != 0) < 0.02


@pytest.mark.parametrize("limit", [64, 127])
def test_weights_are_off_by_half_a_step(limit: int) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    weight[1] = 0.0
    stored, scale = quantise_weight(weight, limit)
    assert np.abs(stored).max() == limit
    assert not stored[1].any()
    assert np.all(np.abs(stored * scale[:, None, None, None] - weight) <= 0.5001 * scale[:, None, None, None])


@pytest.mark.parametrize("reach", [0.37, 1.0, 29.871])
def test_last_bits_do_not_choose_the_zero_point(reach: float) -> None:
    """The middle of 255 steps lies between two integers; ranges that processors measure differ in their last bits."""
    around = [reach * (1.0 + sign * 1e-6) for sign in (-1, 0, 1)]
    found = {
        activation_parameters(TensorRange(-low, high), Int8Options("onnxruntime"))[1]
        for low in around
        for high in around
    }
    assert found == {127}


@pytest.mark.parametrize(("low", "high", "zero"), [(0.0, 6.0, 0), (-6.0, 0.0, 255), (-1.0, 3.0, 64), (-0.01, 6.0, 0)])
def test_zero_points(low: float, high: float, zero: int) -> None:
    scale, found = activation_parameters(TensorRange(low, high), Int8Options("onnxruntime"))
    assert found == zero
    assert scale == pytest.approx((high - low) / 255.0)
