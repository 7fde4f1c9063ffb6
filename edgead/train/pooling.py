"""Choice of how many map values a tile's score averages over, by pseudo-defects against whole good frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.models.detector import Detector
from edgead.train.start import Indices

POSITIONS = (1, 2, 4, 8, 16, 32)
BATCH = 32


@torch.no_grad()
def pooling_power(
    model: Detector, arrays: Sequence[NDArray[np.float16]], labels: NDArray[np.int64], indices: Indices, n_tiles: int
) -> dict[int, float]:
    """Share of pseudo-defective tiles that score above every good frame, by the number of map values averaged: up to the model's own.

    Args:
        model: Model with a fitted score head.
        arrays: Result of `whitened_arrays`.
        labels: Class index of each row.
        indices: Rows of which the early-stopping ones, all tiles of a frame after each other, and the pseudo-defective
            ones, one tile each, are used.
        n_tiles: Number of tiles of a frame.
    """
    good, defective = (_maps(model, arrays, labels, rows) for rows in (indices.early_stop, indices.pseudo))
    found = {}
    for count in sorted({*(count for count in POSITIONS if count < model.head.top_k), model.head.top_k}):
        frames, tiles = (maps.topk(count, dim=1).values.mean(dim=1) for maps in (good, defective))
        highest = frames.reshape(-1, n_tiles).max(dim=1).values.max()
        found[count] = float((tiles > highest).float().mean())
    return found


def best_count(power: dict[int, float]) -> int:
    """Number of values with the most power; the largest of equals, which is least sensitive to single values."""
    return max(power, key=lambda count: (power[count], count))


def _maps(
    model: Detector, arrays: Sequence[NDArray[np.float16]], labels: NDArray[np.int64], rows: Sequence[int]
) -> Tensor:
    """Anomaly maps of some rows, flat: `(n, positions)`."""
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(rows), BATCH):
        chunk = np.asarray(rows[start : start + BATCH])
        whitened = [torch.from_numpy(np.ascontiguousarray(array[chunk])).to(device, torch.float32) for array in arrays]
        bias = model.class_bias(torch.from_numpy(labels[chunk]).to(device))
        found.append(model.score(model.statistics(model.latents(whitened), bias))[0].flatten(1).cpu())
    return torch.cat(found)
