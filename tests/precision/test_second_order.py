"""Second-order rounding changes what a layer gives less than rounding every weight to the nearest integer."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.engines.onnx_session import open_session
from edgead.precision import second_order
from edgead.precision.bias_correction import bias_errors
from edgead.precision.graph import Graph
from edgead.precision.int8 import (
    Int8Options,
    Layout,
    quantisable_nodes,
    quantise_weight,
    tensors_to_calibrate,
    to_int8,
)
from edgead.precision.quantiser import Quantiser
from edgead.precision.ranges import TensorRange, choose_range, collect_statistics
from edgead.precision.recipe import Recipe
from edgead.precision.second_order import round_weights, second_order_weights

from .graphs import make_graph, make_images

NODES = quantisable_nodes(make_graph())
LAYOUTS: tuple[Layout, ...] = ("tensorrt", "onnxruntime")


def change(
    stored: NDArray[np.int8], weights: NDArray[np.float64], moments: NDArray[np.float64], scales: NDArray[np.float64]
) -> float:
    """Mean squared change of the products, over all rows."""
    difference = stored * scales[..., None] - weights
    return float(np.einsum("gki,gij,gkj->", difference, moments, difference))


def correlated(random: np.random.Generator, groups: int, n: int) -> NDArray[np.float64]:
    """Moments of inputs that mostly follow a few common causes."""
    causes = random.normal(size=(groups, n, max(1, n // 4)))
    return causes @ causes.transpose(0, 2, 1) + 0.05 * np.eye(n)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), groups=st.integers(1, 3), n=st.integers(8, 24), reach=st.sampled_from([1e-3, 1.0, 1e3])
)
def test_correlated_inputs_change_less(seed: int, groups: int, n: int, reach: float) -> None:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(groups, 16, n)) * reach
    scales = np.abs(weights).max(axis=2) / 127.0
    moments = correlated(random, groups, n)
    stored = round_weights(weights, moments, scales, 127)
    nearest = np.rint(weights / scales[..., None]).astype(np.int8)
    assert change(stored, weights, moments, scales) < 0.6 * change(nearest, weights, moments, scales)
    assert np.abs(stored.astype(int)).max() <= 127


def test_independent_inputs_keep_the_nearest_integers() -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(2, 5, 9))
    scales = np.abs(weights).max(axis=2) / 127.0
    moments = np.stack([np.diag(random.uniform(0.1, 5.0, size=9)) for _ in range(2)])
    np.testing.assert_array_equal(
        round_weights(weights, moments, scales, 127), np.rint(weights / scales[..., None]).astype(np.int8)
    )


def test_equal_inputs_keep_the_sum_of_the_weights() -> None:
    """Rounded alone, sixteen weights of 0.4 steps become 0, and their sum with them."""
    stored = round_weights(np.full((1, 1, 16), 0.4), np.ones((1, 16, 16)), np.ones((1, 1)), 127)
    assert abs(int(stored.sum()) - 6.4) < 1.0


@pytest.mark.parametrize("size", [0.0, 1e-12])
def test_inputs_that_do_not_change_keep_the_nearest_integers(size: float) -> None:
    weights = np.random.default_rng(1).normal(size=(1, 3, 4))
    scales = np.abs(weights).max(axis=2) / 127.0
    stored = round_weights(weights, np.full((1, 4, 4), size), scales, 127)
    np.testing.assert_array_equal(stored, np.rint(weights / scales[..., None]).astype(np.int8))


def test_integers_stay_within_the_limit() -> None:
    random = np.random.default_rng(2)
    weights = random.normal(size=(1, 64, 12))
    scales = np.abs(weights).max(axis=2) / 64.0
    stored = round_weights(weights, correlated(random, 1, 12), scales, 64)
    assert np.abs(stored.astype(int)).max() == 64


def outputs(model: onnx.ModelProto, node: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    extended.graph.output.append(helper.make_tensor_value_info(f"{node}.out", TensorProto.FLOAT, None))
    (values,) = open_session(extended.SerializeToString(), 1).run([f"{node}.out"], {"image": images})
    return np.asarray(values)


def ranges_of(model: onnx.ModelProto, images: NDArray[np.uint8], layout: Layout) -> dict[str, TensorRange]:
    statistics = collect_statistics(model, tensors_to_calibrate(model), images, threads=1)
    return {name: choose_range(found, "minmax", symmetric=layout == "tensorrt") for name, found in statistics.items()}


def with_geometry(node: str, **changes: int | list[int]) -> onnx.ModelProto:
    """The small graph cut off after one convolution with other strides or padding."""
    graph = Graph(make_graph())
    found = next(n for n in graph.nodes if n.name == node)
    for name, value in changes.items():
        kept = [one for one in found.attribute if one.name != name]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(name, value)])
    last = [n.name for n in graph.nodes].index(node) + 1
    del graph.model.graph.node[last:]
    del graph.model.graph.output[:]
    graph.model.graph.output.append(helper.make_tensor_value_info(f"{node}.out", TensorProto.FLOAT, None))
    graph.refresh()
    graph.drop_unused()
    return graph.model


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("node", "changes"),
    [
        ("expand", {}),
        ("stem", {"strides": [2, 2]}),
        ("depthwise", {}),
        ("depthwise", {"strides": [2, 1], "pads": [0, 1, 1, 2]}),
    ],
)
def test_moments_are_those_of_the_inputs(layout: Layout, node: str, changes: dict[str, list[int]]) -> None:
    """Whatever the kernel's geometry: perturbed weights change the output as the moments say."""
    model = with_geometry(node, **changes)
    images = make_images(6)
    options = Int8Options(layout)
    ranges = ranges_of(make_graph(), images, layout)
    graph = Graph(model)
    place = next(n for n in graph.nodes if n.name == node)
    layer = second_order._layer(graph, place)
    source = str(place.input[0])
    extended = second_order._with_outputs(Graph(model), [source])
    session = open_session(extended.SerializeToString(), 1)
    rounded = []
    for index in range(len(images)):
        values = session.run([source], {"image": images[index : index + 1]})[0]
        steps = second_order._steps(values, ranges[source], options)
        layer.add(steps)
        rounded.append(steps)
    weight = np.random.default_rng(3).normal(size=layer.weight.shape).astype(np.float32)
    alone = onnx.ModelProto()
    alone.CopyFrom(model)
    del alone.graph.node[:]
    copy = onnx.NodeProto()
    copy.CopyFrom(place)
    del copy.input[:]
    copy.input.extend(["steps", "weight"])
    alone.graph.node.append(copy)
    del alone.graph.input[:]
    alone.graph.input.append(helper.make_tensor_value_info("steps", TensorProto.FLOAT, [None, *rounded[0].shape[1:]]))
    del alone.graph.initializer[:]
    alone.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    made = open_session(alone.SerializeToString(), 1).run(None, {"steps": np.concatenate(rounded).astype(np.float32)})[
        0
    ]
    rows = weight.reshape(layer.groups, -1, layer.total.shape[1]).astype(np.float64)
    expected = np.einsum("gki,gij,gkj->gk", rows, layer.moments(centred=False), rows).ravel()
    np.testing.assert_allclose(expected, (made.astype(np.float64) ** 2).mean(axis=(0, 2, 3)), rtol=1e-4)
    spread = np.einsum("gki,gij,gkj->gk", rows, layer.moments(centred=True), rows).ravel()
    np.testing.assert_allclose(spread, made.astype(np.float64).var(axis=(0, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("node", ["expand", "project", "last"])
def test_a_layer_changes_less(layout: Layout, node: str) -> None:
    """On images that the rounding did not see, with corrected biases, seven-bit weights and float activations after it."""
    model = make_graph()
    images, others = make_images(16), make_images(8, 50)
    options = Int8Options(layout, reduce_range=True)
    ranges = ranges_of(model, images, layout)
    weights = second_order_weights(model, ranges, [node], options, images, centred=True, threads=1)
    wanted = outputs(model, node, others)
    nearest = quantise_weight(np.asarray(Graph(model).constant(f"{node}.weight")), options.weight_limit)[0]
    assert weights[node].shape == nearest.shape
    assert (weights[node] != nearest).any()
    errors = {}
    for name, rounded in (("nearest", {}), ("second order", weights)):
        biases = bias_errors(model, ranges, [node], options, images, rounded=rounded, threads=1)
        # the float input and the rounded weights alone: rounded inputs add the same to both
        graph = Graph(model)
        place = next(n for n in graph.nodes if n.name == node)
        stored, scales = quantise_weight(np.asarray(graph.constant(place.input[1])), options.weight_limit)
        stored = rounded.get(node, stored)
        graph.set_constant(place.input[1], stored * scales.reshape(-1, 1, 1, 1))
        graph.add_to_bias(place, -biases[node])
        errors[name] = float(((outputs(graph.model, node, others) - wanted) ** 2).mean())
    assert errors["second order"] < errors["nearest"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_graph_holds_the_given_integers(layout: Layout) -> None:
    model = make_graph()
    images = make_images(4)
    ranges = ranges_of(model, images, layout)
    weight = np.asarray(Graph(model).constant("last.weight"))
    given_integers = np.full(weight.shape, 3, np.int8)
    made = Graph(to_int8(model, ranges, ["last", "project"], Int8Options(layout), rounded={"last": given_integers}))
    np.testing.assert_array_equal(made.constant("last/weight/quantised"), given_integers)
    project = quantise_weight(np.asarray(Graph(model).constant("project.weight")))[0]
    np.testing.assert_array_equal(made.constant("project/weight/quantised"), project)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("better", ["nearest", "second_order"])
def test_the_rounding_that_changes_the_maps_less_is_kept(layout: Layout, better: str) -> None:
    """With the layers that stay in float32 left out of the comparison; a rounding that was spoilt loses."""
    model = make_graph()
    options = Int8Options(layout, reduce_range=True)
    groups = make_images(4, 20), make_images(4, 30)
    found = Quantiser(model, make_images(8), Recipe(images=8), options, lambda *_: None, threads=1)
    second, nearest = found._roundings
    worse = {"nearest": second, "second_order": nearest}[better]
    spoilt = quantise_weight(np.asarray(Graph(found.model).constant("last.weight")), options.weight_limit)[0]
    cast(dict[str, NDArray[np.int8]], worse.weights)["last"] = -spoilt
    assert found.choose_rounding([], *groups) is (better == "second_order")
    made = Graph(found.graph(["stem"]))
    rounded = {name: quantise_weight(np.asarray(w), options.weight_limit)[0] for name, w in _weights(found)}
    same = [n for n in NODES if n != "stem" and np.array_equal(made.constant(f"{n}/weight/quantised"), rounded[n])]
    assert (len(same) == len(NODES) - 1) is (better == "nearest")
    # the spoilt layer does no harm where it stays in float32
    assert found.choose_rounding([*NODES], *groups) is True
    kept_out = [name for name in NODES if name != "project"]
    assert found.choose_rounding(kept_out, *groups) is (_error(found, second, groups) <= _error(found, nearest, groups))


def _error(found: Quantiser, rounding: Any, groups: tuple[NDArray[np.uint8], ...]) -> float:
    references = [found._maps(found.model, images) for images in groups]
    return found._effect(found._lowered(["project"], rounding), groups, references)


def test_groups_of_images_count_alike() -> None:
    """However few or many images one has."""
    found = Quantiser(
        make_graph(), make_images(8), Recipe(rounding="nearest"), Int8Options("tensorrt"), lambda *_: None, threads=1
    )
    few, many = make_images(2, 20), make_images(6, 30)
    one, other, both = (
        {layer.name: layer.error for layer in found.sensitivity(*groups)} for groups in ((few,), (many,), (few, many))
    )
    for name, error in both.items():
        assert error == pytest.approx((one[name] + other[name]) / 2)


def _weights(quantiser: Quantiser) -> list[tuple[str, NDArray[np.float32]]]:
    graph = Graph(quantiser.model)
    return [(node.name, graph.constant(node.input[1])) for node in graph.nodes if node.op_type == "Conv"]
