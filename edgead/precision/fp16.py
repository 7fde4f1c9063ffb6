"""The FP16 form of a graph: half precision where the values allow it, float32 where they or the score need it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgead.precision.graph import Graph
from edgead.precision.ranges import TensorStatistics

FP16_MAX = 65504.0
HALF_SCALES_OPSET, HALF_SCALES_IR = 19, 9
_AXES_BECAME_INPUT = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceLogSumExp")
_TYPED = ("Cast", "Shape")
_ALWAYS_FLOAT32 = {"Resize": (1, 2)}
WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def all_activations(model: onnx.ModelProto) -> list[str]:
    """Float tensors that depend on the image, by what makes them: those whose ranges decide about FP16."""
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = {
        info.name
        for info in (*inferred.graph.value_info, *inferred.graph.output)
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return [name for node in model.graph.node for name in node.output if name in floats]


def float32_nodes(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], *, headroom: float = 16.0
) -> dict[str, str]:
    """Nodes that stay in float32, each with the reason.

    Args:
        model: Float32.
        statistics: Extremes of `all_activations` over good images.
        headroom: A defect may make values this many times larger than good images do.
    """
    graph = Graph(model)
    kept: dict[str, str] = {}
    weighted = [i for i, node in enumerate(graph.nodes) if node.op_type in WEIGHTED]
    reaches = _reaches(graph, WEIGHTED)
    fed = _fed(graph, WEIGHTED)
    for index, node in enumerate(graph.nodes):
        if index < weighted[0] and node.name not in fed:
            kept[node.name] = "in front of the first convolution: 8-bit images at their full resolution"
        elif node.name not in reaches:
            kept[node.name] = "score: sums of squares and what follows"
        else:
            names = [*node.input, *node.output]
            largest = max((statistics[name].magnitude for name in names if name in statistics), default=0.0)
            weights = [float(abs(graph.constant(n)).max(initial=0)) for n in node.input if _is_float(graph, n)]
            if largest * headroom > FP16_MAX:
                kept[node.name] = f"values up to {largest:.3g} on good images (FP16 ends at {FP16_MAX:.0f})"
            elif max(weights, default=0.0) > FP16_MAX:
                kept[node.name] = f"weights up to {max(weights):.3g} (FP16 ends at {FP16_MAX:.0f})"
    return kept


def to_fp16(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Half precision for every node but those `kept`; inputs and outputs of the graph keep their types.

    ONNX Runtime's own converter writes graphs that the checker refuses where kept nodes stand in front (nodes out of
    order), and rounds small weights up, so this is done here.

    Args:
        model: Float32 with inferable types.
        kept: Names of the nodes that stay in float32.
    """
    graph = Graph(model)
    floats = set(all_activations(model)) | {
        tensor.name for tensor in model.graph.initializer if _is_float(graph, tensor.name)
    }
    floats |= {i.name for i in model.graph.input if i.type.tensor_type.elem_type == TensorProto.FLOAT}
    half: set[str] = set()
    made: set[str] = set()
    result: list[onnx.NodeProto] = []

    def as_type(name: str, wanted_half: bool) -> str:
        """The name of a float tensor in half or single precision; where it has the other, a cast is added."""
        if name not in floats or (name in half) == wanted_half:
            return name
        other = f"{name}/float{16 if wanted_half else 32}"
        if other in made:
            return other
        made.add(other)
        if graph.is_constant(name):
            graph.set_constant(other, graph.constant(name).astype(np.float16))
        else:
            to = TensorProto.FLOAT16 if wanted_half else TensorProto.FLOAT
            result.append(helper.make_node("Cast", [name], [other], f"{other}/cast", to=to))
        return other

    for node in graph.nodes:
        lowered = node.name not in kept and node.op_type not in _TYPED
        for index, name in enumerate(node.input):
            if name and index not in _ALWAYS_FLOAT32.get(node.op_type, ()):
                node.input[index] = as_type(name, lowered)
        for name in node.output:
            if lowered and name in floats:
                half.add(name)
                if name in graph.outputs:
                    raise ValueError(f"the graph's output {name} must stay in float32")
        result.append(node)
    graph.replace_nodes(result)
    graph.drop_unused()
    del graph.model.graph.value_info[:]
    onnx.checker.check_model(graph.model, full_check=True)
    return graph.model


def half_between_integers(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """An INT8 graph with float32 scales, in opset 19 with float16 scales: what is not in integers computes in float16.

    Opset 19 is the first in which a scale may be float16, and a DequantizeLinear gives the type of its scale. Of the
    operators of our graphs only reductions are written differently since opset 17.

    Args:
        model: From `to_int8` with `half_scales`.
        kept: Names of the nodes that stay in float32.
    """
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type in _AXES_BECAME_INPUT:
            _axes_as_input(graph, node)
    graph.refresh()
    for domain in graph.model.opset_import:
        if not domain.domain:
            domain.version = max(domain.version, HALF_SCALES_OPSET)
    graph.model.ir_version = max(graph.model.ir_version, HALF_SCALES_IR)
    return to_fp16(graph.model, kept)


def _axes_as_input(graph: Graph, node: onnx.NodeProto) -> None:
    """What opset 18 asks of reductions; ONNX's own converter has no step for quantised graphs."""
    axes = next((a for a in node.attribute if a.name == "axes"), None)
    if axes is None:
        return
    name = f"{node.name}/axes"
    graph.set_constant(name, np.array(axes.ints, np.int64))
    node.attribute.remove(axes)
    node.input.append(name)


def _is_float(graph: Graph, name: str) -> bool:
    return graph.is_constant(name) and graph.constant(name).dtype.kind == "f"


def _reaches(graph: Graph, kinds: tuple[str, ...]) -> set[str]:
    """Names of nodes of these kinds, and of those that one of them depends on."""
    needed: set[str] = set()
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type in kinds or needed.intersection(node.output):
            found.add(node.name)
            needed.update(node.input)
    return found


def _fed(graph: Graph, kinds: tuple[str, ...]) -> set[str]:
    """Names of nodes of these kinds, and of those that depend on one of them."""
    made: set[str] = set()
    found: set[str] = set()
    for node in graph.nodes:
        if node.op_type in kinds or made.intersection(node.input):
            found.add(node.name)
            made.update(node.output)
    return found
