"""Constants in the file of an ONNX graph: where they lie, and the graph without them.

Constants fill nearly all of such a file. Code that reads the operators, or changes a few constants, need not hold the others in
memory. The file is one message in the wire format of Protocol Buffers (Google, "Encoding"): fields, each a key with its number
and kind, and a value; a message inside is a value with its length. A field that occurs twice is joined, so that leaving out a
field never changes the others.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Numbers of the fields: `ModelProto.graph`, `GraphProto.initializer`, and those of `TensorProto`.
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT32 = 1
_MOST_VARINT_BYTES = 10


@dataclass(frozen=True)
class Constant:
    """Constant whose numbers lie in one piece in the file.

    Attributes:
        name: Its name.
        dims: Its shape.
        is_float: Whether it is float32.
        start, stop: Its bytes in the file.
    """

    name: str
    dims: tuple[int, ...]
    is_float: bool
    start: int
    stop: int

    def read(self, path: Path) -> NDArray[np.float32]:
        """Values of the constant, which stay on disk until they are used.

        Args:
            path: File of the graph.
        """
        return np.memmap(path, "<f4", "r", self.start, self.dims)


class _Field(NamedTuple):
    number: int
    kind: int
    begin: int
    start: int
    stop: int


def constants_of(path: Path) -> dict[str, Constant]:
    """Constants of a graph by name; without those of float32 whose bytes do not fit their shape.

    Args:
        path: File of the graph.

    Raises:
        ValueError: If the file is no graph.
    """
    found = {}
    with _content(path) as content:
        for graph in _inside(content, _Field(0, _BYTES, 0, 0, len(content)), _GRAPH):
            for tensor in _inside(content, graph, _INITIALIZER):
                constant = _constant(content, tensor)
                if constant is not None:
                    found[constant.name] = constant
    return found


def without_constants(path: Path, least_bytes: int) -> bytes:
    """Serialized graph without the numbers of its large constants; their names, shapes and types stay.

    Args:
        path: File of the graph.
        least_bytes: Size from which numbers are left out.

    Raises:
        ValueError: If the file is no graph.
    """
    with _content(path) as content:

        def tensor(field: _Field) -> bytes:
            raw = [one for one in _fields(content, field.start, field.stop) if one.number == _RAW_DATA]
            if len(raw) > 1:
                raise ValueError("it has a constant that states its numbers twice")
            if not raw or raw[0].stop - raw[0].start < least_bytes:
                return content[field.start : field.stop]
            return content[field.start : raw[0].begin] + content[raw[0].stop : field.stop]

        def graph(field: _Field) -> bytes:
            parts = []
            for one in _fields(content, field.start, field.stop):
                is_tensor = (one.number, one.kind) == (_INITIALIZER, _BYTES)
                parts.append(_message(one.number, tensor(one)) if is_tensor else content[one.begin : one.stop])
            return b"".join(parts)

        return b"".join(
            _message(one.number, graph(one))
            if (one.number, one.kind) == (_GRAPH, _BYTES)
            else content[one.begin : one.stop]
            for one in _fields(content, 0, len(content))
        )


@contextmanager
def _content(path: Path) -> Iterator[mmap.mmap]:
    """Content of a file, of which only the pages that are read come into memory; an empty one is no graph."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _inside(content: mmap.mmap, message: _Field, number: int) -> Iterator[_Field]:
    """Messages inside a message that have a number."""
    for field in _fields(content, message.start, message.stop):
        if (field.number, field.kind) == (number, _BYTES):
            yield field


def _constant(content: mmap.mmap, tensor: _Field) -> Constant | None:
    dims: list[int] = []
    data_type, name, raw = 0, "", None
    for field in _fields(content, tensor.start, tensor.stop):
        if field.number == _DIMS and field.kind == _VARINT:
            dims.append(_varint(content, field.start, field.stop)[0])
        elif field.number == _DIMS and field.kind == _BYTES:
            place = field.start
            while place < field.stop:
                value, place = _varint(content, place, field.stop)
                dims.append(value)
        elif field.number == _DATA_TYPE and field.kind == _VARINT:
            data_type = _varint(content, field.start, field.stop)[0]
        elif field.number == _NAME and field.kind == _BYTES:
            name = content[field.start : field.stop].decode()
        elif field.number == _RAW_DATA and field.kind == _BYTES:
            raw = field
    is_float = data_type == _FLOAT32
    if raw is None or (is_float and raw.stop - raw.start != 4 * math.prod(dims)):
        return None
    return Constant(name, tuple(dims), is_float, raw.start, raw.stop)


def _fields(content: mmap.mmap, start: int, stop: int) -> Iterator[_Field]:
    while start < stop:
        key, place = _varint(content, start, stop)
        number, kind = key >> 3, key & 7
        value = place
        if kind == _BYTES:
            length, value = _varint(content, place, stop)
            end = value + length
        elif kind == _VARINT:
            end = _varint(content, place, stop)[1]
        elif kind in (_FIXED32, _FIXED64):
            end = place + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"it has a field of the kind {kind}")
        if end > stop or number == 0:
            raise ValueError("it ends inside a field")
        yield _Field(number, kind, start, value, end)
        start = end


def _varint(content: mmap.mmap, start: int, stop: int) -> tuple[int, int]:
    """Number that is written in groups of seven bits, the lowest first, and the place after it."""
    if start < stop and content[start] < 0x80:
        return content[start], start + 1
    value = 0
    for place in range(start, min(stop, start + _MOST_VARINT_BYTES)):
        byte = content[place]
        value |= (byte & 0x7F) << (7 * (place - start))
        if byte < 0x80:
            return value, place + 1
    raise ValueError("it ends inside a number")


def _message(number: int, content: bytes) -> bytes:
    key, length = number << 3 | _BYTES, len(content)
    written = bytearray([key])
    while length >= 0x80:
        written.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(written) + bytes([length]) + content
