"""Image input read as 8-bit integers, in the order in which it arrives."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgead.precision.graph import Graph, attributes, permutation


def read_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace a graph's preparation of its input image by a DequantizeLinear.

    - Cast and scale become DequantizeLinear: the Transpose before it then moves bytes instead of floats. The results are
      identical to the bit.
    - If a convolution is the only reader of the shifted image, it reads rows of 3 W numbers instead of 3 planes, with a
      kernel 3 times as wide: an image of `(H, W, 3)` needs no Transpose. Only the order of sums changes.
    - A shift by whole grey levels becomes the zero point.

    The time saved is stated in `channels_last`.

    Args:
        model: Float32 model with scalar scale and shift (see `use_scalars`); others are returned unchanged.
    """
    graph = Graph(model)
    image = graph.model.graph.input[0]
    if image.type.tensor_type.elem_type != TensorProto.UINT8:
        return graph.model
    made: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        transpose = _transpose_of_image(graph, node, image.name)
        if transpose is None:
            continue
        behind = _first_convolution(graph, node) if permutation(transpose) == [0, 3, 1, 2] else None
        if behind is not None:
            add, convolution = behind
            made[convolution.output[0]] = _read_rows(graph, image, node.input[1], add, convolution)
        else:
            made[node.output[0]] = _read_planes(graph, image.name, node, transpose)
    if made:
        graph.substitute(made)
    return graph.model


def _first_convolution(graph: Graph, multiply: onnx.NodeProto) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The scalar shift after the scale, and the plain convolution that is its only reader."""
    add = graph.only_reader(multiply.output[0])
    if add is None or add.op_type != "Add" or not graph.is_constant(add.input[1]) or graph.constant(add.input[1]).shape:
        return None
    convolution = graph.only_reader(add.output[0])
    if convolution is None or convolution.op_type != "Conv" or not graph.is_constant(convolution.input[1]):
        return None
    stated = attributes(convolution)
    is_plain = stated.get("group", 1) == 1 and set(stated.get("dilations", [1])) == {1} and "auto_pad" not in stated
    return (add, convolution) if is_plain else None


def _read_rows(
    graph: Graph, image: onnx.ValueInfoProto, scale: str, add: onnx.NodeProto, convolution: onnx.NodeProto
) -> list[onnx.NodeProto]:
    """Nodes that read the image as one plane of `(H, 3 W)`, up to and including the first convolution."""
    height, width, channels = (size.dim_value for size in image.type.tensor_type.shape.dim[1:])
    weight = graph.constant(convolution.input[1])
    outputs, _, rows, columns = weight.shape
    grey_levels = -float(graph.constant(add.input[1])) / float(graph.constant(scale))
    is_whole = grey_levels == round(grey_levels) and 0 <= grey_levels <= 255
    base = f"{convolution.name}/rows"
    values: dict[str, NDArray[np.generic]] = {
        "shape": np.asarray([-1, 1, height, width * channels], np.int64),
        "zero_point": np.asarray(grey_levels if is_whole else 0, np.uint8),
        "weight": weight.transpose(0, 2, 3, 1).reshape(outputs, 1, rows, columns * channels),
    }
    for name, value in values.items():
        graph.set_constant(f"{base}/{name}", value)
    stated = attributes(convolution)
    down, right = stated.get("strides", [1, 1])
    pads = list(stated.get("pads", [0, 0, 0, 0]))
    pads[1], pads[3] = pads[1] * channels, pads[3] * channels
    integers, scaled, shifted = (f"{base}/{name}" for name in ("integers", "scaled", "shifted"))
    shift = [] if is_whole else [helper.make_node("Add", [scaled, add.input[1]], [shifted], add.name)]
    reads = [scaled if is_whole else shifted, f"{base}/weight", *convolution.input[2:]]
    return [
        helper.make_node("Reshape", [image.name, f"{base}/shape"], [integers], f"{base}/reshape"),
        helper.make_node("DequantizeLinear", [integers, scale, f"{base}/zero_point"], [scaled], f"{base}/dequantise"),
        *shift,
        helper.make_node(
            "Conv", reads, convolution.output, convolution.name,
            kernel_shape=[rows, columns * channels], strides=[down, right * channels], pads=pads,
        ),
    ]  # fmt: skip


def _read_planes(graph: Graph, image: str, multiply: onnx.NodeProto, transpose: onnx.NodeProto) -> list[onnx.NodeProto]:
    base = f"{multiply.name}/integers"
    graph.set_constant(f"{base}/zero_point", np.asarray(0, np.uint8))
    turned = helper.make_node("Transpose", [image], [f"{base}/turned"], f"{base}/turned")
    turned.attribute.extend(transpose.attribute)
    names = [f"{base}/turned", multiply.input[1], f"{base}/zero_point"]
    return [turned, helper.make_node("DequantizeLinear", names, multiply.output, multiply.name)]


def _transpose_of_image(graph: Graph, multiply: onnx.NodeProto, image: str) -> onnx.NodeProto | None:
    """The Transpose in Cast, Transpose, Mul of the image with a positive scalar."""
    if multiply.op_type != "Mul" or not graph.is_constant(multiply.input[1]):
        return None
    scale = graph.constant(multiply.input[1])
    transpose = graph.producer.get(multiply.input[0])
    if scale.shape or scale <= 0 or transpose is None or transpose.op_type != "Transpose":
        return None
    cast = graph.producer.get(transpose.input[0])
    return transpose if cast is not None and cast.op_type == "Cast" and cast.input[0] == image else None
