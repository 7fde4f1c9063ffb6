"""Files of a closed-form model: inputs of its levels out of its graph, and graph and weights with changed constants."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.bundle import Bundle
from edgead.engines.onnx_session import first_line, open_session
from edgead.errors import EngineError
from edgead.graph_file import Constant, constants_of, without_constants
from edgead.teach.closed_form import ClosedForm, Level, read_header
from edgead.teach.form import Doubles, Floats
from edgead.triangles import Block, blocks

if TYPE_CHECKING:
    import onnx

# Positions by which the linear maps are found among the constants.
_COMPARED = 8
# Constants from this size on stay on disk while the operators of a graph are looked at.
_LARGE_BYTES = 1 << 16
_VERIFY = "Check the bundle: edgead bundle verify"


class LevelNet:
    """The part of a bundle's graph that makes the inputs of its levels.

    Args:
        bundle: Bundle with a closed-form model.
        model: Its model, as `open_closed_form` gives it.
        threads: Number of CPU threads; 0 = one per core this process may use.

    Attributes:
        constants: Names of the graph's constants of each level: of its linear maps, or its centres and their norms.

    Raises:
        EngineError: If the graph does not hold the constants of the weights, or ONNX Runtime refuses it.
    """

    def __init__(self, bundle: Bundle, model: ClosedForm, threads: int = 0) -> None:
        try:
            stored = constants_of(bundle.model_path)
            proto = _without_constants(bundle.model_path)
        except ValueError as error:
            raise EngineError(f"{bundle.model_path} is no graph: {error}.", hint=_VERIFY) from error
        self._is_centres = [level.centres is not None for level in model.levels]
        self.constants = [level.in_graph or _names(stored, level, bundle) for level in model.levels]
        # of the blocks of a triangular map the last one takes all channels; of centres the first constant takes the features
        readers = [
            names[0] if level.centres is not None else names[-1]
            for level, names in zip(model.levels, self.constants, strict=True)
        ]
        self._outputs = [next(node.input[0] for node in proto.graph.node if name in node.input[1:]) for name in readers]
        _cut(proto, self._outputs)
        _fill(proto, stored, bundle.model_path)
        content = proto.SerializeToString()
        del proto
        try:
            self._session = open_session(content, threads)
        except Exception as error:  # ONNX Runtime's exceptions have no common public type
            raise EngineError(
                f"ONNX Runtime cannot load the graph of {bundle.path} up to its levels: {first_line(error)}",
                hint=_VERIFY,
            ) from error
        self._image = bundle.manifest.graph.image

    def __call__(self, image: NDArray[np.uint8]) -> list[Floats]:
        """Inputs `(1, P, C)` of each level, of an image `(H, W, 3)`, uint8 RGB, at input size."""
        found = self._session.run(self._outputs, {self._image: image[None]})
        return [
            x.reshape(1, x.shape[1], -1).transpose(0, 2, 1) if is_centres else x.transpose(1, 0, 2)
            for x, is_centres in zip(found, self._is_centres, strict=True)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session


def _without_constants(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        found: onnx.ModelProto = onnx.ModelProto.FromString(without_constants(path, _LARGE_BYTES))
    except Exception as error:  # protobuf's exceptions have no typed module
        raise ValueError(first_line(error)) from error
    return found


def _cut(proto: onnx.ModelProto, outputs: list[str]) -> None:
    """Leave of a graph what some of its tensors need, and make these its outputs."""
    from onnx import NodeProto, TensorProto, helper

    needed, kept = set(outputs), []
    for node in reversed(proto.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(NodeProto.FromString(node.SerializeToString()))
    tensors = [tensor for tensor in proto.graph.initializer if tensor.name in needed]
    tensors = [TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    for field in ("node", "initializer", "output", "value_info"):
        proto.graph.ClearField(field)  # type: ignore[arg-type]  # the stub wants literals
    proto.graph.node.extend(reversed(kept))
    proto.graph.initializer.extend(tensors)
    proto.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)


def _fill(proto: onnx.ModelProto, stored: dict[str, Constant], path: Path) -> None:
    """Give the constants of a graph the numbers that `without_constants` left out."""
    with path.open("rb") as file:
        for tensor in proto.graph.initializer:
            place = stored.get(tensor.name)
            if place is not None and not tensor.HasField("raw_data"):
                file.seek(place.start)
                tensor.raw_data = file.read(place.stop - place.start)


def write_changed_graph(path: Path, bundle: Bundle, model: ClosedForm, constants: list[tuple[str, ...]]) -> int:
    """Write the graph of a bundle with the constants of a changed model.

    Args:
        path: File to write.
        bundle: Bundle of the model before the change.
        model: The changed model.
        constants: Names of the constants of each level, as `LevelNet` found them.

    Returns:
        Number of float values that were added.

    Raises:
        OSError: If the file cannot be written.
    """
    added = 0
    shutil.copyfile(bundle.model_path, path)
    stored = constants_of(path)
    for level, names in zip(model.levels, constants, strict=True):
        if level.rows:
            _write_rows(path, [stored[name] for name in names], level.rows)
    if any(level.centres is not None for level in model.levels):
        import onnx
        from onnx import numpy_helper

        proto = onnx.load_model(str(path), load_external_data=False)
        by_name = {tensor.name: tensor for tensor in proto.graph.initializer}
        for level, names in zip(model.levels, constants, strict=True):
            if level.centres is None:
                continue
            affinity, norms = 2.0 * level.centres[:, :, None, None], -np.square(level.centres).sum(axis=1)
            before = int(np.prod(by_name[names[0]].dims)) + int(np.prod(by_name[names[1]].dims))
            for name, value in zip(names, (affinity, norms), strict=True):
                by_name[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
            added += affinity.size + norms.size - before
        path.write_bytes(proto.SerializeToString())
    return added


def write_changed_weights(path: Path, bundle: Bundle, model: ClosedForm) -> None:
    """Write the weights of a bundle with those of a changed model.

    Raises:
        OSError: If the file cannot be written.
    """
    source = bundle.weights_path
    header, start = read_header(source)
    if all(level.centres is None for level in model.levels):
        shutil.copyfile(source, path)
        with path.open("r+b") as file:
            for level in model.levels:
                if level.in_graph:
                    continue
                begin = start + header[f"_levels.{level.index}.start.weight"]["data_offsets"][0]
                for position, row in level.rows.items():
                    file.seek(begin + position * row.nbytes)
                    file.write(np.ascontiguousarray(row, "<f4").tobytes())
        return
    new = {f"_levels.{level.index}.centres": level.centres for level in model.levels if level.centres is not None}
    order = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    end, entries = 0, {name: header[name] for name in ("__metadata__",) if name in header}
    for name in order:
        first, last = header[name]["data_offsets"]
        value = new.get(name)
        size = last - first if value is None else value.nbytes
        shape = header[name]["shape"] if value is None else list(value.shape)
        entries[name] = {"dtype": header[name]["dtype"], "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with source.open("rb") as old, path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            first, last = header[name]["data_offsets"]
            value = new.get(name)
            old.seek(start + first)
            file.write(old.read(last - first) if value is None else np.ascontiguousarray(value, "<f4").tobytes())


def _names(stored: dict[str, Constant], level: Level, bundle: Bundle) -> tuple[str, ...]:
    """Names of the constants of a level in the graph: its linear maps, or its centres and their norms."""
    wanted: list[tuple[tuple[int, ...], NDArray[np.float32]]]
    if level.centres is None:
        assert level.maps is not None
        first = np.stack([level.maps.row(position).T for position in range(min(_COMPARED, level.maps.count))])
        wanted = [((level.maps.count, *first.shape[1:]), first)]
    else:
        affinity = 2.0 * level.centres[:, :, None, None]
        wanted = [(affinity.shape, affinity), ((len(level.centres),), -np.square(level.centres).sum(axis=1))]
    found = []
    for shape, value in wanted:
        names = [
            constant.name
            for constant in stored.values()
            if constant.is_float
            and constant.dims == shape
            and np.allclose(constant.read(bundle.model_path)[: len(value)], value, rtol=1e-4, atol=1e-5)
        ]
        if len(names) != 1:
            raise EngineError(
                f"The graph of {bundle.path} holds a constant of its weights {len(names)} times instead of once.",
                hint="Train again with the picture; this graph was made by a version that joined its constants otherwise.",
            )
        found.append(names[0])
    return tuple(found)


def _write_rows(path: Path, constants: Sequence[Constant], rows: dict[int, Floats]) -> None:
    """Write changed linear maps into the file of a graph, transposed: whole, or as the blocks of triangular ones.

    Any map with the same `W^T W` gives the same norms, and one of them is triangular.
    """
    channels = sum(constant.dims[2] for constant in constants)
    parts = [Block("", 0, channels)]
    if len(constants) > 1:
        parts = blocks("", channels)
        rows = {position: lower_triangular(row) for position, row in rows.items()}
    with path.open("r+b") as file:
        for part, constant in zip(parts, constants, strict=True):
            for position, row in rows.items():
                value = np.ascontiguousarray(part.of(row.T[None]), "<f4")
                file.seek(constant.start + position * value.nbytes)
                file.write(value.tobytes())


def lower_triangular(weight: Floats) -> Floats:
    """Lower triangular matrix L `(C, C)` with the same `L^T L` as a matrix, from the QR decomposition of its mirror image."""
    upper: Doubles = np.linalg.qr(weight[:, ::-1].astype(np.float64))[1]
    return np.asarray(np.tril(upper[::-1, ::-1]), np.float32)
