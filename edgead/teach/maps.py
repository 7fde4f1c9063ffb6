"""Linear maps of the positions of a level, which stay on disk: a few positions at a time come into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgead.teach.form import Floats
from edgead.triangles import blocks, join

Places = slice | NDArray[np.int64]


class Maps(Protocol):
    """Maps W `(C, C)` of P positions."""

    @property
    def count(self) -> int:
        """Number of positions P."""
        ...

    @property
    def channels(self) -> int:
        """Number of channels C."""
        ...

    def row(self, position: int) -> Floats:
        """Map W `(C, C)` of a position."""
        ...

    def norms(self, inputs: NDArray[np.float32], places: Places) -> Floats:
        """Squared norms `(p, N)` of W x for the inputs x `(p, N, C)` at some places."""
        ...


class WholeMaps:
    """Maps as a file of weights stores them.

    Args:
        weight: Maps W `(P, C, C)`.
    """

    def __init__(self, weight: NDArray[np.float32]) -> None:
        self._weight = weight
        self.count, self.channels = int(weight.shape[0]), int(weight.shape[2])

    def row(self, position: int) -> Floats:
        return np.asarray(self._weight[position])

    def norms(self, inputs: NDArray[np.float32], places: Places) -> Floats:
        z = np.matmul(inputs, np.asarray(self._weight[places]).transpose(0, 2, 1))
        return np.asarray(np.einsum("pnc,pnc->pn", z, z), np.float32)


class TriangularMaps:
    """Lower triangular maps as the graph of a training holds them: transposed, in blocks without the zeros.

    Args:
        parts: Blocks `(P, stop, stop - start)` of the transposed maps, as `triangles.blocks` cuts them.

    Raises:
        ValueError: If the shapes are not those of such blocks.
    """

    def __init__(self, parts: Sequence[NDArray[np.float32]]) -> None:
        self._parts = list(parts)
        self.count, self.channels = len(self._parts[0]), sum(part.shape[-1] for part in self._parts)
        expected = [(self.count, one.stop, one.stop - one.start) for one in blocks("", self.channels)]
        if [part.shape for part in self._parts] != expected:
            raise ValueError(f"blocks of the shapes {[part.shape for part in self._parts]} form no triangular maps")

    def row(self, position: int) -> Floats:
        return np.ascontiguousarray(join([part[position : position + 1] for part in self._parts])[0].T, np.float32)

    def norms(self, inputs: NDArray[np.float32], places: Places) -> Floats:
        total: NDArray[Any] = np.zeros(inputs.shape[:2], np.float32)
        for part in self._parts:
            z = np.matmul(inputs[:, :, : part.shape[1]], np.asarray(part[places]))
            total += np.einsum("pnc,pnc->pn", z, z)
        return total
