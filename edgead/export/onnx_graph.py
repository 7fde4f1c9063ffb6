"""The ONNX graph of a detector: uint8 images in, anomaly map and score out, everything else inside."""

from __future__ import annotations

import io
import warnings
from collections import Counter

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from edgead.errors import ExportError
from edgead.export.fold import FoldedFlow, fold_flow, folded_multiply_adds, unfolded_multiply_adds
from edgead.models.fastflow import FastFlow
from edgead.models.level import squared_norm

OPSET = 17
BATCH_AXIS = "batch"


class DeployedModel(nn.Module):
    """A detector with folded flows: what is exported. On the CPU, float32, sharing the backbone with `model`."""

    def __init__(self, model: FastFlow) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.levels = nn.ModuleList(model.levels)
        self.folded = nn.ModuleList(fold_flow(level.flow, level.channels, level.size) for level in model.levels)
        self.head = model.head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = dict(zip(self.backbone.strides, self.backbone(images), strict=True))
        maps = [
            squared_norm(folded(level.inputs(features)))  # type: ignore[operator]
            for level, folded in zip(self.levels, self.folded, strict=True)
        ]
        return self.head(maps)  # type: ignore[no-any-return]

    def flow_cost(self) -> tuple[int, int]:
        """Multiply-adds per image of all flows: unfolded, folded."""
        before = after = 0
        for level, folded in zip(self.levels, self.folded, strict=True):
            assert isinstance(folded, FoldedFlow)
            size: tuple[int, int] = level.size  # type: ignore[assignment]
            before += unfolded_multiply_adds(level.flow, level.channels, size[0] * size[1])  # type: ignore[arg-type]
            after += folded_multiply_adds(folded, size[0] * size[1])
        return before, after


def onnx_from_model(deployed: DeployedModel, image_size: tuple[int, int]) -> onnx.ModelProto:
    """Export to a checked opset-17 graph with a free batch size and fixed image size.

    Args:
        deployed: On the CPU, in evaluation mode.
        image_size: `(height, width)` in pixels.

    Raises:
        ExportError: If the exporter or the ONNX checker refuses.
    """
    example = torch.zeros(2, *image_size, 3, dtype=torch.uint8)
    buffer = io.BytesIO()
    axes = {name: {0: BATCH_AXIS} for name in ("image", "anomaly_map", "pred_score")}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the TorchScript exporter announces its own retirement on every call
            torch.onnx.export(
                deployed.eval(),
                (example,),
                buffer,  # type: ignore[arg-type]  # a file object works, and keeps weights out of temporary files
                opset_version=OPSET,
                dynamo=False,
                dynamic_axes=axes,
                input_names=["image"],
                output_names=["anomaly_map", "pred_score"],
            )
        proto = onnx.load_from_string(buffer.getvalue())
        _fold_constants(proto)
        _fuse_pads(proto)
        _drop_unused(proto)
        _state_outputs(proto, deployed.head.size)
        onnx.checker.check_model(proto, full_check=True)
    except (RuntimeError, TypeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The model could not be exported to ONNX: {error}.", hint="Report this as a bug.") from error
    return proto


def operator_counts(proto: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in proto.graph.node)


def graph_multiply_adds(proto: onnx.ModelProto) -> int:
    """Multiply-adds of convolutions and matrix products per image, from the inferred shapes."""
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    infos = list(inferred.graph.value_info) + list(inferred.graph.output)
    shapes = {info.name: [d.dim_value for d in info.type.tensor_type.shape.dim] for info in infos}
    weights = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    total = 0
    for node in proto.graph.node:
        if node.op_type == "Conv":
            out_height, out_width = shapes[node.output[0]][2:]
            total += int(np.prod(weights[node.input[1]])) * out_height * out_width
        elif node.op_type in ("MatMul", "Gemm"):
            total += int(np.prod(weights[node.input[1]]))
    return total


def graph_parameters(proto: onnx.ModelProto) -> int:
    """Number of float values stored in the graph."""
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    return sum(int(np.prod(t.dims)) for t in proto.graph.initializer if t.data_type in floats)


def _fold_constants(proto: onnx.ModelProto) -> None:
    """Compute what depends on no input; the tracer leaves the arithmetic of padding and shapes in the graph."""
    graph = proto.graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in list(graph.node):
        if not all(name in known for name in node.input if name):
            continue
        evaluator = ReferenceEvaluator(
            helper.make_model(
                helper.make_graph(
                    [node],
                    "constant",
                    [
                        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(known[n].dtype), None)
                        for n in node.input
                        if n
                    ],
                    [helper.make_empty_tensor_value_info(name) for name in node.output],
                ),
                opset_imports=proto.opset_import,
                ir_version=proto.ir_version,
            )
        )
        values = evaluator.run(None, {name: known[name] for name in node.input if name})
        for name, value in zip(node.output, values, strict=True):
            known[name] = np.asarray(value)
            graph.initializer.append(numpy_helper.from_array(known[name], name))
        graph.node.remove(node)


def _fuse_pads(proto: onnx.ModelProto) -> None:
    """Move a constant zero Pad into the Conv that follows it: one kernel instead of two on every backend."""
    graph = proto.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    producers = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for conv in [node for node in graph.node if node.op_type == "Conv"]:
        pad = producers.get(conv.input[0])
        if pad is None or uses[conv.input[0]] != 1 or not _pads_zeros(pad, constants):
            continue
        before, after = constants[pad.input[1]][2:4], constants[pad.input[1]][6:8]
        own = next(attribute for attribute in conv.attribute if attribute.name == "pads")
        fused = [int(a + b) for a, b in zip(own.ints, [*before, *after], strict=True)]
        conv.attribute.remove(own)
        conv.attribute.append(helper.make_attribute("pads", fused))
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)


def _pads_zeros(pad: onnx.NodeProto, constants: dict[str, np.ndarray]) -> bool:
    """Whether a Pad adds a known number of zeros to height and width alone."""
    if any(attribute.name == "mode" and attribute.s != b"constant" for attribute in pad.attribute):
        return False
    amounts = constants.get(pad.input[1])
    value = constants.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
    if amounts is None or value is None or len(pad.input) > 3 or len(amounts) != 8:
        return False
    return not value.any() and not amounts[[0, 1, 4, 5]].any() and bool((amounts >= 0).all())


def _drop_unused(proto: onnx.ModelProto) -> None:
    """Remove nodes and constants that no output depends on."""
    graph = proto.graph
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if needed.intersection(node.output):
            needed.update(node.input)
        else:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in needed]:
        graph.initializer.remove(tensor)


def _state_outputs(proto: onnx.ModelProto, map_size: tuple[int, int]) -> None:
    """Write the outputs' fixed sizes into the graph, where the tracer left symbols."""
    for output in proto.graph.output:
        dims: list[int | str] = [BATCH_AXIS, *map_size] if output.name == "anomaly_map" else [BATCH_AXIS]
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, dims))
    del proto.graph.value_info[:]
