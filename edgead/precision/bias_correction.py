"""Bias correction: the mean error that rounding adds to each channel of a convolution.

Rounded weights have the same error at every position, so a channel's output shifts by that error times the mean of its
input (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2). Here
the shift is measured on the calibration images, layer by layer. Each layer gets the input of the float graph, so that errors
of earlier layers are not corrected twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.engines.onnx_session import feed_of, open_session
from edgead.precision.graph import Graph
from edgead.precision.int8 import Int8Options, activation_parameters, quantise_weight
from edgead.precision.ranges import TensorRange

_AXES = [0, 2, 3]


def bias_errors(
    model: onnx.ModelProto,
    ranges: Mapping[str, TensorRange],
    nodes: Collection[str],
    options: Int8Options,
    images: NDArray[np.uint8],
    *,
    rounded: Mapping[str, NDArray[np.int8]] | None = None,
    threads: int = 0,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, NDArray[np.float32]]:
    """Mean of (integer layer - float layer) per output channel `(K,)`, by node.

    Memory does not grow with the number of images. The graph runs with a rounded twin beside each convolution, so one image
    costs about two.

    Args:
        model: Float32 model.
        ranges: Range of each tensor that a convolution reads.
        nodes: Names of the convolutions.
        options: Integer layout.
        images: Good images `(N, H, W, 3)` uint8 RGB, N >= 1.
        rounded: Integer weights by convolution, see `second_order`; of those left out, the nearest integers.
        threads: Number of CPU threads of ONNX Runtime; 0 = one per core.
        on_image: Called after each image.
    """
    wanted = list(nodes)
    twins = _with_twins(model, ranges, set(wanted), options, rounded or {})
    session = open_session(twins.SerializeToString(), threads)
    totals = {name: np.zeros(()) for name in wanted}
    for index in range(len(images)):
        found = session.run([_error(name) for name in wanted], feed_of(session, images[index : index + 1]))
        totals = {name: totals[name] + value for name, value in zip(wanted, found, strict=True)}
        on_image()
    return {name: (total / len(images)).astype(np.float32) for name, total in totals.items()}


def _error(name: str) -> str:
    return f"{name}/bias_error"


def _with_twins(
    model: onnx.ModelProto,
    ranges: Mapping[str, TensorRange],
    nodes: Collection[str],
    options: Int8Options,
    rounded_weights: Mapping[str, NDArray[np.int8]],
) -> onnx.ModelProto:
    graph = Graph(model)
    kind = np.int8 if options.layout == "tensorrt" else np.uint8
    rounded: set[str] = set()
    result = []
    for node in graph.nodes:
        result.append(node)
        if node.name not in nodes:
            continue
        source, base = node.input[0], f"{node.name}/twin"
        if source not in rounded:
            rounded.add(source)
            scale, zero = activation_parameters(ranges[source], options)
            graph.set_constant(f"{source}/twin/scale", np.asarray(scale, np.float32))
            graph.set_constant(f"{source}/twin/zero_point", np.asarray(zero, kind))
            parameters = [f"{source}/twin/scale", f"{source}/twin/zero_point"]
            result += [
                helper.make_node("QuantizeLinear", [source, *parameters], [f"{source}/twin/integers"]),
                helper.make_node(
                    "DequantizeLinear", [f"{source}/twin/integers", *parameters], [f"{source}/twin/rounded"]
                ),
            ]
        weight = np.asarray(graph.constant(node.input[1]), np.float32)
        stored, scales = quantise_weight(weight, options.weight_limit, half_scales=options.half_scales)
        stored = rounded_weights.get(node.name, stored)
        graph.set_constant(f"{base}/weight", stored * scales.reshape(-1, *[1] * (weight.ndim - 1)))
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = base
        twin.input[0], twin.input[1], twin.output[0] = f"{source}/twin/rounded", f"{base}/weight", f"{base}/result"
        result += [
            twin,
            helper.make_node("Sub", [f"{base}/result", node.output[0]], [f"{base}/difference"]),
            helper.make_node("ReduceMean", [f"{base}/difference"], [_error(node.name)], axes=_AXES, keepdims=0),
        ]
    graph.replace_nodes(result)
    for name in nodes:
        graph.model.graph.output.append(helper.make_tensor_value_info(_error(name), TensorProto.FLOAT, None))
    return graph.model
