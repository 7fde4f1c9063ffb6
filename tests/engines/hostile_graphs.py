"""Changes of a graph that a hostile or damaged bundle may hold under right digests, each by a name."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Change = Callable[[onnx.ModelProto], None]


def _constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _rename(model: onnx.ModelProto, before: str, after: str) -> None:
    """Rename a tensor wherever a node makes or takes it, but not in the graph's list of outputs."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == before:
                    names[index] = after


def blind_score(model: onnx.ModelProto) -> None:
    """The score is 0 for every image."""
    _rename(model, "pred_score", "seen")
    zero = _constant(model, "zero", np.zeros(1, np.float32))
    model.graph.node.append(helper.make_node("Mul", ["seen", zero], ["pred_score"]))


def blind_map(model: onnx.ModelProto) -> None:
    _rename(model, "anomaly_map", "seen")
    zero = _constant(model, "zero", np.zeros(1, np.float32))
    model.graph.node.append(helper.make_node("Mul", ["seen", zero], ["anomaly_map"]))


def endless_loop(model: onnx.ModelProto) -> None:
    """The score passes through a loop whose condition is always true."""
    _rename(model, "pred_score", "seen")
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["state"], ["same"])],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, None),
        ],
    )
    yes = _constant(model, "yes", np.array(True))
    model.graph.node.append(helper.make_node("Loop", ["", yes, "seen"], ["pred_score"], body=body))


def foreign_domain(model: onnx.ModelProto) -> None:
    _rename(model, "pred_score", "seen")
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Identity", ["seen"], ["pred_score"], domain="com.example"))


def random_numbers(model: onnx.ModelProto) -> None:
    _rename(model, "pred_score", "seen")
    model.graph.node.append(helper.make_node("RandomNormalLike", ["seen"], ["pred_score"]))


def function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("f", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))


def external_data(model: onnx.ModelProto) -> None:
    """A weight is read from another file."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/hostname")


def huge_tensor(model: onnx.ModelProto) -> None:
    """A gigapixel of zeros is added to the score."""
    _rename(model, "pred_score", "seen")
    size = _constant(model, "much", np.array([100_000, 100_000], np.int64))
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", [size], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["most"], keepdims=0),
            helper.make_node("Add", ["seen", "most"], ["pred_score"]),
        ]
    )


def renamed_output(model: onnx.ModelProto) -> None:
    for output in model.graph.output:
        if output.name == "pred_score":
            output.name = "score"
    _rename(model, "pred_score", "score")


def missing_output(model: onnx.ModelProto) -> None:
    del model.graph.output[[output.name for output in model.graph.output].index("pred_score")]


def further_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["pred_score"], ["extra"]))
    model.graph.output.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["batch"]))


def further_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def other_image_size(model: onnx.ModelProto) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        dim.dim_value *= 2


def other_map_size(model: onnx.ModelProto) -> None:
    _rename(model, "anomaly_map", "seen")
    axes = _constant(model, "tiles", np.array([1, 2, 1], np.int64))
    model.graph.node.append(helper.make_node("Tile", ["seen", axes], ["anomaly_map"]))
    for output in model.graph.output:
        if output.name == "anomaly_map":
            output.type.tensor_type.shape.dim[1].dim_value *= 2


def not_finite(model: onnx.ModelProto) -> None:
    _rename(model, "pred_score", "seen")
    model.graph.node.append(helper.make_node("Log", [_constant(model, "minus", -np.ones(1, np.float32))], ["nothing"]))
    model.graph.node.append(helper.make_node("Add", ["seen", "nothing"], ["pred_score"]))


# What the check of the graph refuses by itself, and what the first image finds.
REFUSED: dict[str, tuple[Change, str]] = {
    "endless loop": (endless_loop, "the operator Loop is not allowed"),
    "foreign domain": (foreign_domain, "is of the domain 'com.example'"),
    "random numbers": (random_numbers, "RandomNormalLike is not allowed"),
    "function": (function, "it holds functions"),
    "external data": (external_data, "is in another file"),
    "huge tensor": (huge_tensor, "zeros of 100000 x 100000 is too large"),
    "renamed output": (renamed_output, "without anomaly_map and pred_score"),
    "missing output": (missing_output, "without anomaly_map and pred_score"),
    "further output": (further_output, "unknown output 'extra'"),
    "further input": (further_input, "its inputs are image, more"),
}
WRONG: dict[str, tuple[Change, str]] = {
    "blind score": (blind_score, "its score is 0 instead of"),
    "blind map": (blind_map, "its map differs by up to"),
    "other image size": (other_image_size, r"manifest says image \(None, 64, 64, 3\)|sizes do not fit together"),
    "other map size": (other_map_size, r"manifest says anomaly_map \(None, 8, 8\)"),
    "not finite": (not_finite, "its score is nan instead of"),
}


def changed(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    """A changed copy."""
    found = copy.deepcopy(model)
    change(found)
    return found
