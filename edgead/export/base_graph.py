"""Graphs of a base bundle: backbone, level inputs and heads, whose constants `edgead teach` fills in on the device.

The exporter writes a whole detector with known random constants. Each constant that teaching fits is found in the graph by
its values, and the graph is cut at the features and at the inputs of the levels. Joined again and filled, the parts are the
graph that a training with the same constants exports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgead.errors import ExportError
from edgead.export.onnx_graph import BATCH_AXIS, DeployedModel, graph_multiply_adds, onnx_from_model
from edgead.flows.linear import PositionLinear, SharedLinear
from edgead.models.detector import Detector

FEATURE, LEVEL_INPUT = "feature_{}", "level_input_{}"


@dataclass(frozen=True)
class BaseGraphs:
    """Parts of one form of the detector.

    Attributes:
        features: From `image` to `feature_0`, ...
        inputs: From the features to `level_input_0`, ...; without the projections.
        head: From the level inputs or features to `anomaly_map` and `pred_score`; without its constants.
        parameters: Role of each constant to fill in, by its name in the graph.
        multiply_adds: Per image, of the whole graph.
    """

    features: onnx.ModelProto
    inputs: onnx.ModelProto
    head: onnx.ModelProto
    parameters: dict[str, str] = field(default_factory=dict)
    multiply_adds: int = 0


class _WithParts(nn.Module):
    """Exported form that also returns the features and the inputs of the levels."""

    def __init__(self, deployed: DeployedModel) -> None:
        super().__init__()
        self.deployed = deployed

    @property
    def n_classes(self) -> int:
        return 0

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Names and sizes, without the batch, of the outputs."""
        model = self.deployed.model
        backbone = model.backbone
        features = [(backbone.channels[key], *backbone.sizes[key]) for key in backbone.keys]
        inputs = [(level.channels, *level.size) for level in model.levels]
        return {
            **model.outputs,
            **{FEATURE.format(index): size for index, size in enumerate(features)},
            **{LEVEL_INPUT.format(index): size for index, size in enumerate(inputs)},
        }

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        model = self.deployed.model
        features = model.features(images)
        inputs = model.inputs(features)
        found = model.score(model.statistics(self.deployed.transform(inputs)))
        return (*found, *(features[key] for key in model.backbone.keys), *inputs)


def base_graphs(model: Detector, image_size: tuple[int, int]) -> BaseGraphs:
    """Export a closed-form detector without couplings, cut into parts; its constants become random.

    Args:
        model: Detector with one linear map per position, or with centres, on the CPU.
        image_size: Image size `(height, width)` in pixels.

    Raises:
        ExportError: If the exporter fails, or a constant is not found in the graph.
    """
    _randomise(model)
    deployed = DeployedModel(model)
    whole = onnx_from_model(_WithParts(deployed), image_size)
    parameters = _find(whole, _expected(model))
    top = next(node.input[1] for node in whole.graph.node if node.op_type == "TopK")
    parameters[top] = "top"
    n_features = len(model.backbone.keys)
    sizes = _WithParts(deployed).outputs
    features = [FEATURE.format(index) for index in range(n_features)]
    inputs = [LEVEL_INPUT.format(index) for index in range(len(model.levels))]
    of_inputs = {name for name, role in parameters.items() if role.startswith("projection")}
    cost = graph_multiply_adds(whole)
    image = whole.graph.input[0]
    return BaseGraphs(
        _part(whole, [image], features, sizes, set()),
        _part(whole, [_value(name, sizes[name]) for name in features], inputs, sizes, of_inputs),
        _part(
            # where a level takes one feature as it is, the exporter lets the head read the feature
            whole, [_value(name, sizes[name]) for name in (*inputs, *features)], ["anomaly_map", "pred_score"], sizes,
            set(parameters) - of_inputs,
        ),
        parameters,
        cost,
    )  # fmt: skip


@torch.no_grad()
def _randomise(model: Detector) -> None:
    """Give every constant that teaching fits values by which it is found."""
    random = torch.Generator().manual_seed(0)

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=random)

    for level in model.levels:
        for projection in level.projections:
            if isinstance(projection, nn.Conv2d):
                projection.weight.copy_(draw(projection.weight))
                assert projection.bias is not None
                projection.bias.copy_(draw(projection.bias))
        assert isinstance(level.start, (PositionLinear, SharedLinear))
        identity = torch.eye(level.channels)
        level.start.weight.copy_(identity + 0.1 / level.channels * draw(level.start.weight))
        level.start.mean.copy_(draw(level.start.mean))
        if level.centres is not None:
            level.centres.copy_(draw(level.centres))
    for index in range(len(model.levels)):
        for name in (f"mean_{index}", f"gain_{index}"):
            buffer = model.head.get_buffer(name)
            buffer.copy_(draw(buffer))


def _expected(model: Detector) -> dict[str, NDArray[np.float64]]:
    """Values of each constant in the exported graph, by role."""
    found: dict[str, Tensor] = {}
    for index, level in enumerate(model.levels):
        for source, projection in enumerate(level.projections):
            if isinstance(projection, nn.Conv2d):
                assert projection.bias is not None
                found[f"projection_weight.{index}.{source}"] = projection.weight
                found[f"projection_bias.{index}.{source}"] = projection.bias
        start = level.start
        if isinstance(start, PositionLinear):
            found[f"weight_t.{index}"] = start.weight.transpose(1, 2)
            found[f"mean.{index}"] = start.mean[:, None, :]
        else:
            assert isinstance(start, SharedLinear)
            assert level.centres is not None
            found[f"whitening.{index}"] = start.weight[:, :, None, None]
            found[f"offset.{index}"] = -(start.weight.double() @ start.mean.double())
            found[f"affinity.{index}"] = 2.0 * level.centres[:, :, None, None]
            found[f"norms.{index}"] = -level.centres.square().sum(dim=1)
        found[f"level_mean.{index}"] = model.head.get_buffer(f"mean_{index}")
        found[f"level_gain.{index}"] = model.head.get_buffer(f"gain_{index}")
    return {role: value.detach().double().numpy() for role, value in found.items()}


def _find(whole: onnx.ModelProto, expected: Mapping[str, NDArray[np.float64]]) -> dict[str, str]:
    """Name in the graph of each constant, as a role by name."""
    constants = {t.name: numpy_helper.to_array(t) for t in whole.graph.initializer if t.data_type == TensorProto.FLOAT}
    found = {}
    for role, value in expected.items():
        names = [
            name
            for name, own in constants.items()
            if own.shape == value.shape and np.allclose(own, value, rtol=1e-5, atol=1e-5)
        ]
        if len(names) != 1:
            raise ExportError(
                f"The exported graph holds the constant {role!r} {len(names)} times instead of once.",
                hint="Report this as a bug, with the versions of torch and onnx.",
            )
        found[names[0]] = role
    return found


def _part(
    whole: onnx.ModelProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    sizes: Mapping[str, tuple[int, ...]],
    left_out: set[str],
) -> onnx.ModelProto:
    """Nodes between some tensors, and their constants but for those left out."""
    given, needed = {value.name for value in inputs}, set(outputs)
    nodes = []
    for node in reversed(whole.graph.node):
        if needed.intersection(node.output) - given:
            nodes.append(node)
            needed.update(name for name in node.input if name not in given)
    constants = [t for t in whole.graph.initializer if t.name in needed and t.name not in left_out]
    values = [_value(name, sizes[name]) for name in outputs]
    graph = helper.make_graph(nodes[::-1], "base", list(inputs), values, constants)
    return helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)


def _value(name: str, size: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_AXIS, *size])
