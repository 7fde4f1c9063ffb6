"""Real scores from a fake engine: the graph that it was built from, run in ONNX Runtime.

Q/DQ nodes are computed as they stand: rounded to integers, then multiplied in floats. With precision flags on a weakly
typed network without them, every layer that is not pinned to float32 is computed in float16, the worst that the flags
allow. Speed and what TensorRT would fuse are not imitated.
"""

from __future__ import annotations

import base64
import functools
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgead.precision.fp16 import WEIGHTED, to_fp16

TYPES = {
    1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF",
}  # fmt: skip


def output_types(model: bytes) -> dict[str, str]:
    """Name of TensorRT's type of every tensor of a graph, where it can be inferred."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model)).graph
    values = [*graph.value_info, *graph.output]
    return {value.name: TYPES[value.type.tensor_type.elem_type] for value in values}


def compiled(network: Any, config: Any) -> dict[str, Any]:
    """The fields of a plan that computes: the graph in the precision that network and flags give, and each layer's."""
    model = onnx.load_model_from_string(network._model)
    precision = {layer.name: getattr(layer, "precision", None) for layer in network._layers}
    pinned = {name for name, own in precision.items() if own is not None and own.name == "FLOAT"}
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    in_integers = {node.name for node in model.graph.node if node.op_type in WEIGHTED and node.input[0] in dequantised}
    lowers = "FP16" in config._flags
    if lowers and not in_integers:
        model = to_fp16(model, pinned)
    types = []
    for layer in network._layers:
        own = layer.get_output(0).dtype.name
        if layer.name in in_integers:
            types.append("INT8")
        else:
            types.append("HALF" if own == "HALF" or (lowers and layer.name not in pinned) else "FLOAT")
    return {"graph": base64.b64encode(model.SerializeToString()).decode(), "types": types}


def run_graph(graph: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Outputs by name."""
    session = _session(graph)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@functools.lru_cache(maxsize=2)
def _session(graph: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # as it is written: the optimiser would fold Q/DQ pairs into kernels of its own
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(base64.b64decode(graph), options, providers=["CPUExecutionProvider"])
