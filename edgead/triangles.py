"""Upper triangular matrices in a graph: only blocks that are not zero are stored and multiplied.

The whitening of a Gaussian per position is a triangular matrix W `(P, C, C)` (the inverse of a Cholesky factor), half of it
zeros. `z = x W` is computed in blocks of columns: block b of z needs the rows of W above the end of the block. With four blocks
five eighths of W are left, in the file, in memory and in the multiply-adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

BLOCKS = 4
# A small product costs less than the operators that would split it.
MIN_CHANNELS = 32


@dataclass(frozen=True)
class Block:
    """Columns `start` to `stop` of a triangular matrix, of which rows 0 to `stop` are stored as the constant `name`."""

    name: str
    start: int
    stop: int

    def of(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Block `(P, stop, stop - start)` of a matrix `(P, C, C)`."""
        return matrix[:, : self.stop, self.start : self.stop]


def is_triangular(matrix: NDArray[Any]) -> bool:
    """Whether matrices `(P, C, C)` are worth splitting: large enough, and exactly zero below their diagonals."""
    if matrix.ndim != 3 or matrix.shape[1] != matrix.shape[2] or matrix.shape[1] < MIN_CHANNELS:
        return False
    rows, columns = np.tril_indices(matrix.shape[1], -1)
    # position by position: an index array would copy half of all matrices
    return not any(one[rows, columns].any() for one in matrix)


def blocks(name: str, channels: int) -> list[Block]:
    """Blocks of a constant `(P, channels, channels)`; their names are made from its name."""
    ends = [round(channels * (number + 1) / BLOCKS) for number in range(BLOCKS)]
    return [
        Block(f"{name}/block_{i}", start, stop) for i, (start, stop) in enumerate(zip([0, *ends], ends, strict=False))
    ]


def stored_numbers(matrix: NDArray[Any]) -> int:
    """How many numbers of matrices `(P, C, C)` are stored and multiplied, after splitting if they are triangular."""
    return len(matrix) * stored_in_triangle(len(matrix[0])) if is_triangular(matrix) else matrix.size


def stored_in_triangle(channels: int) -> int:
    """How many numbers of one triangular matrix `(channels, channels)` are stored and multiplied."""
    if channels < MIN_CHANNELS:
        return channels**2
    return sum(block.stop * (block.stop - block.start) for block in blocks("", channels))


def block_nodes(product: onnx.NodeProto, channels: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Operators that replace a MatMul with a constant `(P, channels, channels)`, and their small constants.

    The last operator has the product's name and output; `blocks` names the constants that are to be added.
    """
    from onnx import helper, numpy_helper

    source, matrix = product.input
    base = product.name or product.output[0]
    zero, axis = f"{matrix}/first_row", f"{matrix}/row_axis"
    nodes, parts = [], []
    constants = [numpy_helper.from_array(np.array([v], np.int64), name) for name, v in ((zero, 0), (axis, 2))]
    for number, block in enumerate(blocks(matrix, channels)):
        rows = source
        if block.stop < channels:
            stop, rows = f"{block.name}/rows", f"{base}/rows_{number}"
            constants.append(numpy_helper.from_array(np.array([block.stop], np.int64), stop))
            nodes.append(helper.make_node("Slice", [source, zero, stop, axis], [rows], rows))
        parts.append(f"{base}/block_{number}")
        nodes.append(helper.make_node("MatMul", [rows, block.name], [parts[-1]], parts[-1]))
    nodes.append(helper.make_node("Concat", parts, list(product.output), base, axis=2))
    return nodes, constants


def split_triangles(model: onnx.ModelProto) -> None:
    """Split every product of a graph with an upper triangular matrix per position, in place."""
    from onnx import numpy_helper

    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 3}
    nodes = list(graph.node)
    result = []
    for node in nodes:
        tensor = tensors.get(node.input[1]) if node.op_type == "MatMul" else None
        is_only_reader = tensor is not None and sum(tensor.name in other.input for other in nodes) == 1
        matrix = numpy_helper.to_array(tensor) if tensor is not None and is_only_reader else None
        if tensor is None or matrix is None or not is_triangular(matrix):
            result.append(node)
            continue
        new, constants = block_nodes(node, len(matrix[0]))
        graph.initializer.extend(constants)
        for block in blocks(tensor.name, len(matrix[0])):
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(block.of(matrix)), block.name))
        graph.initializer.remove(tensor)
        result.extend(new)
    del graph.node[:]
    graph.node.extend(result)


def join_triangles(model: onnx.ModelProto) -> None:
    """Undo `split_triangles` in place, for a form that multiplies whole matrices."""
    from onnx import helper, numpy_helper

    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    joined: dict[str, onnx.NodeProto] = {}
    dropped: set[str] = set()
    for node in graph.node:
        products = [makers.get(name) for name in node.input] if node.op_type == "Concat" else []
        names = [product.input[1] for product in products if product is not None and product.op_type == "MatMul"]
        if (
            not names
            or len(names) < len(products)
            or not all(name.endswith(f"/block_{i}") for i, name in enumerate(names))
        ):
            continue
        whole = join([numpy_helper.to_array(tensors[name]) for name in names])
        last = products[-1]
        assert last is not None
        matrix = names[0].removesuffix("/block_0")
        graph.initializer.append(numpy_helper.from_array(whole, matrix))
        joined[node.name] = helper.make_node("MatMul", [last.input[0], matrix], list(node.output), node.name)
        for product in products:
            assert product is not None
            dropped.add(product.output[0])
            if product.input[0] != last.input[0]:
                dropped.add(product.input[0])
    nodes = [joined.get(node.name, node) for node in graph.node if not dropped.intersection(node.output)]
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Matrix `(P, C, C)` of its blocks, zero elsewhere."""
    channels = sum(part.shape[2] for part in parts)
    whole = np.zeros((len(parts[0]), channels, channels), parts[0].dtype)
    for part, block in zip(parts, _places(parts), strict=True):
        whole[:, : part.shape[1], block] = part
    return whole


def _places(parts: list[NDArray[Any]]) -> Iterator[slice]:
    start = 0
    for part in parts:
        yield slice(start, start + part.shape[2])
        start += part.shape[2]
