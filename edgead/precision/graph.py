"""An ONNX graph with look-ups for rewriting it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

ACTIVATIONS = ("Clip", "Relu")


class Graph:
    """A copy of a model's graph with the producer and readers of each tensor, and the constants by name.

    The look-ups are as of construction or the last `refresh`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.refresh()

    def refresh(self) -> None:
        """Rebuild the look-ups after nodes were added or rewired."""
        proto = self.model.graph
        self.nodes = list(proto.node)
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                if name:
                    self.consumers.setdefault(name, []).append(node)
        self.outputs = {output.name for output in proto.output}
        self._tensors = {tensor.name: tensor for tensor in proto.initializer}

    def is_constant(self, name: str) -> bool:
        return name in self._tensors

    def constant(self, name: str) -> NDArray[Any]:
        """Copy of an initializer's value."""
        return np.array(numpy_helper.to_array(self._tensors[name]))

    def set_constant(self, name: str, value: NDArray[Any]) -> None:
        """Replace an initializer's value, or add a new one."""
        tensor = numpy_helper.from_array(np.array(value, order="C"), name)
        if name in self._tensors:
            self._tensors[name].CopyFrom(tensor)
        else:
            self._tensors[name] = self.model.graph.initializer.add()
            self._tensors[name].CopyFrom(tensor)

    def own_constant(self, node: onnx.NodeProto, index: int) -> str:
        """Name of a constant input that only this node reads; a shared constant is copied first."""
        name = str(node.input[index])
        if len(self.consumers.get(name, ())) > 1:
            copy = f"{name}/{node.name}"
            self.set_constant(copy, self.constant(name))
            self.consumers[name] = [other for other in self.consumers[name] if other is not node]
            self.consumers[copy] = [node]
            node.input[index] = copy
            name = copy
        return name

    def add_to_bias(self, node: onnx.NodeProto, change: float | NDArray[np.floating[Any]]) -> None:
        """Add to a convolution's bias, `(K,)` or one value for all channels; a missing bias is created."""
        if len(node.input) > 2 and node.input[2]:
            name = self.own_constant(node, 2)
            bias = self.constant(name)
            self.set_constant(name, (bias + change).astype(bias.dtype))
            return
        weight = self.constant(node.input[1])
        name = f"{node.name}/bias"
        self.set_constant(name, np.broadcast_to(change, len(weight)).astype(weight.dtype))
        self.consumers[name] = [node]
        del node.input[2:]
        node.input.append(name)

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The only node that reads a tensor; None if several do, or if the tensor is a graph output."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def maker_for_one(self, tensor: str, kind: str) -> onnx.NodeProto | None:
        """Producer of a tensor with a single reader, if it is of the given type."""
        maker = self.producer.get(tensor)
        return maker if maker is not None and maker.op_type == kind and self.only_reader(tensor) else None

    def activation_of(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The ReLU or Clip that is the only reader of a node's output."""
        reader = self.only_reader(node.output[0])
        return reader if reader is not None and reader.op_type in ACTIVATIONS else None

    def result_of(self, node: onnx.NodeProto) -> str:
        """Output tensor of a node together with the activation after it."""
        activation = self.activation_of(node)
        return str((activation or node).output[0])

    def replace_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Replace all nodes of the graph with these, in this order."""
        kept = list(nodes)
        copies = []
        for node in kept:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copies.append(copy)
        del self.model.graph.node[:]
        self.model.graph.node.extend(copies)
        self.refresh()

    def substitute(self, made: Mapping[str, Sequence[onnx.NodeProto]]) -> None:
        """Replace the producers of some tensors, and drop nodes that nothing reads any more.

        Args:
            made: Replacement nodes by tensor; the last one produces the tensor.
        """
        nodes = [new for old in self.nodes for new in made.get(old.output[0], [old])]
        read = set(self.outputs)
        kept: list[onnx.NodeProto] = []
        for node in reversed(nodes):
            if read & set(node.output):
                kept.append(node)
                read |= set(node.input)
        self.replace_nodes(reversed(kept))
        self.drop_unused()

    def drop_unused(self) -> None:
        """Remove constants that no node reads."""
        used = {name for node in self.model.graph.node for name in node.input} | self.outputs
        kept = [tensor for tensor in self.model.graph.initializer if tensor.name in used]
        copies = [onnx.TensorProto() for _ in kept]
        for copy, tensor in zip(copies, kept, strict=True):
            copy.CopyFrom(tensor)
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(copies)
        self.refresh()


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes set on a node: numbers, bytes, lists of them."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def permutation(node: onnx.NodeProto) -> list[int]:
    """Axes of a Transpose; empty for other nodes, and for the default that reverses all axes."""
    return list(attributes(node).get("perm", [])) if node.op_type == "Transpose" else []


def shapes_of(model: onnx.ModelProto, *, is_strict: bool = False) -> dict[str, list[int]]:
    """Sizes of inputs, outputs and inferable tensors between them; 0 for a dynamic size.

    Args:
        model: Model of any opset.
        is_strict: Whether to raise `onnx.shape_inference.InferenceError` if a node's shapes do not fit.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=is_strict, data_prop=is_strict).graph
    infos = [*graph.value_info, *graph.input, *graph.output]
    return {info.name: [size.dim_value for size in info.type.tensor_type.shape.dim] for info in infos}
