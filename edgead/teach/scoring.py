"""Score head in numpy: maps standardised by left-out energies, and the score of an image; as `models/scoring.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.teach.base import BaseManifest
from edgead.teach.form import Doubles, Floats, LevelEnergies

SMOOTHING_SIGMA = 1.5
SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Standardised:
    """Head that is standardised by left-out energies, and what it gives.

    Attributes:
        means, gains: Constants `(h, w)` of each level.
        maps: Maps `(n, h, w)` of the left-out pictures, each standardised by the others.
        pseudo_maps: Maps `(m, h, w)` of the pseudo-defective copies.
        fitted_maps: Maps `(n, h, w)` of the pictures under the finished model.
    """

    means: list[Floats] = field(default_factory=list)
    gains: list[Floats] = field(default_factory=list)
    maps: Floats = field(default_factory=lambda: np.zeros((0, 1, 1), np.float32))
    pseudo_maps: Floats = field(default_factory=lambda: np.zeros((0, 1, 1), np.float32))
    fitted_maps: Floats = field(default_factory=lambda: np.zeros((0, 1, 1), np.float32))


def standardise(manifest: BaseManifest, levels: Sequence[LevelEnergies], own_share: float = 1.0) -> Standardised:
    """Standardise each level by the left-out energies of the good pictures, n >= 3, and add the levels up.

    Args:
        manifest: Sizes and weights of the levels.
        levels: Energies of each level.
        own_share: Weight of a position's own mean and variance against those of all positions, 0..1; 1 as in a training.
            Few pictures say little about a single position.
    """
    means, gains = [], []
    sums: list[Floats] = []
    for record, energies in zip(manifest.levels, levels, strict=True):
        left_out, pseudo, fitted = (
            v.reshape(len(v), *record.size) for v in (energies.left_out, energies.pseudo, energies.fitted)
        )
        values = left_out.astype(np.float64)
        exact_mean, std = _shrunk(values.mean(axis=0), values.var(axis=0), own_share)
        mean, gain = exact_mean.astype(np.float32), (record.weight / std).astype(np.float32)
        others, deviations = _of_the_others(values, own_share)
        own = ((values - others) * (record.weight / deviations)).astype(np.float32)
        parts = [own, (pseudo - mean) * gain, (fitted - mean) * gain]
        on_finest = [resample(part, manifest.map_size) for part in parts]
        sums = on_finest if not sums else [a + b for a, b in zip(sums, on_finest, strict=True)]
        means.append(mean)
        gains.append(gain)
    return Standardised(means, gains, *sums)


def anomaly_maps(manifest: BaseManifest, energies: Sequence[NDArray[np.float32]], head: Standardised) -> Floats:
    """Anomaly maps `(N, h, w)` from the energies `(N, P)` of each level under a finished head."""
    parts = [
        resample((own.reshape(-1, *record.size) - mean) * gain, manifest.map_size)
        for record, own, mean, gain in zip(manifest.levels, energies, head.means, head.gains, strict=True)
    ]
    return np.asarray(np.sum(parts, axis=0), np.float32)


def pooled(maps: Floats, fraction: float) -> Doubles:
    """Score `(N,)` of maps `(N, h, w)`: the mean of their largest values, of which there are `top_count`."""
    flat = maps.reshape(len(maps), maps.shape[1] * maps.shape[2])
    top = top_count(maps.shape[1:], fraction)
    highest = np.partition(flat, flat.shape[1] - top, axis=1)[:, -top:]
    return np.asarray(highest.mean(axis=1), np.float64)


def top_count(size: Sequence[int], fraction: float) -> int:
    """Number of map values behind the score of an image."""
    return max(1, round(fraction * size[0] * size[1]))


def _of_the_others(maps: Doubles, own_share: float) -> tuple[Doubles, Doubles]:
    """Smoothed mean and deviation over all other maps, for each of `(n, h, w)`."""
    n = len(maps)
    total, squares = maps.sum(axis=0), np.square(maps).sum(axis=0)
    means = (total - maps) / (n - 1)
    variances = np.maximum((squares - maps**2) / (n - 1) - means**2, 0.0)
    found = [_shrunk(mean, variance, own_share) for mean, variance in zip(means, variances, strict=True)]
    return np.stack([mean for mean, _ in found]), np.stack([std for _, std in found])


def _shrunk(mean: Doubles, variance: Doubles, own_share: float) -> tuple[Doubles, Doubles]:
    """Smoothed mean and deviation `(h, w)`, moved towards those of all positions together."""
    if own_share < 1.0:
        whole = variance.mean() + mean.var()
        variance = own_share * variance + (1.0 - own_share) * whole
        mean = own_share * mean + (1.0 - own_share) * mean.mean()
    return _smooth(mean), np.maximum(_smooth(np.sqrt(variance)), SMALLEST_DEVIATION)


def _smooth(values: Doubles) -> Doubles:
    smoothed = cv2.GaussianBlur(values, (0, 0), SMOOTHING_SIGMA, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smoothed, np.float64)


def resample(maps: NDArray[np.float32], size: tuple[int, int]) -> Floats:
    """Maps `(N, h, w)` at another size, bilinear."""
    if maps.shape[1:] == size:
        return maps
    if not len(maps):
        return np.zeros((0, *size), np.float32)
    return np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR) for one in maps]).astype(np.float32)
