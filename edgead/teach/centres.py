"""Centres of features that are whitened alike at all positions; the fit and left-out energies of `train/left_out.py` in numpy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.errors import TrainingError
from edgead.teach.form import Floats, LevelConstants, LevelEnergies

SAMPLE = 200_000
LLOYD_STEPS = 8
PER_CENTRE = 40
_CHUNK = 1024


@dataclass(frozen=True)
class Centres:
    """Fit of one level.

    Attributes:
        weight: Whitening W `(C, C)`, the inverse factor of the pooled covariance.
        mean: Pooled mean `(C,)`.
        centres: Means of the whitened features that are nearest to each, `(K, C)`.
        sums, counts: Sum `(K, C)` and number `(K,)` of these features.
        labels: Nearest centre of each feature of the sample, `(n, s)`.
        sample: The sample: whitened features `(n, s, C)`, as many of each picture.
    """

    weight: Floats
    mean: Floats
    centres: Floats
    sums: Floats
    counts: Floats
    labels: NDArray[np.int64]
    sample: Floats

    def whitened(self, x: Floats) -> Floats:
        """Whitened features of inputs `(P, C)`."""
        return np.asarray(x @ self.weight.T - self.weight @ self.mean, np.float32)


def fit(
    pictures: Sequence[Floats], count: int, *, ridge: float, seed: int, first: NDArray[np.int64] | None = None
) -> Centres:
    """Whitening and centres from inputs `(P, C)` of a level, one array for each picture.

    Args:
        pictures: Inputs.
        count: Wanted number of centres; at most half as many as the sample has features are made.
        ridge: Ridge on the diagonal of the covariance, as a share of the mean variance.
        seed: Seed of the sample and of the first centres.
        first: Features of the sample that the centres begin with; None = drawn at random.

    Raises:
        TrainingError: If the features do not vary.
    """
    origin = pictures[0].mean(axis=0).astype(np.float64)
    columns = [picture.astype(np.float64) - origin for picture in pictures]
    total = sum(map(len, columns))
    mean = np.sum([one.sum(axis=0) for one in columns], axis=0) / total
    covariance = np.sum([one.T @ one for one in columns], axis=0) / total - np.outer(mean, mean)
    covariance += ridge * float(np.diagonal(covariance).mean()) * np.eye(len(covariance))
    if not (np.isfinite(covariance).all() and np.diagonal(covariance).min() > 0.0):
        raise TrainingError(
            "The good pictures show no variation that a detector could learn: their features are constant or not finite.",
            hint="Check that the pictures differ: each should show another part.",
        )
    weight = np.linalg.inv(np.linalg.cholesky(covariance)).astype(np.float32)
    offset = (mean + origin).astype(np.float32)
    random = np.random.default_rng(seed)
    positions = len(pictures[0])
    per_picture = min(positions, max(1, SAMPLE // len(pictures)))
    sample = np.stack(
        [(one @ weight.T - weight @ offset)[random.permutation(positions)[:per_picture]] for one in pictures]
    ).astype(np.float32)
    rows = sample.reshape(-1, sample.shape[2])
    count = min(count, max(1, len(rows) // 2))
    start = random.permutation(len(rows))[:count] if first is None else first
    centres = _k_means(rows, rows[start].copy(), random)
    labels, _ = nearest(rows, centres)
    sums, counts = _sums(rows, labels, count)
    centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1.0)[:, None], centres)
    return Centres(weight, offset, centres, sums, counts, labels.reshape(len(pictures), -1), sample)


def energies(
    fitted: Centres, pictures: Sequence[Floats], pseudo: Iterable[Floats], origin: Sequence[int]
) -> LevelEnergies:
    """Energies of the good pictures and of their pseudo-defective copies.

    Args:
        fitted: Result of `fit`.
        pictures: Inputs `(P, C)` of the good pictures.
        pseudo: Inputs `(P, C)` of the copies.
        origin: Index of the picture that each copy was made from.
    """
    channels = len(fitted.mean)

    def energy(x: Floats, centres: Floats) -> Floats:
        return np.asarray(nearest(fitted.whitened(x), centres)[1] / channels, np.float32)

    left_out = np.stack([energy(x, _others(fitted, index)) for index, x in enumerate(pictures)])
    of_all = np.stack([energy(x, fitted.centres) for x in pictures])
    copies = [energy(x, _others(fitted, own)) for x, own in zip(pseudo, origin, strict=True)]
    return LevelEnergies(left_out, np.stack(copies) if copies else left_out[:0], of_all)


def unseen(fitted: Centres, picture: Floats) -> Floats:
    """Energies `(P,)` of the inputs `(P, C)` of a picture that was not fitted."""
    return np.asarray(nearest(fitted.whitened(picture), fitted.centres)[1] / len(fitted.mean), np.float32)


def constants(fitted: Centres) -> LevelConstants:
    """Constants of the graph and of the torch model."""
    weight, centres = fitted.weight, fitted.centres
    offset = -(weight.astype(np.float64) @ fitted.mean.astype(np.float64))
    return LevelConstants(
        {
            "whitening": weight[:, :, None, None],
            "offset": offset.astype(np.float32),
            "affinity": 2.0 * centres[:, :, None, None],
            "norms": -np.square(centres).sum(axis=1),
        },
        {"start.weight": weight, "start.mean": fitted.mean, "centres": centres},
    )


def nearest(rows: Floats, centres: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Index of the nearest centre of each row `(S, C)`, and the squared distance."""
    half = 0.5 * np.square(centres).sum(axis=1)
    labels, distances = [], []
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        affinity = part @ centres.T
        np.subtract(half, affinity, out=affinity)
        label = affinity.argmin(axis=1)
        labels.append(label)
        distances.append(2.0 * affinity[np.arange(len(part)), label] + np.square(part).sum(axis=1))
    return np.concatenate(labels), np.concatenate(distances)


def _others(fitted: Centres, index: int) -> Floats:
    """Centres without the features of one picture; a centre with no others is far from everything."""
    sums, counts = _sums(fitted.sample[index], fitted.labels[index], len(fitted.counts))
    rest = fitted.counts - counts
    return np.asarray(((fitted.sums - sums) / np.maximum(rest, 1.0)[:, None])[rest > 0.5], np.float32)


def _sums(rows: Floats, labels: NDArray[np.int64], count: int) -> tuple[Floats, Floats]:
    sums = np.zeros((count, rows.shape[1]), np.float32)
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    sums[names] = np.add.reduceat(rows[order], starts, axis=0)
    return sums, np.bincount(labels, minlength=count).astype(np.float32)


def _k_means(sample: Floats, centres: Floats, random: np.random.Generator) -> Floats:
    """Move centres by Lloyd's algorithm (1982); a part of the sample moves them nearly as well, in a fraction of the time."""
    count = len(centres)
    part = sample[:: max(1, math.floor(len(sample) / (count * PER_CENTRE)))]
    for rows in [part] * LLOYD_STEPS + [sample]:
        labels, _ = nearest(rows, centres)
        sums, counts = _sums(rows, labels, count)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
        empty = np.flatnonzero(~filled)
        centres[empty] = sample[random.integers(len(sample), size=len(empty))]
    return centres
