"""Weights that a bundle's graph holds already: they are named in the file of weights, not stored again.

Most numbers of a model are in its graph as they are in the torch model: convolutions of the backbone, and the triangular matrix
per position, transposed and in blocks (see `triangles`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.triangles import blocks, join

if TYPE_CHECKING:
    import onnx

# Key in the header of a file of weights: JSON of names in the graph, by the tensor's own name. One name is a constant of
# the same values; several are the blocks of a transposed matrix per position.
KEY = "in_graph"
# Smaller tensors are not worth a name.
MIN_BYTES = 1024


def places_in_graph(tensors: Mapping[str, NDArray[Any]], model: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of the graph's constants that hold a tensor bit for bit, by the tensor's name."""
    from onnx import numpy_helper

    known = {_digest(numpy_helper.to_array(tensor)): tensor.name for tensor in model.graph.initializer}
    found = {}
    for name, value in tensors.items():
        if value.nbytes < MIN_BYTES:
            continue
        same = known.get(_digest(value))
        if same is not None:
            found[name] = [same]
        elif value.ndim == 3 and value.shape[1] == value.shape[2]:
            parts = [block.of(value.transpose(0, 2, 1)) for block in blocks("", value.shape[1])]
            names = [known.get(_digest(part)) for part in parts]
            is_whole = all(part.size for part in parts) and not np.triu(value, 1).any()
            if is_whole and all(names):
                found[name] = [one for one in names if one is not None]
    return found


def header(places: Mapping[str, list[str]]) -> dict[str, str]:
    """Header of a file of weights."""
    return {KEY: json.dumps(places)} if places else {}


def from_graph(stated: Mapping[str, str] | None, model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Tensors that a header names, by their own names; none for a file that stores all tensors.

    Raises:
        ValueError: If the header is not one of `header`, or names a constant that the graph does not have.
    """
    from onnx import numpy_helper

    places = json.loads((stated or {}).get(KEY, "{}"))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for name, constants in places.items():
        missing = [one for one in constants if one not in tensors]
        if missing or not constants:
            raise ValueError(
                f"{name} should be the constant {missing[:1] or 'of no name'} of the graph, which has none such"
            )
        values = [np.array(numpy_helper.to_array(tensors[one])) for one in constants]
        found[name] = values[0] if len(values) == 1 else np.ascontiguousarray(join(values).transpose(0, 2, 1))
    return found


def _digest(value: NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    return str(value.dtype), value.shape, hashlib.sha256(np.ascontiguousarray(value).data).digest()
