"""Channels kept on the last axis around a product with one matrix per position.

Integer convolutions of ONNX Runtime and the product `(P, N, C) @ (P, C, K)` both have channels last; between the two the
graph moves them to the axis of float convolutions and back. Together with the image in rows (see `image_input`) this saves 0.14 of
8.4 ms on two threads and 0.23 of 11.8 on one (INT8 graph of magnetic_tile, median of nine alternating rounds with and without
both); each alone saves less than the spread of such rounds.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgead.precision.graph import Graph, attributes, permutation, shapes_of

Shapes = dict[str, list[int]]


def keep_channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Read `(N, C, H, W)` as `(N, H, W, C)` before a product per position, and square its result before moving axes.

    Args:
        model: Model of opset 13 to 17. Tensors with other readers on the way are left alone.

    Returns:
        An equivalent graph, except for the order of the sum over C in the mean of squares.
    """
    graph = Graph(model)
    shapes = shapes_of(model)
    made: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        nodes = _move_last(graph, shapes, node) or _square_first(graph, shapes, node)
        if nodes is not None:
            made[node.output[0]] = nodes
    if made:
        graph.substitute(made)
    return graph.model


def _move_last(graph: Graph, shapes: Shapes, transpose: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Replacement for Concat of channels, Reshape to `(N, C, P)` and this Transpose to `(P, N, C)`."""
    reshape = graph.maker_for_one(transpose.input[0], "Reshape") if permutation(transpose) == [2, 0, 1] else None
    if reshape is None or not graph.is_constant(reshape.input[1]):
        return None
    shape = graph.constant(reshape.input[1])
    concat = graph.maker_for_one(reshape.input[0], "Concat")
    if concat is None or attributes(concat)["axis"] != 1:
        return None
    found = shapes.get(concat.output[0], [])
    if len(found) != 4 or list(shape[1:]) != [found[1], found[2] * found[3]]:
        return None
    base = f"{transpose.name}/channels_last"
    graph.set_constant(f"{base}/shape", np.asarray([-1, shape[2], shape[1]], np.int64))
    turned = [f"{base}/turned_{number}" for number in range(len(concat.input))]
    turns = [
        helper.make_node("Transpose", [name], [new], new, perm=[0, 2, 3, 1])
        for name, new in zip(concat.input, turned, strict=True)
    ]
    joined, rows = f"{base}/joined", f"{base}/rows"
    return [
        *turns,
        helper.make_node("Concat", turned, [joined], concat.name, axis=3),
        helper.make_node("Reshape", [joined, f"{base}/shape"], [rows], reshape.name),
        helper.make_node("Transpose", [rows], transpose.output, transpose.name, perm=[1, 0, 2]),
    ]


def _square_first(graph: Graph, shapes: Shapes, mean: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Replacement for Transpose to `(N, C, P)`, Reshape, Mul with itself and this mean over C: moves one number, not C."""
    stated = attributes(mean)
    if mean.op_type != "ReduceMean" or stated.get("axes") != [1] or stated.get("keepdims", 1) != 0:
        return None
    square = graph.maker_for_one(mean.input[0], "Mul")
    reshape = graph.maker_for_one(square.input[0], "Reshape") if square is not None else None
    transpose = graph.maker_for_one(reshape.input[0], "Transpose") if reshape is not None else None
    if square is None or square.input[0] != square.input[1] or reshape is None or transpose is None:
        return None
    shape = graph.constant(reshape.input[1]) if graph.is_constant(reshape.input[1]) else np.zeros(0)
    source_shape = shapes.get(transpose.input[0], [])
    if permutation(transpose) != [1, 2, 0] or len(shape) != 4 or len(source_shape) != 3:
        return None
    if [source_shape[2], source_shape[0]] != [shape[1], shape[2] * shape[3]]:
        return None
    base = f"{mean.name}/square_first"
    graph.set_constant(f"{base}/shape", np.asarray([-1, *shape[2:]], np.int64))
    source = transpose.input[0]
    squares, means, rows = (f"{base}/{part}" for part in ("squares", "means", "rows"))
    return [
        helper.make_node("Mul", [source, source], [squares], square.name),
        helper.make_node("ReduceMean", [squares], [means], means, axes=[2], keepdims=0),
        helper.make_node("Transpose", [means], [rows], transpose.name, perm=[1, 0]),
        helper.make_node("Reshape", [rows, f"{base}/shape"], mean.output, mean.name),
    ]
