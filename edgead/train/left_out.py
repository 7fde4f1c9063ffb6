r"""Closed-form fits of a level on all good images, and the energy of each image under the fit without it.

A threshold may be set by the images that the model was fitted on only if each is scored as if it had not been. Leaving an
image out of a Gaussian is exact and needs no second fit. With the scatter :math:`S = \sum_j d_j d_j^T` of n images, the
matrix :math:`G = (1 - a) S / n' + a \bar\Sigma + r I` and the g images of a group,
:math:`S' = S - U U^T`, :math:`U = (d_1, \dots, d_g, \tfrac{g}{\sqrt{n'}} \bar d)`, :math:`n' = n - g`, so that the distance
under the fit without them follows from the whitened :math:`z = G^{-1/2} d` alone (Sherman, Morrison & Woodbury, 1950). The
pooled covariance, which is the mean over hundreds of positions, the shared whitening and the displacements by changes of
light keep all images.

A change of light, noise or compression moves the features of a good image. With the mean square V of these displacements, at a
position or over all, the covariance becomes :math:`\Sigma + w V`: directions in which such changes move features count less.

Centres have a module of their own, `centre_fits`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.errors import TrainingError
from edgead.flows.linear import ActNorm, PositionLinear
from edgead.models.gaussian import PositionGaussians, fit_position_gaussians, inverse_factor
from edgead.models.level import Level
from edgead.models.scoring import SMALLEST_DEVIATION, SMOOTHING_SIGMA, ScoreHead
from edgead.train.features import FeatureStore

BATCH = 64


@dataclass(frozen=True)
class Rows:
    """Rows of a feature store.

    Attributes:
        good: Good images, the first rows.
        pseudo: Pseudo-defective copies of some of them.
        origin: Index in `good` of the image that each copy was made from.
        groups: Group of each good image; the images of a group are left out together.
        varied: Copies of good images with changes that ordinary lines show.
        varied_origin: Index in `good` of the image that each of them was made from.
    """

    good: tuple[int, ...]
    pseudo: tuple[int, ...]
    origin: tuple[int, ...]
    groups: tuple[int, ...]
    varied: tuple[int, ...] = ()
    varied_origin: tuple[int, ...] = ()

    def members(self) -> dict[int, list[int]]:
        """Indices in `good` of each group."""
        return _places(self.groups)

    def copies(self) -> dict[int, list[int]]:
        """Indices in `pseudo` of the copies of each group."""
        return _places([self.groups[origin] for origin in self.origin])

    def with_varied_judged(self) -> Rows:
        """The same rows with the varied copies behind the pseudo-defective ones, so that they are scored in the same way."""
        return replace(self, pseudo=self.pseudo + self.varied, origin=self.origin + self.varied_origin)


@dataclass
class Energies:
    """Energies of one level on one grid, `(n, h, w)`.

    Attributes:
        left_out: Good images, each under the fit without its group.
        pseudo: Pseudo-defective copies, each under the fit without the group of its origin.
    """

    left_out: Tensor
    pseudo: Tensor


@dataclass
class PositionFit:
    """Gaussians per position of one level, from all good images; made once for all candidate shrinkages.

    Attributes:
        gaussians: Mean and covariance per position.
        n: Number of images.
        displacements: What the varied copies add to the covariance, `(P, C, C)`; None = nothing.
    """

    gaussians: PositionGaussians
    n: int
    displacements: Tensor | None = None


@torch.no_grad()
def gather_positions(level: Level, store: FeatureStore, rows: Rows, variation: float = 0.0) -> PositionFit:
    """Mean and covariance of a level's features at each position.

    Args:
        level: Level, whose projections are fitted.
        store: Features.
        rows: Rows of the store.
        variation: Weight of the displacements of the varied copies in the covariance.
    """
    fit = PositionFit(fit_position_gaussians(inputs_of(level, store, rows.good)), len(rows.good))
    if rows.varied and variation > 0.0:
        fit.displacements = variation * _displacements(level, store, rows)
    return fit


def _displacements(level: Level, store: FeatureStore, rows: Rows) -> Tensor:
    """Mean square `(P, C, C)`, float64, of the offsets of varied copies from their originals at each position."""
    total = torch.zeros(())
    for offsets in offsets_of_copies(level, store, rows):
        columns = offsets.flatten(2).permute(2, 0, 1)
        total = total + torch.bmm(columns.transpose(1, 2), columns).cpu().double()
    return total / len(rows.varied)


def offsets_of_copies(level: Level, store: FeatureStore, rows: Rows) -> Iterator[Tensor]:
    """Offsets of a level's features of varied copies from those of their originals, in batches `(N, C, h, w)`."""
    for start in range(0, len(rows.varied), BATCH):
        part = slice(start, start + BATCH)
        originals = store.batch([rows.good[i] for i in rows.varied_origin[part]])
        yield level.inputs(store.batch(rows.varied[part])) - level.inputs(originals)


@torch.no_grad()
def fit_positions(
    level: Level, store: FeatureStore, rows: Rows, fit: PositionFit, *, amount: float, ridge: float
) -> Energies:
    """Fit a linear map per position, and compute the energies.

    Args:
        level: Level with a map per position, which is set to the fit on all good images.
        store: Features.
        rows: Rows of the store.
        fit: Result of `gather_positions`.
        amount: Weight of the covariance of all positions in each position's own, 0..1.
        ridge: Ridge on the diagonal, as a share of the mean variance.

    Raises:
        TrainingError: If the features do not vary.
    """
    assert isinstance(level.start, PositionLinear)
    energies = empty_energies(level, rows)
    members, copies = rows.members(), rows.copies()
    for count in sorted({len(group) for group in members.values()}):
        _set_positions(level.start, fit, amount, ridge, count)
        groups = [name for name, group in members.items() if len(group) == count]
        for name in groups if count > 1 else ():
            _without_group(level, store, rows, members[name], copies.get(name, []), fit.n, amount, energies)
        if count == 1:
            _without_singles(level, store, rows, [members[name][0] for name in groups], fit.n, amount, energies)
    _set_positions(level.start, fit, amount, ridge, 0)
    return energies


@torch.no_grad()
def fitted_energies(level: Level, store: FeatureStore, rows: Sequence[int]) -> Tensor:
    """Energies `(n, h, w)` of good images under the fit on all, as the finished model gives them."""
    return torch.cat([level.energy(level.whitened(batch)).cpu() for batch in store.batches(rows, BATCH)])


@dataclass
class LeftOutScores:
    """Maps and scores of a head that is standardised by left-out energies.

    Attributes:
        maps: Maps of the good inputs, `(n, h, w)`, each standardised by the others.
        scores: Scores of the good images by share of the map that is averaged over; with tiles the highest of an image's tiles.
        pseudo: Scores of the pseudo-defective copies `(m,)`, each one input, by the same shares.
        pseudo_maps: Maps `(m, h, w)` of the same.
    """

    maps: Tensor
    pseudo_maps: Tensor
    scores: dict[float, NDArray[np.float64]] = field(default_factory=dict)
    pseudo: dict[float, NDArray[np.float64]] = field(default_factory=dict)

    def split(self, count: int) -> tuple[LeftOutScores, dict[float, NDArray[np.float64]]]:
        """The same with the first `count` copies alone, and the scores of the other copies by share of the map."""
        first = {fraction: values[:count] for fraction, values in self.pseudo.items()}
        others = {fraction: values[count:] for fraction, values in self.pseudo.items()}
        return replace(self, pseudo_maps=self.pseudo_maps[:count], pseudo=first), others


@torch.no_grad()
def standardise(
    head: ScoreHead, levels: Sequence[Energies], fractions: Sequence[float], tiles: int = 1
) -> LeftOutScores:
    """Standardise a head by left-out energies, and score the images with it.

    Each good image is standardised by the mean and deviation of the *others*: with few images its own values would bound
    its score by (n - 1) / sqrt(n).

    Args:
        head: Score head; its constants are set from all good images.
        levels: Energies of each level.
        fractions: Shares of the map that scores are computed for.
        tiles: Number of inputs of an image, which follow each other.
    """
    total = changed = torch.zeros(())
    for index, level in enumerate(levels):
        head.standardise(index, level.left_out)
        pseudo = head.standardised(index, level.pseudo)
        means, deviations = (torch.from_numpy(part) for part in _of_the_others(level.left_out, tiles))
        images = zip(level.left_out.split(tiles), means, head.weights[index] / deviations, strict=True)
        own = head.on_finest(index, torch.cat([((maps - mean) * gain).float() for maps, mean, gain in images]))
        total, changed = (own, pseudo) if index == 0 else (total + own, changed + pseudo)
    found = LeftOutScores(total, changed)
    for fraction in fractions:
        head.pool(fraction)
        found.scores[fraction] = head.pooled(total).unflatten(0, (-1, tiles)).amax(dim=1).double().numpy()
        found.pseudo[fraction] = head.pooled(changed).double().numpy()
    return found


def _of_the_others(maps: Tensor, tiles: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smoothed mean and deviation over the maps of all other images, for each image `(n / tiles, h, w)`."""
    sums = np.stack([part.double().sum(dim=0).numpy() for part in maps.split(tiles)])
    powers = np.stack([part.double().square().sum(dim=0).numpy() for part in maps.split(tiles)])
    rest = len(maps) - tiles
    total, squares = sums.sum(axis=0), powers.sum(axis=0)
    means, deviations = np.empty_like(sums), np.empty_like(sums)
    for index, (own, own_squares) in enumerate(zip(sums, powers, strict=True)):
        mean = (total - own) / rest
        variance = np.maximum((squares - own_squares) / rest - mean**2, 0.0)
        for values, into in ((mean, means), (np.sqrt(variance), deviations)):
            cv2.GaussianBlur(values, (0, 0), SMOOTHING_SIGMA, dst=into[index], borderType=cv2.BORDER_REPLICATE)
    return means, np.maximum(deviations, SMALLEST_DEVIATION)


def _places(names: Sequence[int]) -> dict[int, list[int]]:
    """Indices at which each name stands."""
    found: dict[int, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(name, []).append(index)
    return found


def empty_energies(level: Level, rows: Rows) -> Energies:
    """Energies of a level, not computed yet."""
    assert not isinstance(level.start, ActNorm)
    dtype = level.start.weight.dtype
    return Energies(*(torch.empty(len(part), *level.size, dtype=dtype) for part in (rows.good, rows.pseudo)))


def _set_positions(start: PositionLinear, fit: PositionFit, amount: float, ridge: float, left_out: int) -> None:
    """Set the layer to the inverse factor of G for groups of `left_out` images; 0 = the fit on all."""
    n, rest = fit.n, fit.n - left_out
    own = fit.gaussians.covariance
    shrunk = PositionGaussians(fit.gaussians.mean, own, rest).shrunk(amount, ridge)
    if fit.displacements is not None:
        shrunk += (1.0 - amount) * fit.displacements + amount * fit.displacements.mean(dim=0)
    if left_out:
        shrunk += (1.0 - amount) * (n / rest - 1.0) * own
    check_varies(shrunk)
    start.weight.copy_(inverse_factor(shrunk))
    start.mean.copy_(fit.gaussians.mean)


def _without_singles(
    level: Level, store: FeatureStore, rows: Rows, images: Sequence[int], n: int, amount: float, into: Energies
) -> None:
    """Energies of images that are groups of their own, and of their copies."""
    channels, rest, beta = level.channels, n - 1, (1.0 - amount) / (n - 1) * n / (n - 1)
    ratio = n / rest
    of_image = _places(rows.origin)
    for start in range(0, len(images), BATCH):
        part = list(images[start : start + BATCH])
        z = level.whitened(store.batch([rows.good[i] for i in part]))
        norm = z.square().sum(dim=1)
        into.left_out[part] = (ratio**2 * norm / (1.0 - beta * norm) / channels).cpu()
        pairs = [(place, copy) for place, i in enumerate(part) for copy in of_image.get(i, [])]
        if pairs:
            places, copies = zip(*pairs, strict=True)
            own = z[list(places)]
            v = level.whitened(store.batch([rows.pseudo[copy] for copy in copies])) + own / rest
            cross, own_norm = (v * own).sum(dim=1), norm[list(places)]
            into.pseudo[list(copies)] = (
                (v.square().sum(dim=1) + beta * cross**2 / (1.0 - beta * own_norm)) / channels
            ).cpu()


def _without_group(
    level: Level,
    store: FeatureStore,
    rows: Rows,
    group: Sequence[int],
    copies: Sequence[int],
    n: int,
    amount: float,
    into: Energies,
) -> None:
    """Energies of the images of one group, and of their copies."""
    g, rest = len(group), n - len(group)
    z = level.whitened(store.batch([rows.good[i] for i in group])).flatten(2).permute(2, 0, 1)
    mean = z.mean(dim=1, keepdim=True)
    u = torch.cat([z, mean * (g / math.sqrt(rest))], dim=1)
    beta = (1.0 - amount) / rest
    inner = torch.eye(g + 1, dtype=u.dtype, device=u.device) - beta * torch.bmm(u, u.transpose(1, 2))

    def energy(columns: Tensor) -> Tensor:
        v = columns + mean * (g / rest)
        b = torch.bmm(u, v.transpose(1, 2))
        extra = (b * torch.linalg.solve(inner, b)).sum(dim=1)
        found = (v.square().sum(dim=2) + beta * extra) / level.channels
        return found.T.reshape(-1, *level.size).cpu()

    into.left_out[list(group)] = energy(z)
    if copies:
        changed = level.whitened(store.batch([rows.pseudo[i] for i in copies]))
        into.pseudo[list(copies)] = energy(changed.flatten(2).permute(2, 0, 1))


def check_varies(covariance: Tensor) -> None:
    """Check covariances `(..., C, C)`.

    Raises:
        TrainingError: If a channel does not vary, or is not finite.
    """
    smallest = float(covariance.diagonal(dim1=-2, dim2=-1).min())
    if not (math.isfinite(smallest) and smallest > 0.0):
        raise TrainingError(
            "The good images show no variation that a detector could learn: their features are constant or not finite.",
            hint="Check that the images differ, or raise train.ridge.",
        )


def inputs_of(level: Level, store: FeatureStore, rows: Sequence[int]) -> Iterator[Tensor]:
    """Inputs `(N, C, h, w)` of a level, in batches."""
    for batch in store.batches(rows, BATCH):
        yield level.inputs(batch)
