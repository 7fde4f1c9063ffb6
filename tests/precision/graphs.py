"""Small graphs in the shape of ours: uint8 images, a backbone with a residual sum and a depthwise part, a score."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
CHANNELS = 6


def make_graph(seed: int = 0, *, spread: float = 1.0) -> onnx.ModelProto:
    """Opset 17, `image` -> `anomaly_map` `(N, SIDE, SIDE)`, `pred_score` `(N,)`; 6 convolutions, one of them depthwise.

    Args:
        seed: Of the weights.
        spread: Ratio of the largest to the smallest scale of the residual stream's channels.
    """
    random = np.random.default_rng(seed)
    constants: dict[str, NDArray[np.generic]] = {
        "scale": np.full((1, 3, 1, 1), 1 / 64, np.float32),
        "shift": np.full((1, 3, 1, 1), -2.0, np.float32),
        "low": np.array(0.0, np.float32),
        "high": np.array(6.0, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"], "multiply"),
        helper.make_node("Add", ["scaled", "shift"], ["normal"], "add"),
    ]
    stream = np.geomspace(1.0, spread, CHANNELS).astype(np.float32)

    def conv(name: str, source: str, inputs: int, outputs: int, kernel: int = 1, group: int = 1) -> str:
        weight = random.normal(size=(outputs, inputs // group, kernel, kernel)) / np.sqrt(inputs // group * kernel**2)
        if name in ("stem", "project"):
            weight = weight * stream[:, None, None, None]
        if name in ("expand", "last"):
            weight = weight / stream[None, :, None, None]
        constants[f"{name}.weight"] = weight.astype(np.float32)
        constants[f"{name}.bias"] = (random.normal(size=outputs) * 0.1).astype(np.float32)
        names = [source, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", names, [f"{name}.out"], name, pads=[kernel // 2] * 4, group=group))
        return f"{name}.out"

    def clip(source: str) -> str:
        nodes.append(helper.make_node("Clip", [source, "low", "high"], [f"{source}.clip"], f"{source}/clip"))
        return f"{source}.clip"

    stem = conv("stem", "normal", 3, CHANNELS, 3)
    wide = clip(conv("expand", stem, CHANNELS, 12))
    wide = clip(conv("depthwise", wide, 12, 12, 3, group=12))
    projected = conv("project", wide, 12, CHANNELS)
    nodes.append(helper.make_node("Add", [stem, projected], ["sum"], "residual"))
    hidden = conv("last", "sum", CHANNELS, 8)
    nodes.append(helper.make_node("Relu", [hidden], ["hidden"], "relu"))
    latent = conv("latent", "hidden", 8, 8)
    nodes += [
        helper.make_node("Mul", [latent, latent], ["square"], "square"),
        helper.make_node("ReduceMean", ["square"], ["anomaly_map"], "mean", axes=[1], keepdims=0),
        helper.make_node("ReduceMean", ["anomaly_map"], ["pred_score"], "score", axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["batch", SIDE, SIDE]),
            helper.make_tensor_value_info("pred_score", TensorProto.FLOAT, ["batch"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def make_images(count: int = 6, seed: int = 0) -> NDArray[np.uint8]:
    """Random images `(count, SIDE, SIDE, 3)`."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
