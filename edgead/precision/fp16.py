"""FP16 form of a graph: half precision where the values allow it, float32 where they or the score need it."""

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
    """Names of the float tensors that depend on the image, whose ranges decide about FP16."""
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
    """Nodes that must stay in float32, each with the reason.

    Args:
        model: Float32 model.
        statistics: Extremes of `all_activations` over good images.
        headroom: Factor by which a defect may exceed the values of good images.
    """
    graph = Graph(model)
    kept: dict[str, str] = {}
    weighted = [i for i, node in enumerate(graph.nodes) if node.op_type in WEIGHTED]
    reaches = _reaches(graph, WEIGHTED)
    fed = _fed(graph, WEIGHTED)
    for index, node in enumerate(graph.nodes):
        if index < weighted[0] and node.name not in fed:
            kept[node.name] = "before the first convolution: 8-bit images at full resolution"
        elif node.name not in reaches:
            kept[node.name] = "score: sums of squares and everything after them"
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
    """Convert every node except those in `kept` to half precision; inputs and outputs of the graph keep their types.

    ONNX Runtime's own converter is not used: with kept nodes at the front it writes graphs that the checker rejects (nodes
    out of order), and it rounds small weights up.

    Args:
        model: Float32 model with inferable types.
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
        """Name of a float tensor in half or single precision; adds a cast if it has the other."""
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
    """Convert an INT8 graph with float32 scales to opset 19 with float16 scales, so that the float part runs in float16.

    Opset 19 is the first that allows float16 scales, and a DequantizeLinear outputs the type of its scale. Of the
    operators in edgead's graphs only reductions have changed since opset 17.

    Args:
        model: INT8 model from `to_int8` with `half_scales`.
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
    """Make the axes of a reduction an input, as opset 18 requires; ONNX's converter cannot do so for quantised graphs."""
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
