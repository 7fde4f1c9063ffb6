"""Results of a closed-form fit on the device, common to its forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def describe_form(shrinkage: float | None) -> str:
    """Name of a closed form for the user: one Gaussian per position with a shrinkage, or without one centres of features."""
    if shrinkage is None:
        return "centres of features, whitened alike at all positions"
    return f"one Gaussian per position, shrinkage {shrinkage:g}"


@dataclass(frozen=True)
class LevelEnergies:
    """Energies of one level, `(n, P)` each, of P positions in row order.

    Attributes:
        left_out: Good pictures, each under the fit without it.
        pseudo: Pseudo-defective copies, each under the fit without its origin.
        fitted: Good pictures under the fit on all, as the finished model gives them.
    """

    left_out: Floats
    pseudo: Floats
    fitted: Floats


@dataclass(frozen=True)
class LevelConstants:
    """Constants of one level.

    Attributes:
        graph: Those of the graph, by role without the index of the level.
        weights: Those of the torch model, by name below its level, as a training stores them.
    """

    graph: dict[str, NDArray[Any]]
    weights: dict[str, Floats]
