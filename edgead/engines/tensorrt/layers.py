"""Precision of each layer of an engine, from TensorRT's engine inspector."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt as trt

UNKNOWN = "unknown"
# longest names first: "bf16" holds no "fp16", but "float" is in "bfloat16" and "float16"
_TYPES = (
    (re.compile(r"\b(bf16|bfloat16)\b", re.I), "bf16"),
    (re.compile(r"\b(fp16|float16|half)\b", re.I), "fp16"),
    (re.compile(r"\b(fp32|float32|float)\b", re.I), "fp32"),
    (re.compile(r"\b(fp8|fp8e4m3|float8)\b", re.I), "fp8"),
    (re.compile(r"\buint8\b", re.I), "uint8"),
    (re.compile(r"\bint8\b", re.I), "int8"),
    (re.compile(r"\bint64\b", re.I), "int64"),
    (re.compile(r"\bint32\b", re.I), "int32"),
    (re.compile(r"\bbool\b", re.I), "bool"),
)
# format and type in one string up to TensorRT 10, separate in 11
_TYPE_KEYS = ("Datatype", "DataType", "Data Type", "Format/Datatype", "Type", "Format")


@dataclass(frozen=True)
class LayerInfo:
    """One layer as TensorRT fused it.

    Attributes:
        name: Names of the graph's nodes in the layer, joined by TensorRT.
        type: TensorRT's layer type.
        precision: `fp32`, `fp16`, `int8`, ... of the weights, or of the first input if there are none; or `unknown`.
    """

    name: str
    type: str
    precision: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def layers_of(engine: trt.ICudaEngine) -> list[LayerInfo]:
    """Layers of an engine built with detailed verbosity; empty if TensorRT reports none."""
    import tensorrt as trt

    inspector: trt.EngineInspector = engine.create_engine_inspector()
    return layers_from_json(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def layers_from_json(text: str) -> list[LayerInfo]:
    """Parse the inspector's JSON.

    Reads the forms of 8.x and 10.x (`Format/Datatype` in one string) and of 11.x (separate). A layer without details, an
    unknown type name or invalid JSON gives `unknown` or nothing, never an error: the rows are only displayed.
    """
    try:
        content = json.loads(text)
    except ValueError:
        return []
    layers = content.get("Layers") if isinstance(content, dict) else content
    return [_layer(layer) for layer in layers] if isinstance(layers, list) else []


def _layer(layer: Any) -> LayerInfo:
    if not isinstance(layer, dict):
        return LayerInfo(str(layer), UNKNOWN, UNKNOWN)
    kind = layer.get("ParameterType") or layer.get("LayerType") or UNKNOWN
    weights = layer.get("Weights")
    described = [weights] if isinstance(weights, dict) and weights.get("Count") else []
    for side in ("Inputs", "Outputs"):
        tensors = layer.get(side)
        described += tensors[:1] if isinstance(tensors, list) else []
    precision = next((found for found in map(_precision, described) if found != UNKNOWN), UNKNOWN)
    return LayerInfo(str(layer.get("Name", UNKNOWN)), str(kind), precision)


def _precision(tensor: Any) -> str:
    if not isinstance(tensor, dict):
        return UNKNOWN
    for key in _TYPE_KEYS:
        text = tensor.get(key)
        if isinstance(text, str):
            found = next((name for pattern, name in _TYPES if pattern.search(text)), UNKNOWN)
            if found != UNKNOWN:
                return found
    return UNKNOWN
