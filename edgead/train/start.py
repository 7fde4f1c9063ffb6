"""Closed-form start of a detector: projections, one Gaussian per position, standardised maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgead.errors import TrainingError
from edgead.evaluation.metrics import auroc
from edgead.flows.linear import ActNorm, PositionLinear
from edgead.models.detector import Detector
from edgead.models.gaussian import PositionGaussians, fit_position_gaussians, fit_projection, inverse_factor
from edgead.models.level import Level, squared_norm
from edgead.models.scoring import ScoreHead
from edgead.train.features import FeatureStore, allocate

BATCH = 32
FEW_IMAGES_SHRINKAGE = 0.2


@dataclass(frozen=True)
class Indices:
    """Rows of a feature store by their use: fitting, early stopping, pseudo-defects."""

    fit: tuple[int, ...]
    early_stop: tuple[int, ...]
    pseudo: tuple[int, ...]


@dataclass(frozen=True)
class LevelStart:
    """Shrinkage chosen for a level, and the pseudo-defect AUROC of each candidate (empty: nothing to choose)."""

    shrinkage: float
    pseudo_auroc: dict[float, float]


@torch.no_grad()
def fit_start(
    model: Detector,
    store: FeatureStore,
    indices: Indices,
    *,
    amounts: Sequence[float],
    ridge: float,
    noise: float = 0.0,
) -> list[LevelStart]:
    """Fit the frozen parts of every level to the good images.

    The shrinkage of each position's covariance towards that of all positions is the one that best separates the
    early-stopping images from their pseudo-defective copies: aligned parts need little, patterns that differ from image
    to image need much. With more images than channels, the covariances are then fitted again including the early-stopping
    images, which add data here and can still stop the couplings, since these never train on them. With fewer images,
    fitted images score too well for the map's scale to come from them alone.

    Args:
        model: Untrained model.
        store: Features of every image.
        indices: Rows of the store by their use.
        amounts: Candidate shrinkages.
        ridge: Ridge added to the diagonal, as a share of the mean variance.
        noise: Deviation of the training noise, which is also added to the data that parameters are initialised from.
    """
    starts = []
    for level in model.levels:
        fit_projections(level, store, indices.fit)
        if isinstance(level.start, ActNorm):
            level.start.initialise(torch.cat(list(_inputs(level, store, _spread(indices.fit, 4 * BATCH)))))
            starts.append(LevelStart(0.0, {}))
        else:
            assert isinstance(level.start, PositionLinear)  # centres are never a start of a training
            starts.append(_fit_positions(model, level, level.start, store, indices, amounts, ridge))
    some = list(store.batches(_spread(indices.fit, 2 * BATCH), BATCH))
    whitened = [torch.cat([level.whitened(features) for features in some]) for level in model.levels]
    random = torch.Generator(_device(model)).manual_seed(0)
    model.initialise([x + noise * torch.randn(x.shape, generator=random, device=x.device) for x in whitened])
    return starts


def fit_projections(level: Level, store: FeatureStore, rows: Sequence[int]) -> None:
    """Set the projections of a level to the principal channels of some images."""
    for (key, _), projection in zip(level.spec.sources, level.projections, strict=True):
        if isinstance(projection, nn.Conv2d):
            fit_projection(projection, (batch[key] for batch in store.batches(rows, BATCH)))


@torch.no_grad()
def whitened_arrays(
    model: Detector, store: FeatureStore, indices: Sequence[int], *, memory_limit: int, folder: Path
) -> list[NDArray[np.float16]]:
    """Training data of the couplings: outputs `(n, C, h, w)` of each level's frozen first layer, float16."""
    arrays = []
    for number, level in enumerate(model.levels):
        shape = (len(indices), level.channels, *level.size)
        array = allocate(shape, memory_limit, folder / f"whitened-{number}.npy")
        for i, batch in enumerate(store.batches(indices, BATCH)):
            array[i * BATCH : (i + 1) * BATCH] = level.whitened(batch).to(torch.float16).cpu().numpy()
        arrays.append(array)
    return arrays


@torch.no_grad()
def pseudo_defect_auroc(
    model: Detector, arrays: Sequence[NDArray[np.float16]], labels: NDArray[np.int64], indices: Indices
) -> float:
    """AUROC of early-stopping images against their pseudo-defective copies; fits the score head first."""
    fit_head(model, arrays, labels, indices)
    scores = [
        model.score([part.to(_device(model)) for part in _statistics(model, arrays, labels, rows)])[1].cpu()
        for rows in (indices.early_stop, indices.pseudo)
    ]
    defective = np.arange(len(indices.early_stop) + len(indices.pseudo)) >= len(indices.early_stop)
    return float(auroc(torch.cat(scores).numpy(), defective) or 0.0)


def resemblance(arrays: Sequence[NDArray[np.float16]], indices: Indices) -> float:
    """Resemblance of early-stopping images to single fitted ones: median over the former of the largest cosine.

    Whitened features of different parts are nearly orthogonal (below 0.3); several photographs of each part give 0.4
    and more, and then neither these images nor the threshold images predict the scores of *new* parts.
    """
    similarity = torch.zeros(len(indices.early_stop), len(indices.fit))
    norms = [torch.zeros(len(part)) for part in (indices.early_stop, indices.fit)]
    for array in arrays:
        for start in range(0, len(indices.fit), BATCH):
            columns = slice(start, start + BATCH)
            fitted = torch.from_numpy(array[list(indices.fit[columns])]).float().flatten(1)
            norms[1][columns] += fitted.square().sum(dim=1)
            for row in range(0, len(indices.early_stop), BATCH):
                rows = slice(row, row + BATCH)
                unseen = torch.from_numpy(array[list(indices.early_stop[rows])]).float().flatten(1)
                similarity[rows, columns] += unseen @ fitted.T
                if start == 0:
                    norms[0][rows] += unseen.square().sum(dim=1)
    cosine = similarity / torch.sqrt(norms[0][:, None] * norms[1][None, :])
    return float(cosine.max(dim=1).values.median())


@torch.no_grad()
def fit_head(
    model: Detector, arrays: Sequence[NDArray[np.float16]], labels: NDArray[np.int64], indices: Indices
) -> None:
    """Set the constants of the score from the good images, fitted and early-stopping ones.

    Args:
        model: Trained model.
        arrays: Result of `whitened_arrays`, with the rows of `indices`.
        labels: Class index of each row.
        indices: Rows of which `fit` and `early_stop` are used.
    """
    fitted, unseen = (_statistics(model, arrays, labels, rows) for rows in (indices.fit, indices.early_stop))
    model.fit_head(fitted, unseen)


def _statistics(
    model: Detector, arrays: Sequence[NDArray[np.float16]], labels: NDArray[np.int64], rows: Sequence[int]
) -> list[Tensor]:
    """Input of the score head for some rows of known class, per level, on the CPU."""
    device = _device(model)
    chunks = [np.asarray(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
    parts = []
    for chunk in chunks:
        whitened = [_tensor(array[chunk], device) for array in arrays]
        bias = model.class_bias(torch.from_numpy(labels[chunk]).to(device))
        parts.append([part.cpu() for part in model.statistics(model.latents(whitened), bias)])
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def _device(model: Detector) -> torch.device:
    return next(model.parameters()).device


def _spread(rows: Sequence[int], count: int) -> list[int]:
    """Select at most `count` rows, evenly spaced: the first ones may all be of one class."""
    if len(rows) <= count:
        return list(rows)
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, count)]


def _fit_positions(
    model: Detector,
    level: Level,
    start: PositionLinear,
    store: FeatureStore,
    indices: Indices,
    amounts: Sequence[float],
    ridge: float,
) -> LevelStart:
    gaussians = fit_position_gaussians(_inputs(level, store, indices.fit))
    # fewer images than channels leave the covariance singular
    enough = len(indices.fit) > level.channels
    usable = [amount for amount in amounts if enough or amount >= FEW_IMAGES_SHRINKAGE] or [max(amounts)]
    scores = {}
    for amount in usable if len(usable) > 1 else ():
        _set_start(start, gaussians, amount, ridge)
        good = _start_maps(level, store, indices.early_stop)
        defective = _start_maps(level, store, indices.pseudo)
        head = ScoreHead([level.size], [1.0], model.head.top_fraction)
        head.standardise(0, good)
        both = torch.cat([head([good])[1], head([defective])[1]]).numpy()
        labels = np.arange(len(both)) >= len(good)
        scores[amount] = float(auroc(both, labels) or 0.0)
    chosen = max(usable, key=lambda amount: (scores.get(amount, 0.0), amount))
    if enough:
        gaussians = fit_position_gaussians(_inputs(level, store, indices.fit + indices.early_stop))
    _set_start(start, gaussians, chosen, ridge)
    return LevelStart(chosen, scores)


def _set_start(start: PositionLinear, gaussians: PositionGaussians, amount: float, ridge: float) -> None:
    try:
        start.weight.copy_(inverse_factor(gaussians.shrunk(amount, ridge)))
    except RuntimeError as error:  # torch.linalg.LinAlgError, which mypy does not see
        raise TrainingError(
            "The good images show no variation that a detector could learn: their features are constant or not finite.",
            hint="Check that the images differ, or raise train.ridge.",
        ) from error
    start.mean.copy_(gaussians.mean)


def _start_maps(level: Level, store: FeatureStore, indices: Sequence[int]) -> Tensor:
    return torch.cat([squared_norm(level.whitened(batch)).cpu() for batch in store.batches(indices, BATCH)])


def _inputs(level: Level, store: FeatureStore, indices: Sequence[int]) -> Iterator[Tensor]:
    for batch in store.batches(indices, BATCH):
        yield level.inputs(batch)


def _tensor(array: NDArray[np.float16], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, torch.float32)
