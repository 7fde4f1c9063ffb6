"""Largest of many channels, in parts: ONNX Runtime compares two tensors far faster than the channels of one.

With 2,048 centres at 640 px the largest affinity took a quarter of the time of the whole graph.
"""

from __future__ import annotations

import onnx
from onnx import helper

PARTS = 8
MIN_CHANNELS = 64


def split_maxima(proto: onnx.ModelProto) -> None:
    """Replace each ReduceMax over the channels of a convolution by the largest of `PARTS` equal parts first, in place.

    Convolutions of fewer than `MIN_CHANNELS` channels, and of a number that does not divide, are left alone. The result is the
    same to the bit.
    """
    graph = proto.graph
    channels = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 4}
    counts = {node.output[0]: channels.get(node.input[1], 0) for node in graph.node if node.op_type == "Conv"}
    result = []
    for node in graph.node:
        stated = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        count = counts.get(node.input[0], 0) if node.op_type == "ReduceMax" and stated.get("axes") == [1] else 0
        if count >= MIN_CHANNELS and count % PARTS == 0:
            base = node.name or node.output[0]
            parts = [f"{base}/part_{number}" for number in range(PARTS)]
            result.append(helper.make_node("Split", [node.input[0]], parts, f"{base}/split", axis=1))
            result.append(helper.make_node("Max", parts, [f"{base}/largest"], f"{base}/largest"))
            node.input[0] = f"{base}/largest"
        result.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in result]
    del graph.node[:]
    graph.node.extend(kept)
