"""Centres of the whitened features of all positions, and the energy of each image under the centres without it.

Centres are means of the features assigned to them: those of a group, and of varied copies of it, are subtracted, and a centre
with no other features is not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edgead.errors import TrainingError
from edgead.flows.linear import SharedLinear
from edgead.models.gaussian import inverse_factor
from edgead.models.level import Level
from edgead.train.features import FeatureStore
from edgead.train.left_out import BATCH, Energies, Rows, check_varies, empty_energies, inputs_of, offsets_of_copies

SAMPLE = 200_000
LLOYD_STEPS = 8
PER_CENTRE = 40
_CHUNK = 16384
# Inputs whose distances from all centres are in memory at a time: 52 MB at 20 x 20 positions and 2,048 centres.
_JUDGED = 16


@torch.no_grad()
def fit_centres(
    level: Level, store: FeatureStore, rows: Rows, *, ridge: float, seed: int, variation: float = 0.0
) -> Energies:
    """Fit one whitening for all positions and centres of the whitened features, and compute the energies.

    The centres are means of a sample of the features (k-means: Lloyd, 1982). One draw of the sample serves the fit on all
    images and every fit without a group. With a variation, the sample has features of the varied copies too.

    Args:
        level: Level with centres, which is set to the fit on all good images.
        store: Features.
        rows: Rows of the store.
        ridge: Ridge on the diagonal of the covariance, as a share of the mean variance.
        seed: Seed of the sample and of the first centres.
        variation: Weight of the displacements of the varied copies in the covariance; 0 = without the copies.

    Raises:
        TrainingError: If the features do not vary.
    """
    assert isinstance(level.start, SharedLinear)
    assert level.centres is not None
    is_varied = bool(rows.varied) and variation > 0.0
    whiten_alike(
        level, store, rows.good, ridge, variation * _pooled_displacements(level, store, rows) if is_varied else None
    )
    per_image = _per_image(level, rows.good)
    sample = sample_of(level, store, rows.good, seed)
    blocks = {name: list(group) for name, group in rows.members().items()}
    if is_varied:
        varied = _sample(level, store, rows.varied, per_image, np.random.default_rng((seed, 1)))
        sample = torch.cat([sample, varied])
        for block, origin in enumerate(rows.varied_origin, start=len(rows.good)):
            blocks[rows.groups[origin]].append(block)
    centres = centres_of(sample, len(level.centres), seed)
    labels = _nearest(sample, centres)
    counts = torch.bincount(labels, minlength=len(centres)).to(sample.dtype)
    sums = torch.zeros_like(centres).index_add_(0, labels, sample)
    level.centres.copy_(torch.where(counts[:, None] > 0, sums / counts.clamp_min(1.0)[:, None], centres))
    energies = empty_energies(level, rows)
    copies = rows.copies()
    half = 0.5 * level.centres.square().sum(dim=1)
    for name, group in rows.members().items():
        own = torch.cat([torch.arange(i * per_image, (i + 1) * per_image) for i in blocks[name]])
        changed, places = labels[own].unique(return_inverse=True)
        n_own = torch.bincount(places).to(sample.dtype)
        rest = counts[changed] - n_own
        own_sums = torch.zeros_like(sums[changed]).index_add_(0, places, sample[own])
        others = (sums[changed] - own_sums) / rest.clamp_min(1.0)[:, None]
        half_others = torch.where(rest > 0.5, 0.5 * others.square().sum(dim=1), math.inf)
        mine = copies.get(name, [])
        judged = [*(rows.good[i] for i in group), *(rows.pseudo[i] for i in mine)]
        parts = []
        for batch in store.batches(judged, _JUDGED):
            z = level.whitened(batch)
            flat = z.permute(0, 2, 3, 1).reshape(-1, level.channels)
            # only the centres that the group had a part in differ
            distances = torch.addmm(half, flat, level.centres.T, alpha=-1.0)
            distances[:, changed] = torch.addmm(half_others, flat, others.T, alpha=-1.0)
            parts.append((2.0 * distances.amin(dim=1) + flat.square().sum(dim=1)).reshape(len(z), *level.size))
        found = torch.cat(parts) / level.channels
        energies.left_out[group] = found[: len(group)]
        energies.pseudo[mine] = found[len(group) :]
    return energies


@torch.no_grad()
def whiten_alike(
    level: Level, store: FeatureStore, rows: Sequence[int], ridge: float, added: Tensor | None = None
) -> None:
    """Set the first layer of a level, the same at all positions, to whiten its features.

    Args:
        level: Level with one layer for all positions.
        store: Features.
        rows: Rows of the store.
        ridge: Ridge on the diagonal of the covariance, as a share of the mean variance.
        added: Further covariance `(C, C)`; None = none.

    Raises:
        TrainingError: If the features do not vary.
    """
    assert isinstance(level.start, SharedLinear)
    mean, covariance = pooled_gaussian(level, store, rows)
    covariance.diagonal().add_(ridge * float(covariance.diagonal().mean()))
    check_varies(covariance)
    if added is not None:
        covariance += added
    level.start.weight.copy_(inverse_factor(covariance[None])[0])
    level.start.mean.copy_(mean)


def sample_of(level: Level, store: FeatureStore, rows: Sequence[int], seed: int) -> Tensor:
    """Whitened features `(S, C)` at random positions of some images, as many of each, image after image."""
    return _sample(level, store, rows, _per_image(level, rows), np.random.default_rng(seed))


def centres_of(sample: Tensor, count: int, seed: int) -> Tensor:
    """Centres `(count, C)` of features `(S, C)` by k-means (Lloyd, 1982).

    Raises:
        TrainingError: If there are fewer features than centres.
    """
    random = torch.Generator().manual_seed(seed)
    centres = sample[torch.randperm(len(sample), generator=random)[:count]].clone()
    if len(centres) < count:
        raise TrainingError(
            f"{count} centres need at least as many features; the good images give {len(sample)}.",
            hint="Add good images, or set model.centres lower.",
        )
    # a part of the sample moves the centres nearly as well, in a fraction of the time
    part = sample[:: max(1, len(sample) // (count * PER_CENTRE))]
    for rows in [part] * LLOYD_STEPS + [sample]:
        labels = _nearest(rows, centres)
        counts = torch.bincount(labels, minlength=count).to(rows.dtype)
        sums = torch.zeros_like(centres).index_add_(0, labels, rows)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
        empty = (~filled).nonzero()[:, 0]
        centres[empty] = sample[torch.randint(len(sample), (len(empty),), generator=random)]
    return centres


def pooled_gaussian(level: Level, store: FeatureStore, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean `(C,)` and covariance `(C, C)` over all images and positions, float64."""
    count, total, products, origin = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for x in inputs_of(level, store, rows):
        columns = x.flatten(2).permute(1, 0, 2).flatten(1)
        if count == 0:
            origin = columns.mean(dim=1, keepdim=True)
        columns = columns - origin
        count += columns.shape[1]
        total = total + columns.sum(dim=1).cpu().double()
        products = products + (columns @ columns.T).cpu().double()
    mean = total / count
    return mean + origin[:, 0].cpu().double(), products / count - torch.outer(mean, mean)


def _pooled_displacements(level: Level, store: FeatureStore, rows: Rows) -> Tensor:
    """Mean square `(C, C)`, float64, of the offsets of varied copies from their originals over all positions."""
    count, total = 0, torch.zeros(())
    for offsets in offsets_of_copies(level, store, rows):
        columns = offsets.flatten(2).permute(1, 0, 2).flatten(1)
        count += columns.shape[1]
        total = total + (columns @ columns.T).cpu().double()
    return total / count


def _per_image(level: Level, rows: Sequence[int]) -> int:
    return min(level.size[0] * level.size[1], max(1, SAMPLE // len(rows)))


def _sample(
    level: Level, store: FeatureStore, rows: Sequence[int], per_image: int, random: np.random.Generator
) -> Tensor:
    """Whitened features `(n * per_image, C)` at random positions of each of n images, image after image."""
    positions = level.size[0] * level.size[1]
    parts = []
    for start in range(0, len(rows), BATCH):
        z = level.whitened(store.batch(rows[start : start + BATCH])).flatten(2)
        parts += [one[:, random.permutation(positions)[:per_image]].T.cpu() for one in z]
    return torch.cat(parts)


def _nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """Index of the nearest centre of each row `(S, C)`."""
    half = 0.5 * centres.square().sum(dim=1)
    parts = rows.split(_CHUNK)
    return torch.cat([torch.addmm(half, part, centres.T, alpha=-1.0).argmin(dim=1) for part in parts])
