"""The check that every graph passes before ONNX Runtime reads it: it computes, in bounded memory, and does nothing else.

The digests of a bundle say that its graph was not changed, not who wrote it. A graph with a loop may never end, one
with external data reads any file, and one with a huge intermediate takes all memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import EngineError
from edgead.graph_file import without_constants

if TYPE_CHECKING:
    import onnx

# What the exporter and the forms of lower precision write, for all backbones that are tested; `tests/export` holds the
# same names in its table.
TESTED_OPERATORS = frozenset(
    "Abs Add And Atan AveragePool BatchNormalization Cast Ceil Clip Concat Constant Conv ConvTranspose Cos DepthToSpace "
    "DequantizeLinear Div Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool Greater "
    "GreaterOrEqual HardSigmoid HardSwish Identity LayerNormalization LeakyRelu Less LessOrEqual Log MatMul Max MaxPool "
    "Min Mul Neg Not Or PRelu Pad Pow QuantizeLinear Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum "
    "ReduceSumSquare Relu Reshape Resize Round Shape Sigmoid Sign Sin Slice Softmax Softplus SpaceToDepth Split Sqrt "
    "Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Where".split()
)
# Further arithmetic that a backbone of timm may export: refusing it after hours of training would be too late.
FURTHER_OPERATORS = frozenset(
    "ArgMax ArgMin Celu ConstantOfShape CumSum Einsum GatherElements GatherND GlobalLpPool GroupNormalization "
    "InstanceNormalization LRN LogSoftmax LpNormalization LpPool Mean MeanVarianceNormalization Mish Mod ReduceL1 "
    "ReduceLogSum ReduceLogSumExp ReduceProd RMSNormalization Selu Softsign Swish Tan ThresholdedRelu Trilu".split()
)
OPERATORS = TESTED_OPERATORS | FURTHER_OPERATORS
# ONNX Runtime fuses operators into its own, and names them differently in each version.
OPTIMISER_DOMAINS = ("com.microsoft", "com.microsoft.nchwc")
OPTIMISER_OPERATORS = OPERATORS | {
    "ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "SimplifiedLayerNormalization",
}  # fmt: skip
OUTPUTS = re.compile(r"anomaly_map|pred_score|class_score|level_norm_\d+")
# A tensor inside the graph, per image: 1 GB of float32, thirty times what the largest backbone needs at 1024 px.
MAX_ELEMENTS = 1 << 28
_SMALL = 4096  # elements; larger constants are weights, which no shape depends on
# Larger numbers than those of a small constant of any type are not read.
_LARGE_BYTES = 16 * _SMALL


def check_graph(path: Path, *, optimised: bool) -> None:
    """Check a graph before it is run.

    Args:
        path: An `.onnx` file.
        optimised: Whether ONNX Runtime's optimiser wrote it here; then its own operators are allowed too.

    Raises:
        EngineError: If the file is no graph, or holds anything that edgead does not export; the message names it.
    """
    import onnx

    try:
        model = onnx.ModelProto.FromString(without_constants(path, _LARGE_BYTES))
        problem = next(iter(_problems(model, optimised)), "")
    except Exception as error:  # protobuf's exceptions have no typed module
        problem = (
            f"it cannot be read as a graph: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}"
        )
    if problem:
        raise EngineError(
            f"{path} is not a graph that edgead exports: {problem}.",
            hint="Rebuild it with `edgead build-engine`." if optimised else "Do not use this bundle; train it again.",
        )


def _problems(model: onnx.ModelProto, optimised: bool) -> Iterable[str]:
    from onnx import AttributeProto, TensorProto

    if model.functions or model.training_info or model.graph.sparse_initializer:
        yield "it holds functions, training or sparse constants"
    operators = OPTIMISER_OPERATORS if optimised else OPERATORS
    for node in model.graph.node:
        is_own = node.domain in ("", "ai.onnx")
        if is_own and node.op_type not in operators:
            yield f"the operator {node.op_type} is not allowed"
        elif not is_own and not (optimised and node.domain in OPTIMISER_DOMAINS):
            yield f"the operator {node.op_type} is of the domain {node.domain!r}"
        for attribute in node.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) or attribute.g.node or attribute.graphs:
                yield f"the operator {node.op_type} holds a graph of its own"
            tensors = (attribute.t, *attribute.tensors)
            if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors) or attribute.ref_attr_name:
                yield f"the operator {node.op_type} refers to what is elsewhere"
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            yield f"the constant {tensor.name} is in another file"
    yield from _end_problems(model)
    if not optimised:
        yield from _size_problems(model)


def _end_problems(model: onnx.ModelProto) -> Iterable[str]:
    """Inputs and outputs by name: an image, at most a class bias, and known outputs."""
    inputs = [value.name for value in model.graph.input]
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [name for name in inputs if name not in constants]
    if inputs not in (["image"], ["image", "class_bias"]):
        yield f"its inputs are {', '.join(inputs) or 'none'}, not image and perhaps class_bias"
    outputs = [value.name for value in model.graph.output]
    if not {"anomaly_map", "pred_score"} <= set(outputs) or len(set(outputs)) != len(outputs):
        yield f"its outputs are {', '.join(outputs) or 'none'}, without anomaly_map and pred_score"
    for name in outputs:
        if not OUTPUTS.fullmatch(name):
            yield f"it has the unknown output {name!r}"


def _size_problems(model: onnx.ModelProto) -> Iterable[str]:
    """Tensors larger than allowed, as far as their sizes follow from the graph; a free batch counts as 1."""
    import onnx

    # sizes depend on small constants only: copies of the weights would take as much memory again
    graph = onnx.GraphProto(name="sizes", node=model.graph.node, output=model.graph.output)
    graph.input.extend(model.graph.input)
    named = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in named:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    light = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        found = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        yield f"its sizes do not fit together: {str(error).strip().splitlines()[0]}"
        return
    for value in (*found.graph.value_info, *found.graph.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        if math.prod(dims) > MAX_ELEMENTS:
            yield f"the tensor {value.name} of {' x '.join(map(str, dims))} is too large"
