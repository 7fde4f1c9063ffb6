"""Files of a closed-form model: inputs of its levels out of its graph, and graph and weights with changed constants."""

from __future__ import annotations

import json
import mmap
import shutil
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.bundle import Bundle
from edgead.engines.onnx_session import first_line, open_session
from edgead.errors import EngineError
from edgead.runner import Outputs
from edgead.teach.closed_form import ClosedForm, read_header
from edgead.teach.form import Doubles, Floats
from edgead.triangles import Block, blocks

if TYPE_CHECKING:
    import onnx

# Positions by which the linear maps are found among the constants.
_COMPARED = 8


class LevelNet:
    """The graph of a bundle with the inputs of its levels as further outputs.

    Args:
        bundle: Bundle with a closed-form model.
        model: Its model, as `open_closed_form` gives it.
        scratch: Folder for a temporary file of the size of the graph.
        threads: Number of CPU threads; 0 = one per core this process may use.

    Raises:
        EngineError: If the graph does not hold the constants of the weights, or ONNX Runtime refuses it.
    """

    def __init__(self, bundle: Bundle, model: ClosedForm, scratch: Path, threads: int = 0) -> None:
        import onnx
        from onnx import TensorProto, helper

        proto = onnx.load_model(str(bundle.model_path), load_external_data=False)
        self._is_centres = [level.centres is not None for level in model.levels]
        self.constants = [
            level.in_graph or _names(proto, level.weight, level.centres, bundle) for level in model.levels
        ]
        # of the blocks of a triangular map the last one takes all channels; of centres the first constant takes the features
        readers = [
            names[0] if level.centres is not None else names[-1]
            for level, names in zip(model.levels, self.constants, strict=True)
        ]
        self._outputs = [next(node.input[0] for node in proto.graph.node if name in node.input[1:]) for name in readers]
        del proto
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._outputs]
        path = scratch / "levels.onnx"
        shutil.copyfile(bundle.model_path, path)
        # messages of protobuf that follow each other are joined
        with path.open("ab") as file:
            file.write(onnx.ModelProto(graph=onnx.GraphProto(output=values)).SerializeToString())
        try:
            self._session = open_session(str(path), threads)
        except Exception as error:  # ONNX Runtime's exceptions have no common public type
            raise EngineError(
                f"ONNX Runtime cannot load the graph of {bundle.path} with further outputs: {first_line(error)}",
                hint="Check the bundle: edgead bundle verify",
            ) from error
        path.unlink()
        self._image = bundle.manifest.graph.image

    def __call__(self, image: NDArray[np.uint8]) -> tuple[list[Floats], Outputs]:
        """Inputs `(1, P, C)` of each level, and map and score, of an image `(H, W, 3)`, uint8 RGB, at input size."""
        names = ["anomaly_map", "pred_score"]
        found = self._session.run([*names, *self._outputs], {self._image: image[None]})
        inputs = [
            x.reshape(1, x.shape[1], -1).transpose(0, 2, 1) if is_centres else x.transpose(1, 0, 2)
            for x, is_centres in zip(found[2:], self._is_centres, strict=True)
        ]
        return inputs, dict(zip(names, found, strict=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session


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
    for level, names in zip(model.levels, constants, strict=True):
        if level.rows:
            assert level.weight is not None
            _write_rows(path, level.weight, level.rows, is_split=len(names) > 1)
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


def _names(
    proto: onnx.ModelProto, weight: NDArray[np.float32] | None, centres: Floats | None, bundle: Bundle
) -> tuple[str, ...]:
    """Names of the constants of a level in the graph: its linear maps, or its centres and their norms."""
    wanted: list[tuple[tuple[int, ...], NDArray[np.float32]]]
    if centres is None:
        assert weight is not None
        wanted = [(weight.shape, weight[:_COMPARED].transpose(0, 2, 1))]
    else:
        affinity = 2.0 * centres[:, :, None, None]
        wanted = [(affinity.shape, affinity), ((len(centres),), -np.square(centres).sum(axis=1))]
    found = []
    for shape, value in wanted:
        names = [
            tensor.name
            for tensor in proto.graph.initializer
            if tuple(tensor.dims) == shape
            and np.allclose(
                np.frombuffer(tensor.raw_data, "<f4", value.size).reshape(value.shape), value, rtol=1e-4, atol=1e-5
            )
        ]
        if len(names) != 1:
            raise EngineError(
                f"The graph of {bundle.path} holds a constant of its weights {len(names)} times instead of once.",
                hint="Train again with the picture; this graph was made by a version that joined its constants otherwise.",
            )
        found.append(names[0])
    return tuple(found)


def _write_rows(path: Path, weight: NDArray[np.float32], rows: dict[int, Floats], *, is_split: bool) -> None:
    """Write changed linear maps into the file of a graph, transposed: whole, or as the blocks of triangular ones.

    Any map with the same `W^T W` gives the same norms, and one of them is triangular.

    Raises:
        EngineError: If the maps of before do not stand in the file.
    """
    channels = weight.shape[1]
    if is_split:
        rows = {position: lower_triangular(row) for position, row in rows.items()}
    parts = blocks("", channels) if is_split else [Block("", 0, channels)]
    for part in parts:
        first, last = (np.ascontiguousarray(part.of(weight[index].T[None]), "<f4") for index in (0, -1))
        start = _place(path, first, last, len(weight))
        with path.open("r+b") as file:
            for position, row in rows.items():
                value = np.ascontiguousarray(part.of(row.T[None]), "<f4")
                file.seek(start + position * value.nbytes)
                file.write(value.tobytes())


def lower_triangular(weight: Floats) -> Floats:
    """Lower triangular matrix L `(C, C)` with the same `L^T L` as a matrix, from the QR decomposition of its mirror image."""
    upper: Doubles = np.linalg.qr(weight[:, ::-1].astype(np.float64))[1]
    return np.asarray(np.tril(upper[::-1, ::-1]), np.float32)


def _place(path: Path, first: NDArray[np.float32], last: NDArray[np.float32], count: int) -> int:
    """Place in a file of the graph at which as many matrices stand, of which the first and the last are known.

    Raises:
        EngineError: If they stand nowhere.
    """
    key = first.tobytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(key)
        end = start + count * len(key)
        if start >= 0 and content[end - len(key) : end] == last.tobytes():
            return start
    raise EngineError(
        f"The linear maps of the weights do not stand in {path.name}.", hint="Check the bundle: edgead bundle verify"
    )
