"""An ONNX graph with the look-ups that changing it needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

ACTIVATIONS = ("Clip", "Relu")


class Graph:
    """A copy of a model's graph: who makes a tensor, who reads it, and the constants by name.

    The look-ups are those of the moment of construction or of the last `refresh`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.refresh()

    def refresh(self) -> None:
        """Read the graph again, after nodes were added or rewired."""
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
        """The value of an initializer; a copy."""
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
        """The name of a node's constant input that no other node reads: a shared one is copied first."""
        name = str(node.input[index])
        if len(self.consumers.get(name, ())) > 1:
            copy = f"{name}/{node.name}"
            self.set_constant(copy, self.constant(name))
            self.consumers[name] = [other for other in self.consumers[name] if other is not node]
            self.consumers[copy] = [node]
            node.input[index] = copy
            name = copy
        return name

    def activation_of(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The ReLU or Clip that alone reads what the node computes."""
        readers = self.consumers.get(node.output[0], [])
        alone = len(readers) == 1 and node.output[0] not in self.outputs
        return readers[0] if alone and readers[0].op_type in ACTIVATIONS else None

    def result_of(self, node: onnx.NodeProto) -> str:
        """The tensor that a node and the activation behind it compute together."""
        activation = self.activation_of(node)
        return str((activation or node).output[0])

    def replace_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Make these the nodes of the graph, in this order."""
        kept = list(nodes)
        copies = []
        for node in kept:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copies.append(copy)
        del self.model.graph.node[:]
        self.model.graph.node.extend(copies)
        self.refresh()

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


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else int(helper.get_attribute_value(found))
