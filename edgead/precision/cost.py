"""Multiply-adds of a graph, node by node."""

from __future__ import annotations

import numpy as np
import onnx

from edgead.precision.graph import shapes_of


def node_multiply_adds(proto: onnx.ModelProto) -> dict[str, int]:
    """Multiply-adds per image of each convolution and matrix product, from the inferred shapes.

    A transposed convolution counts every tap of every input position, including those cut off by the padding.
    """
    shapes = shapes_of(for_one_image(proto), is_strict=True)
    weights = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    costs = {}
    for node in proto.graph.node:
        if node.op_type == "Conv":
            out_height, out_width = shapes[node.output[0]][2:]
            costs[node.name] = int(np.prod(weights[node.input[1]])) * out_height * out_width
        elif node.op_type == "ConvTranspose":
            costs[node.name] = int(np.prod(weights[node.input[1]])) * int(np.prod(shapes[node.input[0]][2:]))
        elif node.op_type == "Gemm":
            costs[node.name] = int(np.prod(weights[node.input[1]]))
        elif node.op_type == "MatMul":
            # the second factor of a transformer's attention is no weight
            second = weights.get(node.input[1]) or shapes[node.input[1]]
            costs[node.name] = int(np.prod(shapes[node.output[0]])) * second[-2 if len(second) > 1 else -1]
    return costs


def for_one_image(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of a graph with a batch of one, so that the shapes of a transformer's reshaped tensors can be inferred."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for tensor in (*fixed.graph.input, *fixed.graph.output):
        size = tensor.type.tensor_type.shape.dim
        if size and not size[0].dim_value:
            size[0].dim_value = 1
    return fixed
