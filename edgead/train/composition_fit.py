"""Closed-form fit of an image's composition, and the distance of each image under the fit without it.

Words and their whitening keep all images of the fit, as the covariance of all positions does (`left_out`); the Gaussian over their shares
is fitted again without each group. With few images everything is fitted on the images of other folds (`cross_fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.evaluation.threshold import threshold_from_scores
from edgead.flows.linear import SharedLinear
from edgead.models.composition import Composition
from edgead.models.level import Level, LevelSpec
from edgead.train.centre_fits import centres_of, sample_of, whiten_alike
from edgead.train.cross_fit import folds_of, has_few_groups
from edgead.train.features import FeatureStore
from edgead.train.left_out import BATCH, LeftOutScores, Rows

# A position belongs to a word by exp(-d / T) with its squared distance d in the whitened space, and T in shares of the channels.
SHARPNESS = 1.0
# Weight of the identity in the correlation of the words.
SHRINKAGE = 0.03
WHITENING_RIDGE = 0.01
# Deviation that the share of a word has at least, in positions of the map.
SMALLEST_DEVIATION = 0.1
# Share of the good images whose composition leaves the map as it is.
ORDINARY = 0.5


@dataclass(frozen=True)
class Offsets:
    """Offsets of the maps, each under a fit without the image.

    Attributes:
        good: Of the good images, `(n,)`.
        pseudo: Of the pseudo-defective copies, `(m,)`.
    """

    good: NDArray[np.float64]
    pseudo: NDArray[np.float64]

    def added_to(self, scores: LeftOutScores) -> LeftOutScores:
        """Left-out maps and scores raised by the offsets."""

        def raised(maps: Tensor, offsets: NDArray[np.float64]) -> Tensor:
            return maps + torch.from_numpy(offsets).to(maps.dtype)[:, None, None]

        return replace(
            scores,
            maps=raised(scores.maps, self.good),
            pseudo_maps=raised(scores.pseudo_maps, self.pseudo),
            scores={share: values + self.good for share, values in scores.scores.items()},
            pseudo={share: values + self.pseudo for share, values in scores.pseudo.items()},
        )


@torch.no_grad()
def fit_composition(
    composition: Composition,
    store: FeatureStore,
    rows: Rows,
    scores: NDArray[np.float64],
    *,
    promised_rate: float,
    seed: int,
) -> Offsets:
    """Fit the words of good images, the Gaussian over their shares, and the scale of the offset.

    A composition as far away as one in `1 / promised_rate` good images raises an ordinary image to the threshold of the scores.

    Args:
        composition: Composition, which is set to the fit on all images.
        store: Features.
        rows: Rows of the store, one input per image.
        scores: Left-out scores of the good images without composition, `(n,)`.
        promised_rate: Promised false-alarm rate; the smallest that n images certify, if that is larger.
        seed: Seed of the words.

    Raises:
        TrainingError: If the features do not vary, or are fewer than the words.
    """
    if has_few_groups(rows):
        good, pseudo = _distances_by_folds(composition, store, rows, seed)
        _fit_words(composition, store, rows.good, seed)
        _fit_shares(composition, _shares(composition, store, rows.good))
    else:
        _fit_words(composition, store, rows.good, seed)
        good, pseudo = _left_out_distances(composition, store, rows)
    rate = max(promised_rate, 1.0 / (len(good) + 1))
    start, far = float(np.quantile(good, ORDINARY)), threshold_from_scores(good, rate).value
    height = threshold_from_scores(scores, rate).value - float(np.median(scores))
    gain = height / max(far - start, 1e-6)
    composition.get_buffer("start").fill_(start)
    composition.get_buffer("gain").fill_(gain)
    return Offsets(np.maximum(good - start, 0.0) * gain, np.maximum(pseudo - start, 0.0) * gain)


def _fit_words(composition: Composition, store: FeatureStore, rows: Sequence[int], seed: int) -> None:
    """Set the words to centres of the whitened features (k-means: Lloyd, 1982), whitening included."""
    weight = composition.get_buffer("word_weight")
    words, channels, key = len(weight), weight.shape[1], composition.key
    spec = LevelSpec(((key, 0),))
    level = Level(spec, {key: channels}, {key: composition.size}, positions=False, centres=words)
    level = level.to(device=weight.device, dtype=weight.dtype)
    whiten_alike(level, store, rows, WHITENING_RIDGE)
    assert isinstance(level.start, SharedLinear)
    centres = centres_of(sample_of(level, store, rows, seed), words, seed)
    # 2 z c - |c|^2 with z = V (x - v); what all words share does not change the softmax
    scale = 1.0 / (SHARPNESS * channels)
    folded = 2.0 * centres @ level.start.weight
    weight.copy_((scale * folded)[:, :, None, None])
    composition.get_buffer("word_bias").copy_(-scale * (centres.square().sum(dim=1) + folded @ level.start.mean))


def _shares(composition: Composition, store: FeatureStore, rows: Sequence[int]) -> NDArray[np.float64]:
    parts = [composition.shares(batch).cpu().double() for batch in store.batches(rows, BATCH)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, len(composition.get_buffer("mean"))))


def _fit_shares(composition: Composition, shares: NDArray[np.float64]) -> None:
    """Set the Gaussian over the shares `(n, K)` of the words."""
    mean, whitening = _gaussian(shares, _smallest(composition))
    composition.get_buffer("mean").copy_(torch.from_numpy(mean))
    composition.get_buffer("whitening").copy_(torch.from_numpy(whitening))


def _smallest(composition: Composition) -> float:
    return SMALLEST_DEVIATION / (composition.size[0] * composition.size[1])


def _gaussian(shares: NDArray[np.float64], smallest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean `(K,)` of shares `(n, K)` and the matrix `(K, K)` that whitens their offsets from it."""
    mean = shares.mean(axis=0)
    deviation = np.maximum(shares.std(axis=0), smallest)
    scaled = (shares - mean) / deviation
    correlation = (1.0 - SHRINKAGE) * scaled.T @ scaled / len(shares) + SHRINKAGE * np.eye(len(mean))
    return mean, np.linalg.inv(np.linalg.cholesky(correlation)) / deviation


def _distance(
    shares: NDArray[np.float64], mean: NDArray[np.float64], whitening: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(np.square((shares - mean) @ whitening.T).mean(axis=1))


def _left_out_distances(
    composition: Composition, store: FeatureStore, rows: Rows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of good images and of copies, each without its group in the Gaussian, which is set to the fit on all."""
    good, pseudo = (_shares(composition, store, part) for part in (rows.good, rows.pseudo))
    _fit_shares(composition, good)
    found, of_copies = np.empty(len(good)), np.empty(len(pseudo))
    copies, smallest = rows.copies(), _smallest(composition)
    for name, group in rows.members().items():
        fit = _gaussian(np.delete(good, group, axis=0), smallest)
        found[group] = _distance(good[group], *fit)
        if mine := copies.get(name, []):
            of_copies[mine] = _distance(pseudo[mine], *fit)
    return found, of_copies


def _distances_by_folds(
    composition: Composition, store: FeatureStore, rows: Rows, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of good images and of copies under fits on the images of other folds alone, words included."""
    found, of_copies = np.empty(len(rows.good)), np.empty(len(rows.pseudo))
    for own, copies, others in folds_of(rows):
        _fit_words(composition, store, others.good, seed)
        fit = _gaussian(_shares(composition, store, others.good), _smallest(composition))
        for part, places, into in ((rows.good, own, found), (rows.pseudo, copies, of_copies)):
            into[places] = _distance(_shares(composition, store, [part[i] for i in places]), *fit)
    return found, of_copies
