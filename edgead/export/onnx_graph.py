"""ONNX graph of a detector: from uint8 images to anomaly map and score, preprocessing included."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from edgead.errors import ExportError
from edgead.export.folded_transform import FoldedTransform
from edgead.models.detector import Detector
from edgead.precision.cost import node_multiply_adds
from edgead.triangles import split_triangles

OPSET = 17
BATCH_AXIS = "batch"


class Exported(Protocol):
    """Module that `onnx_from_model` exports."""

    @property
    def n_classes(self) -> int:
        """Number of classes of the input `class_bias`; 0 without it."""

    @property
    def outputs(self) -> Mapping[str, tuple[int, ...]]:
        """Names and sizes, without the batch, of the outputs."""

    def eval(self) -> nn.Module:
        """Set evaluation mode."""


class DeployedModel(nn.Module):
    """Exported form of a detector, with a folded flow: on the CPU, float32, sharing all other parts with `model`."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model
        self.transform = FoldedTransform(model)

    @property
    def n_classes(self) -> int:
        """Number of classes of the input `class_bias`; 0 without it."""
        return self.model.n_classes

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Names and sizes, without the batch, of the outputs."""
        return self.model.outputs

    def forward(self, images: Tensor, class_bias: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.model.run(images, self.transform, class_bias)

    def flow_cost(self) -> tuple[int, int]:
        """Multiply-adds per image of all flows, unfolded and folded."""
        return self.transform.multiply_adds()


def onnx_from_model(deployed: Exported, image_size: tuple[int, int]) -> onnx.ModelProto:
    """Export to a checked opset-17 graph with a free batch size and fixed image size.

    Args:
        deployed: Model on the CPU, in evaluation mode.
        image_size: Image size `(height, width)` in pixels.

    Raises:
        ExportError: If the exporter or the ONNX checker fails.
    """
    example: list[Tensor] = [torch.zeros(2, *image_size, 3, dtype=torch.uint8)]
    inputs = ["image"]
    if deployed.n_classes:
        example.append(torch.zeros(2, deployed.n_classes))
        inputs.append("class_bias")
    outputs = list(deployed.outputs)
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the TorchScript exporter warns of its deprecation on every call
            torch.onnx.export(
                deployed.eval(),
                tuple(example),
                buffer,  # type: ignore[arg-type]  # a file object works, and keeps weights out of temporary files
                opset_version=OPSET,
                dynamo=False,
                dynamic_axes={name: {0: BATCH_AXIS} for name in (*inputs, *outputs)},
                input_names=inputs,
                output_names=outputs,
            )
        proto = onnx.load_from_string(buffer.getvalue())
        _fold_constants(proto)
        _fuse_pads(proto)
        _drop_unused(proto)
        split_triangles(proto)
        _state_outputs(proto, deployed.outputs)
        onnx.checker.check_model(proto, full_check=True)
    except (RuntimeError, TypeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The model could not be exported to ONNX: {error}.", hint="Report this as a bug.") from error
    return proto


def operator_counts(proto: onnx.ModelProto) -> Counter[str]:
    """Number of nodes of each operator."""
    return Counter(node.op_type for node in proto.graph.node)


def graph_multiply_adds(proto: onnx.ModelProto) -> int:
    """Multiply-adds of convolutions and matrix products per image; see `node_multiply_adds`."""
    return sum(node_multiply_adds(proto).values())


def graph_parameters(proto: onnx.ModelProto) -> int:
    """Number of float values stored in the graph."""
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    return sum(int(np.prod(t.dims)) for t in proto.graph.initializer if t.data_type in floats)


def _fold_constants(proto: onnx.ModelProto) -> None:
    """Evaluate nodes that depend on no input: the tracer leaves the arithmetic of padding and shapes in the graph."""
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


def _state_outputs(proto: onnx.ModelProto, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Write the fixed sizes of the outputs into the graph; the tracer leaves symbols."""
    for output in proto.graph.output:
        dims: list[int | str] = [BATCH_AXIS, *sizes[output.name]]
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, dims))
    del proto.graph.value_info[:]
