"""Second-order rounding: weights rounded one after the other, each error made up for by those not yet rounded.

Rounding to the nearest integer gives the smallest error of each weight, not of the layer's output: inputs that rise and fall
together let the error of one weight cancel that of another. For a convolution with weights w and the second moments H of its
inputs, the output's squared error is d H dᵀ with d = ŵ - w. Frantar et al. 2022 ("GPTQ", section 3) round the weights in a fixed order
and add to each of those left, i, the part -e Uᵢ of the error e of the one just rounded, where U is the upper Cholesky factor of H⁻¹.

Deviations: the inputs are those of the float graph, rounded to integers, of one layer at a time; where the mean error is
corrected in the bias anyway, H is their covariance; weights are taken by falling second moment of their input; scales stay those of
rounding to the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.engines.onnx_session import feed_of, open_session
from edgead.precision.graph import Graph, attributes
from edgead.precision.int8 import Int8Options, activation_parameters, quantise_weight
from edgead.precision.ranges import TensorRange

# Positions of an image that enter the moments. Sums of 256 products of two bytes are exact in float32.
POSITIONS = 256
# Added to the diagonal of H, as a share of its mean, so that it can be inverted (GPTQ's damping).
DAMPING = 0.01
# Mean square in integer steps below which an input does not change: what is left is the error of the sums.
NO_CHANGE = 1e-6


@dataclass
class _Layer:
    """A convolution's geometry and the moments of its inputs.

    Attributes:
        source: Tensor that it reads.
        weight: `(K, C / groups, kh, kw)`.
        total: Sum of the inputs of a kernel, `(groups, n)` with n = C / groups * kh * kw.
        products: Sum of their products, `(groups, n, n)`.
        count: Number of kernel positions summed up.
    """

    source: str
    weight: NDArray[np.float32]
    groups: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    total: NDArray[np.float64] = field(init=False)
    products: NDArray[np.float64] = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        size = int(np.prod(self.weight.shape[1:]))
        self.total = np.zeros((self.groups, size))
        self.products = np.zeros((self.groups, size, size))

    def add(self, values: NDArray[np.float32]) -> None:
        """Add the inputs `(1, C, H, W)` of an image, in integer steps."""
        top, left, bottom, right = self.pads
        padded = np.pad(values[0], ((0, 0), (top, bottom), (left, right)))
        kernel = self.weight.shape[2:]
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))  # type: ignore[call-overload]
        windows = windows[:, :: self.strides[0], :: self.strides[1]]
        height, width = windows.shape[1:3]
        chosen = np.unique(np.linspace(0, height * width - 1, min(POSITIONS, height * width)).astype(int))
        taken = windows[:, chosen // width, chosen % width]  # (C, n positions, kh, kw)
        rows = taken.reshape(self.groups, -1, len(chosen), *kernel).transpose(0, 2, 1, 3, 4)
        rows = rows.reshape(self.groups, len(chosen), -1)
        self.total += rows.sum(axis=1)
        self.products += rows.transpose(0, 2, 1) @ rows
        self.count += len(chosen)

    def moments(self, *, centred: bool) -> NDArray[np.float64]:
        """Mean products of the inputs, `(groups, n, n)`; of their differences from the mean if `centred`."""
        mean = self.total / self.count
        return self.products / self.count - (mean[:, :, None] * mean[:, None, :] if centred else 0.0)


def second_order_weights(
    model: onnx.ModelProto,
    ranges: Mapping[str, TensorRange],
    nodes: Collection[str],
    options: Int8Options,
    images: NDArray[np.uint8],
    *,
    centred: bool,
    threads: int = 0,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, NDArray[np.int8]]:
    """Integer weights `(K, C / groups, kh, kw)` of convolutions, by node, with the scales of `quantise_weight`.

    Memory does not grow with the number of images.

    Args:
        model: Float32 model.
        ranges: Range of each tensor that a convolution reads.
        nodes: Names of the convolutions.
        options: Integer layout.
        images: Good images `(N, H, W, 3)` uint8 RGB, N >= 1.
        centred: Whether the mean error of each channel does not count, because its bias is corrected.
        threads: Number of CPU threads of ONNX Runtime; 0 = one per core.
        on_image: Called after each image.
    """
    graph = Graph(model)
    layers = {node.name: _layer(graph, node) for node in graph.nodes if node.name in set(nodes)}
    sources = list(dict.fromkeys(layer.source for layer in layers.values()))
    session = open_session(_with_outputs(graph, sources).SerializeToString(), threads)
    for index in range(len(images)):
        found = session.run(sources, feed_of(session, images[index : index + 1]))
        inputs = {name: _steps(found[i], ranges[name], options) for i, name in enumerate(sources)}
        for layer in layers.values():
            layer.add(inputs[layer.source])
        on_image()
    return {name: _round_layer(layer, options, centred=centred) for name, layer in layers.items()}


def round_weights(
    weights: NDArray[np.float64], moments: NDArray[np.float64], scales: NDArray[np.float64], limit: int
) -> NDArray[np.int8]:
    """Round the rows of matrices so that their products with typical inputs change least.

    Args:
        weights: `(groups, K, n)`.
        moments: Mean products of the inputs in integer steps, `(groups, n, n)`.
        scales: Value of one step of each row, `(groups, K)`.
        limit: Largest magnitude of an integer.
    """
    size = np.trace(moments, axis1=1, axis2=2)[:, None, None] / weights.shape[2]
    damped = moments / np.maximum(size, NO_CHANGE) + DAMPING * np.eye(weights.shape[2])
    order = np.argsort(-np.diagonal(damped, axis1=1, axis2=2), axis=1, kind="stable")
    ordered = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], axis=1), order[:, None, :], axis=2)
    inverse = np.linalg.inv(ordered)
    factor = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2.0).transpose(0, 2, 1)
    left = np.take_along_axis(weights / scales[:, :, None], order[:, None, :], axis=2)
    rounded = np.empty_like(left)
    for step in range(weights.shape[2]):
        rounded[:, :, step] = np.clip(np.rint(left[:, :, step]), -limit, limit)
        error = (left[:, :, step] - rounded[:, :, step]) / factor[:, step, step, None]
        left[:, :, step + 1 :] -= error[:, :, None] * factor[:, None, step, step + 1 :]
    stored = np.empty(weights.shape, np.int8)
    np.put_along_axis(stored, order[:, None, :], rounded.astype(np.int8), axis=2)
    return stored


def _round_layer(layer: _Layer, options: Int8Options, *, centred: bool) -> NDArray[np.int8]:
    limit = options.weight_limit
    nearest, scales = quantise_weight(layer.weight, limit, half_scales=options.half_scales)
    moments = layer.moments(centred=centred)
    rows = layer.weight.reshape(layer.groups, -1, moments.shape[1]).astype(np.float64)
    steps = scales.reshape(layer.groups, -1).astype(np.float64)
    return round_weights(rows, moments, steps, limit).reshape(nearest.shape)


def _layer(graph: Graph, node: onnx.NodeProto) -> _Layer:
    found = attributes(node)
    weight = np.asarray(graph.constant(node.input[1]), np.float32)
    strides = tuple(found.get("strides", (1, 1)))
    pads = tuple(found.get("pads", (0, 0, 0, 0)))
    return _Layer(str(node.input[0]), weight, int(found.get("group", 1)), strides, pads)  # type: ignore[arg-type]


def _with_outputs(graph: Graph, names: Collection[str]) -> onnx.ModelProto:
    present = {info.name for info in [*graph.model.graph.input, *graph.model.graph.output]}
    for name in names:
        if name not in present:
            graph.model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return graph.model


def _steps(values: NDArray[np.float32], found: TensorRange, options: Int8Options) -> NDArray[np.float32]:
    """Rounded activations as integers, 0 for 0."""
    scale, zero = activation_parameters(found, options)
    low, high = (-128, 127) if options.layout == "tensorrt" else (0, 255)
    steps: NDArray[np.float32] = np.clip(np.rint(values / np.float32(scale)), low - zero, high - zero)
    return steps
