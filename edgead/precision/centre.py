"""Centring of clipped activations around 0, so that symmetric integers use both signs.

The values of a Clip(0, 6) are never negative: with zero point 0, the only one TensorRT accepts, half of the 255 integers
are unused. Clip(x - s, -s, 6 - s) equals Clip(x, 0, 6) - s: the constant s goes into the bias of the convolution in front,
and each reader adds s times the sum of its weights to its own bias. No operator is added, and the rounding step is halved.
If a reader pads its input, the border would no longer be 0 in the old values: such tensors are left alone.

Clip stays one operator with two constants. Whether a version of TensorRT fuses it into the convolution as it does
Clip(0, 6) has not been observed: only a device can show it, and `calibration/uncentred.yaml` leaves the clips alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from edgead.precision.graph import Graph, attributes
from edgead.precision.int8 import quantisable_nodes
from edgead.precision.ranges import TensorRange


def centred_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of the activations that can be centred: a convolution, a Clip from 0, and only unpadded convolutions after it."""
    graph = Graph(model)
    convolutions = set(quantisable_nodes(model))
    return [clip.output[0] for clip in graph.nodes if _can_move(graph, clip, convolutions)]


def centre(model: onnx.ModelProto, ranges: Mapping[str, TensorRange]) -> tuple[onnx.ModelProto, dict[str, TensorRange]]:
    """Shift activations by half of their range.

    Args:
        model: Float32 model.
        ranges: Range from 0 to the largest value to cover, for each tensor of `centred_tensors` to shift.

    Returns:
        An equivalent graph, and the ranges of the shifted tensors in it.
    """
    graph = Graph(model)
    moved: dict[str, TensorRange] = {}
    for tensor, found in ranges.items():
        clip = graph.producer[tensor]
        # exactly representable in float16, so that both sides of the shift stay equal in a lower-precision graph
        middle = float(np.float16((found.low + found.high) / 2.0))
        moved[tensor] = TensorRange(found.low - middle, found.high - middle)
        for index in (1, 2):
            name = graph.own_constant(clip, index)
            limit = graph.constant(name)
            graph.set_constant(name, (limit - middle).astype(limit.dtype))
        graph.add_to_bias(graph.producer[clip.input[0]], -middle)
        for reader in graph.consumers[tensor]:
            weight = np.asarray(graph.constant(reader.input[1]), np.float64)
            graph.add_to_bias(reader, middle * weight.reshape(len(weight), -1).sum(axis=1))
    graph.drop_unused()
    return graph.model, moved


def _can_move(graph: Graph, clip: onnx.NodeProto, convolutions: set[str]) -> bool:
    if clip.op_type != "Clip" or len(clip.input) < 3 or not all(graph.is_constant(name) for name in clip.input[1:3]):
        return False
    maker = graph.producer.get(clip.input[0])
    if float(graph.constant(clip.input[1])) != 0.0 or maker is None or graph.activation_of(maker) is not clip:
        return False
    readers = graph.consumers.get(clip.output[0], [])
    tensor = clip.output[0]
    return (
        maker.name in convolutions
        and tensor not in graph.outputs
        and bool(readers)
        and all(reader.name in convolutions and not _pads(reader) and reader.input[0] == tensor for reader in readers)
    )


def _pads(node: onnx.NodeProto) -> bool:
    """Whether a convolution adds zeros around its input."""
    stated = attributes(node)
    return any(stated.get("pads", ())) or stated.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
