"""Left-out scores of few images: each under a model that was fitted on the others alone, in everything.

The left-out energies of `left_out` keep each image in the projection, in the covariance of all positions and in the
whitening. With hundreds of images that is a trace; with forty it is not: the scores come out too low, and far more new good
images lie above the threshold than promised. With few images another fit takes a moment, so the images are split into folds, and those
of each fold are scored by a model of the other folds (cross-validation: Stone, 1974). Such a model has seen somewhat fewer images than
the finished one, so its scores are on the safe side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgead.models.level import Level
from edgead.models.scoring import ScoreHead
from edgead.train.features import FeatureStore
from edgead.train.left_out import Energies, LeftOutScores, Rows, fitted_energies

# Beyond this number of groups an image's part in what all share no longer matters.
MOST_GROUPS = 100
FOLDS = 10

Fit = Callable[[Rows], Sequence[Energies]]


def has_few_groups(rows: Rows) -> bool:
    """Whether the images are so few that they have to be left out of everything."""
    return len(set(rows.groups)) <= MOST_GROUPS


def folds_of(rows: Rows, folds: int = FOLDS) -> list[tuple[list[int], list[int], Rows]]:
    """Split images into folds, those of a group in one.

    Args:
        rows: Rows of a store.
        folds: Number of folds; at most one per group.

    Returns:
        For each fold the indices of its images in `rows.good` and of their copies in `rows.pseudo`, and the rows of all other images.
    """
    names = sorted(set(rows.groups))
    found = []
    for fold in range(min(folds, len(names))):
        left = set(names[fold :: min(folds, len(names))])
        own = [i for i, group in enumerate(rows.groups) if group in left]
        copies = [i for i, origin in enumerate(rows.origin) if rows.groups[origin] in left]
        found.append((own, copies, _without(rows, left)))
    return found


@torch.no_grad()
def cross_fit(
    levels: Sequence[Level],
    head: ScoreHead,
    store: FeatureStore,
    rows: Rows,
    fit: Fit,
    fractions: Sequence[float],
    *,
    tiles: int = 1,
    folds: int = FOLDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LeftOutScores:
    """Score every good image, and its copies, under a fit on the images of other folds.

    Levels and head keep the constants that they came with.

    Args:
        levels: Levels that are fitted.
        head: Their score head.
        store: Features.
        rows: Rows of the store; the images of a group are in one fold.
        fit: Function that fits `levels` to the given rows, projections included, and returns the left-out
            energies of each level.
        fractions: Shares of the map that scores are computed for.
        tiles: Number of inputs of an image, which follow each other.
        folds: Number of folds; at most one per group.
        progress: Receiver of the number of finished folds and of all.

    Raises:
        TrainingError: If the features of the other folds do not vary.
    """
    parts: tuple[nn.Module, ...] = (*levels, head)
    constants = [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in parts]
    maps = torch.empty(len(rows.good), *head.size, dtype=torch.float32)
    pseudo_maps = torch.empty(len(rows.pseudo), *head.size, dtype=torch.float32)
    parts_of = folds_of(rows, folds)
    for done, (own, copies, others) in enumerate(parts_of, start=1):
        for index, level in enumerate(fit(others)):
            head.standardise(index, level.left_out)
        maps[own] = fitted_maps(levels, head, store, [rows.good[i] for i in own])
        if copies:
            pseudo_maps[copies] = fitted_maps(levels, head, store, [rows.pseudo[i] for i in copies])
        progress(done, len(parts_of))
    for part, before in zip(parts, constants, strict=True):
        part.load_state_dict(before)
    found = LeftOutScores(maps, pseudo_maps)
    fraction = head.top_fraction
    for share in fractions:
        head.pool(share)
        found.scores[share] = head.pooled(maps).unflatten(0, (-1, tiles)).amax(dim=1).double().numpy()
        found.pseudo[share] = head.pooled(pseudo_maps).double().numpy()
    head.pool(fraction)
    return found


@torch.no_grad()
def fitted_maps(levels: Sequence[Level], head: ScoreHead, store: FeatureStore, rows: Sequence[int]) -> Tensor:
    """Anomaly maps `(n, h, w)`, float32, of rows of a store, as the levels and the head are now."""
    maps, _scores = head([fitted_energies(level, store, rows) for level in levels])
    return maps.float().cpu()


def scores_by_share(
    levels: Sequence[Level], head: ScoreHead, store: FeatureStore, n_images: int, tiles: int, fractions: Sequence[float]
) -> dict[float, NDArray[np.float64]]:
    """Image scores `(n_images,)` of a store whose rows were not fitted, by the share of the map that is pooled.

    Args:
        levels: Fitted levels.
        head: Fitted head; it pools the last share afterwards.
        store: Features of the inputs of the images, one image after the other.
        n_images: Number of images.
        tiles: Number of inputs of an image, the highest of which counts.
        fractions: Shares of the map.
    """
    maps = fitted_maps(levels, head, store, range(n_images * tiles))
    scores = {}
    for share in fractions:
        head.pool(share)
        scores[share] = head.pooled(maps).reshape(n_images, tiles).amax(dim=1).double().numpy()
    return scores


def _without(rows: Rows, groups: set[int]) -> Rows:
    """Rows of all images but those of some groups, without pseudo-defective copies."""
    kept = [i for i, group in enumerate(rows.groups) if group not in groups]
    place = {i: number for number, i in enumerate(kept)}
    varied = [i for i, origin in enumerate(rows.varied_origin) if origin in place]
    return Rows(
        good=tuple(rows.good[i] for i in kept),
        pseudo=(),
        origin=(),
        groups=tuple(rows.groups[i] for i in kept),
        varied=tuple(rows.varied[i] for i in varied),
        varied_origin=tuple(place[rows.varied_origin[i]] for i in varied),
    )
