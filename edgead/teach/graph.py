"""Graph and weights of a taught model: the parts of the base bundle, joined and filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgead.errors import BundleError
from edgead.teach.base import BACKBONE_WEIGHTS, FEATURES, Base
from edgead.teach.features import fill
from edgead.teach.form import Floats
from edgead.teach.learning import Learnt
from edgead.teach.scoring import top_count

_ALIGNMENT = 8
# Size in bytes above which a constant is written by itself.
_LARGE = 1 << 20


def write_graph(path: Path, base: Base, learnt: Learnt) -> int:
    """Write the graph from `image` to `anomaly_map` and `pred_score`, as a training exports it; `path` is a temporary file.

    A linear map for each position is most of the file, and protobuf would hold three copies of it. It is written after the
    rest as a message of its own: protobuf joins messages that follow each other.

    Returns:
        Number of float values stored in the graph.

    Raises:
        OSError: If the file cannot be written.
    """
    from onnx import TensorProto

    form = base.manifest.forms[learnt.chosen.form]
    whole, head = base.graph(FEATURES), base.graph(form.graph)
    read = {name for part in (learnt.inputs.proto, head) for node in part.graph.node for name in node.input}
    read.update(value.name for value in head.graph.output)
    for part in (learnt.inputs.proto, head):
        # a level that takes one feature as it is has a copy of it that nothing reads
        whole.graph.node.extend(node for node in part.graph.node if read.intersection(node.output))
        known = {tensor.name for tensor in whole.graph.initializer}
        whole.graph.initializer.extend(tensor for tensor in part.graph.initializer if tensor.name not in known)
    constants = _constants(base, learnt)
    large = {role: value for role, value in constants.items() if value.nbytes > _LARGE}
    fill(whole, {name: role for name, role in form.parameters.items() if role not in large}, constants)
    del whole.graph.output[:]
    whole.graph.output.extend(head.graph.output)
    floats = sum(int(np.prod(t.dims)) for t in whole.graph.initializer if t.data_type == TensorProto.FLOAT)
    with path.open("wb") as file:
        file.write(whole.SerializeToString())
        for name, role in form.parameters.items():
            if role in large:
                _write_constant(file, name, large[role])
                floats += large[role].size
    return floats


def _write_constant(file: BinaryIO, name: str, value: NDArray[Any]) -> None:
    """Write a model message that holds one float constant and nothing else."""
    from onnx import GraphProto, ModelProto, TensorProto

    head = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=value.shape).SerializeToString()
    raw = _field(TensorProto.RAW_DATA_FIELD_NUMBER, value.nbytes)
    tensor = _field(GraphProto.INITIALIZER_FIELD_NUMBER, len(head) + len(raw) + value.nbytes)
    graph = _field(ModelProto.GRAPH_FIELD_NUMBER, len(tensor) + len(head) + len(raw) + value.nbytes)
    file.write(graph + tensor + head + raw)
    for part in value:
        file.write(np.ascontiguousarray(part, "<f4").tobytes())


def _field(number: int, length: int) -> bytes:
    """Begin a field of `length` bytes in the wire format of protobuf."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def taught_weights(base: Base, learnt: Learnt) -> dict[str, Floats]:
    """Weights of the torch model without its backbone, by name."""
    found: dict[str, Floats] = {}
    for index, (record, level) in enumerate(zip(base.manifest.levels, learnt.levels, strict=True)):
        found |= {f"_levels.{index}.{name}": value for name, value in level.weights.items()}
        found[f"head.mean_{index}"], found[f"head.gain_{index}"] = learnt.head.means[index], learnt.head.gains[index]
        for name in ("log_scale", "offset"):
            found[f"flow.flows.{index}.flows.0.{name}"] = np.zeros(record.channels, np.float32)
    for role, value in learnt.inputs.constants().items():
        kind, level_index, source = role.split(".")
        found[f"_levels.{level_index}.projections.{source}.{kind.removeprefix('projection_')}"] = value
    return found


def write_weights(path: Path, base: Base, tensors: dict[str, Floats]) -> None:
    """Write the weights beside those of the backbone, in the format of safetensors; `path` is a temporary file.

    Raises:
        BundleError: If the backbone's weights cannot be read.
        OSError: If the file cannot be written.
    """
    source = base.path / BACKBONE_WEIGHTS
    with source.open("rb") as backbone, path.open("wb") as file:
        known, start = _header(backbone.read(8), source), 0
        content = backbone.read(known)
        try:
            header: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise BundleError(f"{source} cannot be read: {error}.", hint="Copy the base bundle again.") from error
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        for name, value in sorted(tensors.items()):
            offsets = [end + start, end + start + value.nbytes]
            header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": offsets}
            start += value.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        file.write(len(text).to_bytes(8, "little") + text)
        while chunk := backbone.read(1 << 20):
            file.write(chunk)
        for _, value in sorted(tensors.items()):
            for part in value if value.ndim > 2 else (value,):
                file.write(np.ascontiguousarray(part).tobytes())


def _constants(base: Base, learnt: Learnt) -> dict[str, NDArray[Any]]:
    """Constants by role, taken out of `learnt`."""
    top = top_count(base.manifest.map_size, learnt.chosen.top_fraction)
    found: dict[str, NDArray[Any]] = {"top": np.array([top], np.int64)}
    for index, level in enumerate(learnt.levels):
        level.weights.clear()
        found |= {f"{role}.{index}": level.graph.pop(role) for role in tuple(level.graph)}
        found[f"level_mean.{index}"], found[f"level_gain.{index}"] = learnt.head.means[index], learnt.head.gains[index]
    return found


def _header(size: bytes, path: Path) -> int:
    length = int.from_bytes(size, "little")
    if len(size) < 8 or not 0 < length <= path.stat().st_size - 8:
        raise BundleError(f"{path} is damaged.", hint="Copy the base bundle again.")
    return length
