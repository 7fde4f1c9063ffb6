"""INT8 form of a graph: QuantizeLinear and DequantizeLinear where a backend turns them into integer kernels.

Both layouts cover the same nodes with the same calibrated ranges; backends differ in what they fuse.

- `tensorrt`: activations int8 with zero point 0 (see `centre`), one scale per tensor, before every quantised
  convolution and the skip branch of a residual sum; biases stay float; nothing between a convolution and the operators
  fused into it.
- `onnxruntime`: activations uint8 with a zero point, also after every quantised node, int32 biases: the pattern its CPU
  kernels fuse. A range that begins at 0 or ends at 6 makes the activation before it disappear.

Weights are symmetric int8 with one scale per output channel in both.

Products with one matrix per position are covered for ONNX Runtime only: reading their weights takes longer than the
arithmetic, and 8 bits need a quarter of the memory traffic.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.precision.graph import Graph
from edgead.precision.ranges import TensorRange

Layout = Literal["tensorrt", "onnxruntime"]
# above the smallest float16 number, so that no scale becomes 0 in any form
MIN_RANGE = 1e-4
MIN_SCALE = 1e-7
# Medians of the layers' errors above which a layer stays in higher precision. TensorRT's form has fewer steps for the
# input of a padded convolution after a clip, and its higher precision is float16, which costs little: with 10 the scores' rank
# correlation with float32 is 0.998, 0.998 and 0.999 (default model on magnetic_tile, pcb and solar_cell_mono, held-out
# good images and pseudo-defects), with 20 0.997, 0.997 and 0.998, without outliers 0.985, 0.993 and 0.914. On a CPU each
# transition to float32 costs two passes over the tensor.
OUTLIERS: dict[Layout, float] = {"tensorrt": 10.0, "onnxruntime": 100.0}
MIDDLE = 128
# Residual streams with equalised channels have their 0 in the middle of 255 steps, between two integers: without this, the
# last bit of a float would pick one, and the same bundle would give different engines on different processors.
TIE = 1e-3
QUANTISABLE = ("Conv",)


@dataclass(frozen=True)
class Int8Options:
    """Integer layout.

    Attributes:
        layout: Backend whose layout is used.
        reduce_range: Whether weights have 7 bits, for x86 processors without VNNI, whose 8-bit products saturate.
        half_scales: Whether scales are exact in float16, for a graph that runs in float16 between integers.
        weights_first: Whether products of ONNX Runtime have their matrices on the left, for processors with AMX.
    """

    layout: Layout
    reduce_range: bool = False
    half_scales: bool = False
    weights_first: bool = False

    @property
    def weight_limit(self) -> int:
        """Largest magnitude of an integer weight."""
        return 64 if self.reduce_range else 127


@dataclass
class _Quantiser:
    graph: Graph
    ranges: Mapping[str, TensorRange]
    options: Int8Options
    quantised: Collection[str]
    channel_reach: Mapping[str, NDArray[np.float32]]
    bias_errors: Mapping[str, NDArray[np.float32]]
    rounded: Mapping[str, NDArray[np.int8]]
    pairs: dict[str, tuple[str, float, list[onnx.NodeProto]]] = field(default_factory=dict)

    def pair(self, tensor: str) -> str:
        """Name of the quantised and dequantised form of an activation."""
        if tensor not in self.pairs:
            scale, zero = activation_parameters(self.ranges[tensor], self.options)
            names = [f"{tensor}/{part}" for part in ("scale", "zero_point", "quantised", "dequantised")]
            self.graph.set_constant(names[0], np.asarray(scale, np.float32))
            self.graph.set_constant(names[1], np.asarray(zero, self.activation_type))
            nodes = [
                helper.make_node("QuantizeLinear", [tensor, names[0], names[1]], [names[2]], f"{tensor}/quantise"),
                helper.make_node("DequantizeLinear", [names[2], *names[:2]], [names[3]], f"{tensor}/dequantise"),
            ]
            self.pairs[tensor] = (names[3], scale, nodes)
        return self.pairs[tensor][0]

    @property
    def activation_type(self) -> type[np.generic]:
        return np.int8 if self.options.layout == "tensorrt" else np.uint8

    def weights(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Store a convolution's weights as int8 and, for ONNX Runtime, its bias as int32."""
        weight = np.asarray(self.graph.constant(node.input[1]), np.float32)
        stored, scale = quantise_weight(weight, self.options.weight_limit, half_scales=self.options.half_scales)
        stored = self.rounded.get(node.name, stored)
        if node.name in self.bias_errors:
            self.graph.add_to_bias(node, -self.bias_errors[node.name])
        base = f"{node.name}/weight"
        self.graph.set_constant(f"{base}/scale", scale)
        self.graph.set_constant(f"{base}/quantised", stored)
        self.graph.set_constant(f"{base}/zero_point", np.zeros(len(scale), np.int8))
        names = [f"{base}/quantised", f"{base}/scale", f"{base}/zero_point"]
        added = [helper.make_node("DequantizeLinear", names, [f"{base}/dequantised"], f"{base}/dequantise", axis=0)]
        node.input[1] = f"{base}/dequantised"
        if self.options.layout == "onnxruntime" and len(node.input) > 2:
            added.append(self._integer_bias(node, scale))
        return added

    def product(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Replace `x @ W` of `(P, N, C)` and `(P, C, K)` by integer arithmetic.

        W has a scale per position and column. x is divided by the largest magnitude of each channel, which W absorbs, and
        then gets a scale per position and image at run time: after decorrelation small differences matter, and a defect may
        exceed every good image. W is unsigned: products with signed weights saturate on x86 without VNNI.

        ONNX Runtime copies the right operand into another order on every run, which costs more than the arithmetic for one
        image. `weights_first` computes `(Wᵀ xᵀ)ᵀ`, the same integers: 400 matrices of 176² then take 0.91 ms instead
        of 1.35 with AMX on two threads, and as long as before on AVX-512 without it.
        """
        source, base = node.input[0], f"{node.name}/product"
        first = self.options.weights_first
        reach = np.maximum(self.channel_reach[source], MIN_RANGE).astype(np.float32)
        weight = np.asarray(self.graph.constant(node.input[1]), np.float32) * reach[:, None]
        scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127.0, MIN_SCALE).astype(np.float32)
        stored = (np.rint(weight / scale) + MIDDLE).astype(np.uint8)
        positions, channels, results = weight.shape
        values: dict[str, NDArray[np.generic]] = {
            "per_reach": 1.0 / reach,
            "smallest": np.asarray(MIN_SCALE, np.float32),
            "per_step": np.asarray(1.0 / 127.0, np.float32),
            "one": np.asarray(1.0, np.float32),
            "middle": np.asarray(MIDDLE, np.uint8),
            "weight": stored.transpose(0, 2, 1) if first else stored,
            "scale": scale,
        }
        if first:
            values["zero"] = np.asarray(0, np.int8)
            values["rows_read"] = np.asarray([positions, -1, channels], np.int64)
            values["rows_made"] = np.asarray([positions, -1, results], np.int64)
        for name, value in values.items():
            self.graph.set_constant(f"{base}/{name}", value)

        def make(kind: str, result: str, *reads: str, **attributes: int | list[int]) -> onnx.NodeProto:
            names = [name if name == source else f"{base}/{name}" for name in reads]
            made = helper.make_node(kind, names, [f"{base}/{result}"], f"{base}/{result}")
            made.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
            return made

        # a Reshape to the same shape: ONNX Runtime would join Transposes across it into one that takes ten times as long
        rows = [make("Reshape", "rows", source, "rows_read")] if first else []
        multiply = [make("MatMulInteger", "integers", "quantised", "weight", "middle", "middle")]
        if first:
            multiply = [
                make("Transpose", "columns", "quantised", perm=[0, 2, 1]),
                make("MatMulInteger", "column_integers", "weight", "columns", "middle"),
                make("Transpose", "row_integers", "column_integers", perm=[0, 2, 1]),
                make("Reshape", "integers", "row_integers", "rows_made"),
            ]
        return [
            *rows,
            make("Mul", "equal", "rows" if first else source, "per_reach"),
            make("Abs", "magnitude", "equal"),
            make("ReduceMax", "largest", "magnitude", axes=[-1], keepdims=1),
            make("Mul", "rough", "largest", "per_step"),
            make("Max", "step", "rough", "smallest"),
            make("Div", "steps", "equal", "step"),
            make("QuantizeLinear", "quantised", "steps", "one", "zero" if first else "middle"),
            *multiply,
            make("Cast", "floats", "integers", to=TensorProto.FLOAT),
            make("Mul", "scaled", "floats", "step"),
            helper.make_node("Mul", [f"{base}/scaled", f"{base}/scale"], node.output, node.name),
        ]

    def _integer_bias(self, node: onnx.NodeProto, weight_scale: NDArray[np.float32]) -> onnx.NodeProto:
        bias = np.asarray(self.graph.constant(node.input[2]), np.float64)
        scale = (weight_scale.astype(np.float64) * self.pairs[_source(node.input[0])][1]).astype(np.float32)
        base = f"{node.name}/bias"
        limit = 2**31 - 1
        self.graph.set_constant(f"{base}/scale", scale)
        self.graph.set_constant(f"{base}/quantised", np.clip(np.rint(bias / scale), -limit, limit).astype(np.int32))
        self.graph.set_constant(f"{base}/zero_point", np.zeros(len(scale), np.int32))
        names = [f"{base}/quantised", f"{base}/scale", f"{base}/zero_point"]
        node.input[2] = f"{base}/dequantised"
        return helper.make_node("DequantizeLinear", names, [f"{base}/dequantised"], f"{base}/dequantise", axis=0)


def activation_parameters(found: TensorRange, options: Int8Options) -> tuple[float, int]:
    """Scale and zero point of an activation."""
    if options.layout == "tensorrt":
        scale = max(-found.low, found.high, MIN_RANGE) / 127.0
        return (float(np.float16(scale)) if options.half_scales else scale), 0
    scale = max(found.high - found.low, MIN_RANGE) / 255.0
    return scale, int(np.clip(np.floor(-found.low / scale + 0.5 - TIE), 0, 255))


def quantise_weight(
    weight: NDArray[np.float32], limit: int = 127, *, half_scales: bool = False
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise weights `(K, ...)` to symmetric int8 with one scale per output channel, `(K,)`."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.maximum(largest / limit, MIN_SCALE).astype(np.float32)
    if half_scales:
        scale = scale.astype(np.float16).astype(np.float32)
    shaped = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / shaped), -limit, limit).astype(np.int8), scale


def quantisable_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that INT8 can cover, in graph order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [n.name for n in model.graph.node if n.op_type in QUANTISABLE and n.input[1] in constants]


def position_products(model: onnx.ModelProto) -> dict[str, str]:
    """Names of the products with one matrix per position, and the tensor `(P, N, C)` that each reads."""
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 3}
    return {n.name: n.input[0] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in matrices}


def tensors_to_calibrate(model: onnx.ModelProto) -> list[str]:
    """Names of all activations whose range any INT8 form of the graph may need."""
    graph = Graph(model)
    wanted: dict[str, None] = {}
    for node in graph.nodes:
        if node.name in set(quantisable_nodes(model)):
            wanted[node.input[0]] = wanted[graph.result_of(node)] = None
        elif is_residual_sum(graph, node):
            wanted.update(dict.fromkeys([*node.input, graph.result_of(node)]))
    return [*wanted, *(name for name in position_products(model).values() if name not in wanted)]


def to_int8(
    model: onnx.ModelProto,
    ranges: Mapping[str, TensorRange],
    nodes: Collection[str],
    options: Int8Options,
    channel_reach: Mapping[str, NDArray[np.float32]] | None = None,
    bias_errors: Mapping[str, NDArray[np.float32]] | None = None,
    rounded: Mapping[str, NDArray[np.int8]] | None = None,
) -> onnx.ModelProto:
    """Quantise some nodes of a float32 graph.

    Args:
        model: Float32 model of opset 13 to 17.
        ranges: Ranges of `tensors_to_calibrate`.
        nodes: Names of the convolutions, and for ONNX Runtime of the `position_products`, to quantise; all others stay
            float.
        options: Integer layout.
        channel_reach: Largest magnitude of each channel, `(C,)`, by tensor that a product reads.
        bias_errors: Mean error per output channel, `(K,)`, by convolution, to subtract from its bias; see
            `bias_correction`.
        rounded: Integer weights by convolution, see `second_order`; of those left out, the nearest integers.

    Raises:
        ValueError: If `nodes` contains products and the layout is not that of ONNX Runtime.
    """
    graph = Graph(model)
    products = set(nodes) & set(position_products(model))
    if products and options.layout != "onnxruntime":
        raise ValueError(f"only ONNX Runtime's layout covers products: {', '.join(sorted(products))}")
    quantiser = _Quantiser(
        graph, ranges, options, set(nodes) - products, channel_reach or {}, bias_errors or {}, rounded or {}
    )
    sums = _sums_in_integers(graph, quantiser.quantised) if options.layout == "onnxruntime" else set()
    requantised = {
        graph.result_of(node): None
        for node in graph.nodes
        if options.layout == "onnxruntime" and (node.name in quantiser.quantised or node.name in sums)
    }
    result: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if node.name in quantiser.quantised:
            node.input[0] = quantiser.pair(node.input[0])
        elif node.name in sums:
            node.input[:] = [quantiser.pair(name) for name in node.input]
        else:
            for index, name in enumerate(node.input):
                if name in requantised or (options.layout == "tensorrt" and _is_skip(graph, node, index, quantiser)):
                    node.input[index] = quantiser.pair(name)
    placed: set[str] = set()
    for node in graph.nodes:
        for name in node.input:
            source = _source(name)
            if source in quantiser.pairs and source not in placed:
                placed.add(source)
                result.extend(quantiser.pairs[source][2])
        if node.name in quantiser.quantised:
            result.extend(quantiser.weights(node))
        if node.name in products:
            result.extend(quantiser.product(node))
        else:
            result.append(node)
    graph.replace_nodes(result)
    graph.drop_unused()
    return graph.model


def _source(name: str) -> str:
    """Name of the float tensor that a dequantised tensor was made from."""
    return name.removesuffix("/dequantised")


def is_residual_sum(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node adds two activations."""
    return node.op_type == "Add" and not any(graph.is_constant(name) for name in node.input)


def _sums_in_integers(graph: Graph, quantised: Collection[str]) -> set[str]:
    """Names of the sums read only by quantised nodes and other such sums, which lose nothing by rounding."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if not is_residual_sum(graph, node):
            continue
        readers = graph.consumers.get(graph.result_of(node), [])
        if readers and all(reader.name in quantised or reader.name in found for reader in readers):
            found.add(node.name)
    return found


def _is_skip(graph: Graph, node: onnx.NodeProto, index: int, quantiser: _Quantiser) -> bool:
    """Whether this input of a residual sum is the skip branch: the other comes directly from a quantised convolution."""
    if not is_residual_sum(graph, node):
        return False
    mine, other = (graph.producer.get(node.input[i]) for i in (index, 1 - index))
    if other is None or other.name not in quantiser.quantised:
        return False
    if mine is not None and mine.name in quantiser.quantised and node.input[index] not in _earlier(graph, node):
        return False
    readers = graph.consumers.get(node.input[index], [])
    return any(reader.name in quantiser.quantised for reader in readers)


def _earlier(graph: Graph, node: onnx.NodeProto) -> set[str]:
    """Inputs of a sum with other readers: a skip branch is one of them."""
    return {name for name in node.input if len(graph.consumers.get(name, [])) > 1}
