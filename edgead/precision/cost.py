"""Multiply-adds of a graph, node by node."""

from __future__ import annotations

import numpy as np
import onnx

from edgead.precision.graph import shapes_of


def node_multiply_adds(proto: onnx.ModelProto) -> dict[str, int]:
    """Multiply-adds per image of each convolution and matrix product, from the inferred shapes.

    A transposed convolution counts every tap of every input position, including those cut off by the padding.
    """
    shapes = shapes_of(proto, is_strict=True)
    weights = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    costs = {}
    for node in proto.graph.node:
        if node.op_type == "Conv":
            out_height, out_width = shapes[node.output[0]][2:]
            costs[node.name] = int(np.prod(weights[node.input[1]])) * out_height * out_width
        elif node.op_type == "ConvTranspose":
            costs[node.name] = int(np.prod(weights[node.input[1]])) * int(np.prod(shapes[node.input[0]][2:]))
        elif node.op_type in ("MatMul", "Gemm"):
            costs[node.name] = int(np.prod(weights[node.input[1]]))
    return costs
