"""Hold an ONNX graph against the table of what TensorRT's parser takes: `operator_problems(model, version)`.

The table restates documents; TensorRT itself is not asked. An operator that is not in the table is a problem, so that a
new one is looked up before it ships.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TABLE = Path(__file__).with_suffix(".yaml")
NAMES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool",
}
# where ONNX's own default is not in the table's list of values, an absent attribute is a problem as well
DEFAULTS = {"sorted": 1, "antialias": 0, "exclude_outside": 0}
FLOAT16_SCALES = 19  # the opset that allows them


@cache
def table() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return found


def versions() -> tuple[str, ...]:
    """The TensorRT versions that the table speaks of, oldest first."""
    return tuple(table()["opsets"])


def operator_problems(model: onnx.ModelProto, version: str) -> list[str]:
    """Everything in the graph that this TensorRT does not take, or takes and computes badly; empty if nothing.

    Args:
        model: With a fixed image size; its intermediate types are inferred here.
        version: One of `versions()`.
    """
    return list(_Graph(model, version).problems())


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


class _Graph:
    """One graph as one version sees it."""

    def __init__(self, model: onnx.ModelProto, version: str) -> None:
        self.model = onnx.shape_inference.infer_shapes(model)
        self.graph = self.model.graph
        self.version = version
        self.column = 8 if _number(version)[0] < 10 else 10
        self.opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
        values = (*self.graph.value_info, *self.graph.input, *self.graph.output)
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.types |= {tensor.name: tensor.data_type for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def problems(self) -> Iterator[str]:
        least, largest = table()["opsets"][self.version]
        for entry in self.model.opset_import:
            if entry.domain not in ("", "ai.onnx"):
                yield f"operators of the domain {entry.domain}"
            elif not least <= entry.version <= largest:
                yield f"opset {entry.version}, {self.version} takes {least} to {largest}"
        yield from self._ends()
        for node in self.graph.node:
            rules = table()["operators"].get(node.op_type)
            name = f"{node.op_type} {node.name or node.output[0]}"
            if node.op_type in table()["forbidden"]:
                yield f"{name}: {table()['forbidden'][node.op_type]}"
            elif rules is None or node.domain not in ("", "ai.onnx"):
                yield f"{name}: not in the table of operators"
            elif _number(rules.get("since", "0")) > _number(self.version):
                yield f"{name}: from {rules['since']} on"
            else:
                yield from (f"{name}: {problem}" for problem in self._node(node, rules))

    def _ends(self) -> Iterator[str]:
        """Inputs and outputs: no type that changes its meaning between versions; pixels feed a cast alone."""
        for value in (*self.graph.input, *self.graph.output):
            kind = NAMES.get(value.type.tensor_type.elem_type, "?")
            if kind not in ("float32", "float16", "uint8", "int32", "bool"):
                yield f"input or output {value.name} of {kind}"
        pixels = {value.name for value in self.graph.input if self.types[value.name] == TensorProto.UINT8}
        for node in self.graph.node:
            for name in pixels & set(node.input):
                if node.op_type != "Cast":
                    yield f"{node.op_type} {node.name}: takes the uint8 input {name}, which only a Cast may"

    def _node(self, node: onnx.NodeProto, rules: dict[str, Any]) -> Iterator[str]:
        shapes = rules.get("shapes", [])
        if rules.get("quantizes"):
            yield from self._quantization(node, rules)
        else:
            for place, name in enumerate(node.input):
                if name and place not in shapes:
                    yield from self._type(name, rules["types"][self.column])
        yield from self._inputs(node, rules)
        yield from self._attributes(node, rules)
        if len([name for name in node.output if name]) > rules.get("outputs", 99):
            yield f"more than {rules['outputs']} output"

    def _type(self, name: str, allowed: list[str]) -> Iterator[str]:
        kind = NAMES.get(self.types.get(name, 0), f"type {self.types.get(name, 'unknown')}")
        maker = self.makers.get(name)
        if kind not in allowed and not (kind == "int64" and name in self.constants):
            yield f"{name} is {kind}, {self.version} takes {', '.join(allowed)}"
        elif kind == "uint8" and (maker is not None or name in self.constants):
            yield f"{name} is uint8 inside the graph; only an input may be"

    def _inputs(self, node: onnx.NodeProto, rules: dict[str, Any]) -> Iterator[str]:
        given = {place: name for place, name in enumerate(node.input) if name}
        for place in rules.get("constant", []):
            if place in given and given[place] not in self.constants:
                yield f"input {place} must be a constant"
        for place, limit in rules.get("below", {}).items():
            if place in given and given[place] in self.constants and self.constants[given[place]].max() >= limit:
                yield f"input {place} is {self.constants[given[place]].max()}, must be below {limit}"
        if "never_quantized" in rules:
            makers = [self.makers[name].op_type for name in given.values() if name in self.makers]
            if "DequantizeLinear" in makers:
                yield f"quantized: {rules['never_quantized']}"

    def _attributes(self, node: onnx.NodeProto, rules: dict[str, Any]) -> Iterator[str]:
        values = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
        for name, allowed in rules.get("attributes", {}).items():
            value = texts.get(name, DEFAULTS.get(name, allowed[0]))
            if value not in allowed:
                yield f"{name} is {value}, not {' or '.join(map(str, allowed))}"
        for name in rules.get("ones", []):
            if set(texts.get(name, [1])) != {1}:
                yield f"{name} are {list(texts[name])}, must be 1"
        if "spatial" in rules:
            weight = self._weight(node.input[1]) if len(node.input) > 1 else None
            dims = weight.ndim - 2 if weight is not None else len(texts.get("kernel_shape", ()))
            if dims not in rules["spatial"]:
                yield f"{dims} spatial dimensions"
        if "casts_to" in rules and NAMES.get(texts["to"]) not in rules["casts_to"][self.column]:
            yield f"to {NAMES.get(texts['to'], texts['to'])}"

    # QuantizeLinear and DequantizeLinear

    def _quantization(self, node: onnx.NodeProto, rules: dict[str, Any]) -> Iterator[str]:
        """Symmetric int8 with constant positive scales: per tensor, or for weights per channel."""
        source, scale_name, zero_name = (*node.input, "")[:3]
        yield from self._type(source, rules["types"][self.column])
        if self.types.get(scale_name) == TensorProto.FLOAT16 and (self.column < 10 or self.opset < FLOAT16_SCALES):
            yield f"float16 scale; needs opset {FLOAT16_SCALES} and TensorRT 10"
        elif self.types.get(scale_name) not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            yield "the scale is neither float32 nor float16"
        if node.op_type == "QuantizeLinear" and self.types.get(source) != self.types.get(scale_name):
            yield "the scale's type is not the input's"
        yield from self._zero_point(node, zero_name)
        scale = self.constants.get(scale_name)
        if scale is None:
            yield "the scale is not a constant"
            return
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            yield "a scale is not positive"
        if scale.size > 1:
            yield from self._channels(node, scale)
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if attributes.get("block_size", 0):
            yield "block quantization"
        if attributes.get("output_dtype", 0) not in (0, TensorProto.INT8 if node.op_type == "QuantizeLinear" else 0):
            yield f"output_dtype {attributes['output_dtype']}"

    def _zero_point(self, node: onnx.NodeProto, name: str) -> Iterator[str]:
        if not name:
            if node.op_type == "QuantizeLinear":
                yield "no zero point, which means uint8 in ONNX"
            elif self.column < 10:
                yield "no zero point, which 8.x demands"
        elif self.types.get(name) != TensorProto.INT8:
            yield f"zero point of {NAMES.get(self.types.get(name, 0), '?')}, must be int8"
        elif name not in self.constants or self.constants[name].any():
            yield "the zero point is not a constant 0"

    def _channels(self, node: onnx.NodeProto, scale: NDArray[Any]) -> Iterator[str]:
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        weight = self._weight(node.input[0])
        if weight is None:
            yield "a scale per channel of an activation"
        elif scale.ndim != 1 or scale.size != weight.shape[axis]:
            yield f"{scale.shape} scales along axis {axis} of a weight {weight.shape}"
        elif self._feeds(node, "Conv") and axis != 0:
            yield f"scales along axis {axis} of a convolution's weight, must be 0"

    def _weight(self, name: str) -> NDArray[Any] | None:
        """The constant behind a tensor, over a Q and its DQ; None if it is computed."""
        maker = self.makers.get(name)
        while maker is not None and maker.op_type in ("QuantizeLinear", "DequantizeLinear"):
            name = maker.input[0]
            maker = self.makers.get(name)
        return self.constants.get(name)

    def _feeds(self, node: onnx.NodeProto, op_type: str) -> bool:
        users = [user for user in self.graph.node if node.output[0] in user.input]
        return any(
            user.op_type == op_type or (user.op_type == "DequantizeLinear" and self._feeds(user, op_type))
            for user in users
        )
