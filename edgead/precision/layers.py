"""Multiply-adds and bytes of a graph, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx

from edgead.precision.cost import for_one_image, node_multiply_adds
from edgead.precision.graph import Graph

# a run time computes these while the layer's result is still in registers, or does not compute them at all
JOINED = frozenset(
    "Add Cast Clip Div Flatten HardSigmoid HardSwish Identity LeakyRelu Mul Relu Reshape Sigmoid Squeeze Sub Tanh Unsqueeze".split()
)
_FLOAT = 4


@dataclass
class LayerCost:
    """A node with the element-wise nodes that follow it, for one image.

    Attributes:
        name: Name of the first node.
        operator: Operator type of the first node.
        multiply_adds: Multiply-adds of a convolution or matrix product; 0 for anything else.
        n_bytes: Bytes of float32 inputs, weights and result, each moved once; tensors inside the layer are not moved.
        members: Names of its nodes and of their results.
    """

    name: str
    operator: str
    multiply_adds: int
    n_bytes: int = 0
    members: set[str] = field(default_factory=set)

    @property
    def intensity(self) -> float:
        """Operations per byte; a multiply-add is two operations."""
        return 2 * self.multiply_adds / self.n_bytes if self.n_bytes else 0.0


def layer_costs(proto: onnx.ModelProto) -> list[LayerCost]:
    """Layers in the order of the graph.

    A tensor of unknown shape counts nothing, and nor does what only describes shapes.

    References:
        Roofline: An Insightful Visual Performance Model for Multicore Architectures (Williams, Waterman and Patterson,
        Communications of the ACM, 2009).
    """
    graph = Graph(for_one_image(proto))
    sizes = _tensor_bytes(graph.model)
    costs = node_multiply_adds(proto)
    layers: list[LayerCost] = []
    of_tensor: dict[str, LayerCost] = {}
    for node in graph.nodes:
        joined = next(_joinable(graph, node, of_tensor), None) if node.op_type in JOINED else None
        if joined is None:
            layer, taken = LayerCost(node.name, node.op_type, costs.get(node.name, 0)), ""
            layers.append(layer)
        else:
            layer, taken = of_tensor[joined], joined
            layer.n_bytes -= sizes.get(joined, 0)
        inputs = [name for name in dict.fromkeys(node.input) if name and name != taken]
        layer.n_bytes += sum(sizes.get(name, 0) for name in (*inputs, *node.output))
        layer.members |= {node.name, *node.output}
        of_tensor.update(dict.fromkeys(node.output, layer))
    return [layer for layer in layers if layer.n_bytes or layer.multiply_adds]


def _joinable(graph: Graph, node: onnx.NodeProto, of_tensor: dict[str, LayerCost]) -> Iterator[str]:
    """Inputs that only this node reads, so that they need not be written to memory."""
    for name in node.input:
        if name in of_tensor and name not in graph.outputs and len(graph.consumers[name]) == 1:
            yield name


def _tensor_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Size of each tensor of known shape."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    sizes = {}
    for info in (*inferred.value_info, *inferred.input, *inferred.output):
        kind = info.type.tensor_type
        n_elements = int(np.prod([size.dim_value for size in kind.shape.dim]))
        sizes[info.name] = n_elements * (
            1 if kind.elem_type in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8) else _FLOAT
        )
    for tensor in inferred.initializer:
        sizes[tensor.name] = int(np.prod(tensor.dims)) * _FLOAT
    return sizes
