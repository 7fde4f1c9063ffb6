"""Features of pictures through ONNX Runtime, their principal channels, and the inputs of the levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.engines.onnx_session import first_line, open_session
from edgead.errors import EngineError
from edgead.imaging import Image
from edgead.teach.base import FEATURES, INPUTS, Base

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float32]
# A picture: one array `(C, h, w)`, float16 as in a training, for each feature map.
Features = tuple[NDArray[np.float16], ...]


class FeatureNet:
    """The backbone of a base bundle.

    Args:
        base: Base bundle.
        threads: Number of CPU threads; 0 = one per core this process may use.

    Raises:
        EngineError: If ONNX Runtime refuses the graph.
    """

    def __init__(self, base: Base, threads: int) -> None:
        path = base.path / FEATURES
        try:
            self._session = open_session(str(path), threads)
        except Exception as error:  # ONNX Runtime's exceptions have no common public type
            raise EngineError(
                f"ONNX Runtime cannot load {path}: {first_line(error)}", hint="Copy the base bundle again."
            ) from error

    def exact(self, image: Image) -> tuple[Floats, ...]:
        """Features of an image `(H, W, 3)`, uint8 RGB, at input size, in float32."""
        found: list[Floats] = self._session.run(None, {"image": image[None]})
        return tuple(values[0] for values in found)

    def __call__(self, image: Image) -> Features:
        """Features of an image `(H, W, 3)`, uint8 RGB, at input size."""
        return tuple(values.astype(np.float16) for values in self.exact(image))


class LevelInputs:
    """Inputs of the levels from features: projection to principal channels, and resampling to one grid.

    Args:
        base: Base bundle.
        projections: Weight `(K, C)` and bias `(K,)` by role, from `fit_projections`.
    """

    def __init__(self, base: Base, projections: dict[str, Floats]) -> None:
        self.projections = projections
        self.n_levels = len(base.manifest.levels)
        proto = base.graph(INPUTS)
        fill(proto, base.manifest.projections, self.constants())
        self.proto = proto
        self._names = [value.name for value in proto.graph.input]
        self._is_empty = not proto.graph.node
        self._session = None if self._is_empty else open_session(proto.SerializeToString(), 1)

    def constants(self) -> dict[str, NDArray[Any]]:
        """Constants of the graph by role."""
        return {
            role: value[:, :, None, None] if role.startswith("projection_weight") else value
            for role, value in self.projections.items()
        }

    def __call__(self, features: Sequence[NDArray[Any]]) -> list[Floats]:
        """Input `(P, C)` of each level, float32, of one picture; P positions in row order."""
        feed = {name: features[_index(name)][None].astype(np.float32) for name in self._names}
        maps = list(feed.values()) if self._session is None else self._session.run(None, feed)
        return [np.ascontiguousarray(x[0].reshape(x.shape[1], -1).T) for x in maps]


def fit_projections(base: Base, pictures: Sequence[Features]) -> dict[str, Floats]:
    """Leading principal components of the features of good pictures, by role; as `models.gaussian.fit_projection`."""
    found: dict[str, Floats] = {}
    for index, level in enumerate(base.manifest.levels):
        for number, (source, kept) in enumerate(level.sources):
            if kept:
                weight, bias = _principal((picture[source] for picture in pictures), kept)
                found[f"projection_weight.{index}.{number}"] = weight
                found[f"projection_bias.{index}.{number}"] = bias
    return found


def _principal(maps: Iterator[NDArray[np.float16]], kept: int) -> tuple[Floats, Floats]:
    count, total, products = 0, np.zeros(0), np.zeros(0)
    for one in maps:
        columns = one.reshape(len(one), -1).astype(np.float64)
        if count == 0:
            total, products = np.zeros(len(columns)), np.zeros((len(columns), len(columns)))
        count += columns.shape[1]
        total += columns.sum(axis=1)
        products += columns @ columns.T
    mean = total / count
    _, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    weight = vectors[:, ::-1][:, :kept].T
    # the sign of an eigenvector is arbitrary: fix it, so that two machines agree
    largest = np.take_along_axis(weight, np.abs(weight).argmax(axis=1)[:, None], axis=1)
    weight = weight * np.sign(largest)
    return weight.astype(np.float32), (-(weight @ mean)).astype(np.float32)


def fill(proto: onnx.ModelProto, roles: dict[str, str], constants: dict[str, NDArray[Any]]) -> None:
    """Add constants to a graph of a base bundle.

    Args:
        proto: Graph.
        roles: Role of each constant by its name in the graph.
        constants: Values by role; each is taken out.
    """
    from onnx import helper

    for name, role in roles.items():
        tensor = proto.graph.initializer.add()
        tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(constants[role].dtype)
        tensor.dims.extend(constants[role].shape)
        raw = constants.pop(role).tobytes()
        tensor.raw_data = raw


def _index(name: str) -> int:
    return int(name.rpartition("_")[2])
