"""Training batches: whole maps of images, or feature vectors from random positions of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.models.detector import Detector, TrainingBatch
from edgead.train.distributed import World

Arrays = Sequence[NDArray[np.float16]]


def load_batch(
    model: Detector,
    arrays: Arrays,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    noise: float,
    random: torch.Generator,
) -> TrainingBatch:
    """Load whole maps of some images, float32, with Gaussian noise of deviation `noise`, and the model's draws."""
    device = random.device
    whitened = []
    for array in arrays:
        x = torch.from_numpy(np.ascontiguousarray(array[rows])).to(device, torch.float32)
        whitened.append(x + noise * torch.randn(x.shape, generator=random, device=device) if noise else x)
    classes = torch.from_numpy(labels[rows]).to(device)
    shape = (len(rows), model.n_draws, 1, 1)
    draws = torch.randn(shape, generator=random, device=device) if model.n_draws else None
    return TrainingBatch(whitened, model.codes(), [classes] * len(whitened), draws)


def count_fiber_steps(model: Detector, n_images: Sequence[int], fibers: int) -> int:
    """Number of steps that `split_fibers` makes of each batch, the same for all batches.

    Args:
        model: Model whose levels provide the vectors.
        n_images: Number of images of each batch.
        fibers: Maximum number of vectors per step and level, unless a level with fewer positions would run out.
    """
    positions = [level.size[0] * level.size[1] for level in model.levels]
    return min(-(-max(n_images) * max(positions) // fibers), min(n_images) * min(positions))


def split_fibers(batch: TrainingBatch, steps: int, random: torch.Generator) -> Iterator[TrainingBatch]:
    """Split a batch into steps of feature vectors ("fibers") from random images and positions, each used once.

    Each step gets an equal share of the vectors of every level. Deviates from CFLOW-AD (arXiv:2107.12571), which steps
    through each level separately in batches of one size: here levels with fewer positions have smaller batches.
    """
    order = [
        torch.randperm(x.shape[0] * x.shape[2] * x.shape[3], generator=random, device=x.device) for x in batch.whitened
    ]
    shares = [torch.tensor_split(o, steps) for o in order]
    columns = [x.permute(1, 0, 2, 3).flatten(1) for x in batch.whitened]
    codes = [
        None if code is None else code.flatten(2)[0].repeat(1, x.shape[0])
        for code, x in zip(batch.conditions, batch.whitened, strict=True)
    ]
    labels = [
        label.repeat_interleave(x.shape[2] * x.shape[3]) for label, x in zip(batch.labels, batch.whitened, strict=True)
    ]
    for step in range(steps):
        chosen = [share[step] for share in shares]
        yield TrainingBatch(
            [_row(c[:, picked]) for c, picked in zip(columns, chosen, strict=True)],
            [None if c is None else _row(c[:, picked]) for c, picked in zip(codes, chosen, strict=True)],
            [label[picked][None, None, :] for label, picked in zip(labels, chosen, strict=True)],
        )


def share_batch(batch: TrainingBatch, world: World) -> tuple[TrainingBatch, list[float]]:
    """Part of a batch for this process, and its share of the whole batch per level.

    With fewer samples than processes, some processes get the first sample with a share of 0, so that every process has a
    loss and gradients for the same parameters.
    """
    if world.size == 1:
        return batch, [1.0] * len(batch.whitened)
    whitened, conditions, labels, shares = [], [], [], []
    for x, condition, label in zip(batch.whitened, batch.conditions, batch.labels, strict=True):
        is_map = label.ndim == 1
        count = len(x) if is_map else x.shape[3]
        part = world.share(count)
        size = len(range(count)[part])
        shares.append(size / count)
        part = part if size else slice(0, 1)
        whitened.append(x[part] if is_map else x[..., part])
        conditions.append(condition if is_map or condition is None else condition[..., part])
        labels.append(label[..., part])
    # only whole maps have draws, and their part is the same for every level
    return TrainingBatch(whitened, conditions, labels, None if batch.draws is None else batch.draws[part]), shares


def _row(columns: Tensor) -> Tensor:
    """Reshape `(C, n)` to a map of one row, `(1, C, 1, n)`."""
    return columns[None, :, None, :]
