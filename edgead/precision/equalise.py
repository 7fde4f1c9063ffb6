r"""Equalised channel ranges, so that one scale per tensor serves every channel.

A tensor between convolutions may have any scale per channel: multiply channel c by :math:`k_c` in its producer and divide
in its readers. ReLU commutes with that; so does a clip at an upper limit, as long as no value beyond limit / :math:`k_c`
occurs: a `margin` over the largest value of good images leaves room for defects there (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1, equalises two layers' weights;
here the activations' measured ranges decide, since weights have a scale per channel anyway).

Tensors that a residual sum ties together share their factors: the stream of a residual stage, of a uniform flow too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgead.precision.graph import Graph, attributes
from edgead.precision.int8 import is_residual_sum, quantisable_nodes
from edgead.precision.ranges import TensorStatistics

Factors = NDArray[np.float64]
# Factors have 10 bits: processors sum in different orders, and the last bits of a measurement should not change the
# integers of the weights.
MANTISSA = 1024


@dataclass
class _Group:
    """Tensors with common factors, their producers and their readers."""

    tensors: list[str] = field(default_factory=list)
    makers: list[onnx.NodeProto] = field(default_factory=list)
    readers: list[onnx.NodeProto] = field(default_factory=list)
    others: list[tuple[onnx.NodeProto, str]] = field(default_factory=list)
    limit: float = np.inf


def equalise(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], *, margin: float = 2.0, balance: float = 0.5
) -> onnx.ModelProto:
    """Rescale channels so that the ranges of a tensor's channels come closer together.

    Args:
        model: Float32 model.
        statistics: Statistics of `int8.tensors_to_calibrate`.
        margin: Factor over the largest value of good images that a channel before a clip can reach without being cut.
        balance: 1 makes the ranges equal; less leaves part of the difference in the activations, because the weights
            of a full convolution that reads a small channel get smaller than their row's scale resolves.

    Returns:
        A graph that is equivalent on all values within the margin.
    """
    graph = Graph(model)
    for group in _groups(graph):
        factors = _factors(group, graph, statistics, margin, balance)
        if factors is None:
            continue
        for maker in group.makers:
            _scale_rows(graph, maker, factors)
        for reader in group.readers:
            _scale_columns(graph, reader, 1.0 / factors)
        for number, (node, tensor) in enumerate(group.others):
            _undo(graph, node, tensor, 1.0 / factors, number)
    _insert_pending(graph)
    graph.drop_unused()
    return graph.model


def _groups(graph: Graph) -> list[_Group]:
    convolutions = set(quantisable_nodes(graph.model))
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if node.name in convolutions:
            root(graph.result_of(node))
        elif is_residual_sum(graph, node) and graph.activation_of(node) is None:
            for name in node.input:
                parent[root(name)] = root(node.output[0])
    groups: dict[str, _Group] = {}
    for name in list(parent):
        groups.setdefault(root(name), _Group()).tensors.append(name)
    return [group for group in groups.values() if _complete(group, graph, convolutions)]


def _complete(group: _Group, graph: Graph, convolutions: set[str]) -> bool:
    """Fill in producers and readers; False if anything but a convolution produces one of the tensors."""
    members = set(group.tensors)
    for tensor in group.tensors:
        maker = graph.producer.get(tensor)
        if maker is None or tensor in graph.outputs:
            return False
        if maker.op_type in ("Clip", "Relu"):
            limit = _limit(graph, maker)
            if limit is None:
                return False
            group.limit = min(group.limit, limit)
            maker = graph.producer.get(maker.input[0])
        if maker is not None and maker.name in convolutions:
            group.makers.append(maker)
        elif maker is None or not is_residual_sum(graph, maker) or maker.output[0] not in members:
            return False
        for reader in graph.consumers.get(tensor, []):
            if reader.name in convolutions and reader.input[0] == tensor:
                group.readers.append(reader)
            elif not is_residual_sum(graph, reader):
                group.others.append((reader, tensor))
            elif reader.output[0] not in members:
                return False
    return bool(group.makers and group.readers)


def _limit(graph: Graph, activation: onnx.NodeProto) -> float | None:
    """Upper limit of an activation that is 0 at and below 0; None for other activations."""
    if activation.op_type == "Relu":
        return float(np.inf)
    if len(activation.input) < 3 or not all(graph.is_constant(name) for name in activation.input[1:3]):
        return None
    low, high = (float(graph.constant(name)) for name in activation.input[1:3])
    return high if low == 0.0 else None


def _factors(
    group: _Group, graph: Graph, statistics: Mapping[str, TensorStatistics], margin: float, balance: float
) -> Factors | None:
    seen = [statistics[name] for name in group.tensors if name in statistics]
    if not seen:
        return None
    extremes = [np.maximum(np.abs(s.channel_low), np.abs(s.channel_high)) for s in seen]
    reach = np.max(np.stack(extremes), axis=0).astype(np.float64)
    if reach.max() <= 0.0:
        return None
    reach = np.maximum(reach, 1e-3 * reach.max())
    clipped = np.isfinite(group.limit)
    target = group.limit / margin if clipped else reach.max()
    full = all(attributes(reader).get("group", 1) == 1 for reader in group.readers)
    factors: Factors = (target / reach) ** (balance if full else 1.0)
    if clipped:
        factors = np.maximum(factors, 1.0)
    mantissa, exponent = np.frexp(factors)
    # rounded down: no channel may exceed the limit of its clip
    rounded: Factors = np.ldexp(np.floor(mantissa * MANTISSA) / MANTISSA, exponent)
    return rounded


def _scale_rows(graph: Graph, node: onnx.NodeProto, factors: Factors) -> None:
    """Multiply a convolution's output channels."""
    name = graph.own_constant(node, 1)
    weight = graph.constant(name)
    graph.set_constant(name, (weight * factors.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype))
    if len(node.input) > 2:
        name = graph.own_constant(node, 2)
        bias = graph.constant(name)
        graph.set_constant(name, (bias * factors).astype(bias.dtype))


def _scale_columns(graph: Graph, node: onnx.NodeProto, factors: Factors) -> None:
    """Multiply a convolution's weights of each input channel."""
    name = graph.own_constant(node, 1)
    weight = graph.constant(name)
    groups = int(attributes(node).get("group", 1))
    if groups == 1:
        scaled = weight * factors.reshape(1, -1, *[1] * (weight.ndim - 2))
    else:
        per_group = factors.reshape(groups, weight.shape[1])
        rows = np.repeat(per_group, len(weight) // groups, axis=0)
        scaled = weight * rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))
    graph.set_constant(name, scaled.astype(weight.dtype))


def _undo(graph: Graph, node: onnx.NodeProto, tensor: str, factors: Factors, number: int) -> None:
    """Give a reader other than a convolution the tensor at its original scale."""
    scaled, constant = f"{tensor}/original_scale", f"{tensor}/original_scale/factors"
    rank = 4
    if not graph.is_constant(constant):
        graph.set_constant(constant, factors.astype(np.float32).reshape(1, -1, *[1] * (rank - 2)))
    for index, name in enumerate(node.input):
        if name == tensor:
            node.input[index] = scaled


def _insert_pending(graph: Graph) -> None:
    """Insert the products that `_undo` requested, each after the producer of its tensor."""
    wanted = {name for node in graph.nodes for name in node.input if name.endswith("/original_scale")}
    result = []
    for node in graph.nodes:
        result.append(node)
        for name in node.output:
            scaled = f"{name}/original_scale"
            if scaled in wanted:
                result.append(helper.make_node("Mul", [name, f"{scaled}/factors"], [scaled], f"{scaled}/multiply"))
    graph.replace_nodes(result)
