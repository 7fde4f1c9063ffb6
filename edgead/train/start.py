"""The closed-form start of a detector: projections, one Gaussian per position, standardised maps."""

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
    """Where the images of each part stand in a feature store."""

    fit: tuple[int, ...]
    early_stop: tuple[int, ...]
    pseudo: tuple[int, ...]


@dataclass(frozen=True)
class LevelStart:
    """The shrinkage chosen for a level, and the pseudo-defect AUROC of each amount tried (empty: nothing to choose)."""

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
    """Fit the frozen parts of every level from the good images.

    How far each position's covariance is drawn to that of all positions is decided by telling the early-stopping
    images from their pseudo-defective copies: parts that always lie alike want little, patterns that differ from
    image to image want much. Once it is chosen, the covariances are fitted again with the early-stopping images, where
    there are more images than channels: every image counts there, and the couplings, which never learn from them, still
    stop by them. With fewer, images that were fitted look too good for the map's scale to come from them alone.

    Args:
        model: Untrained.
        store: Features of every image.
        indices: Its parts.
        amounts: Shrinkages to try.
        ridge: Added to the diagonal, as a share of the mean variance.
        noise: Deviation of the training's noise: what starts from data starts from noisy data.
    """
    starts = []
    for level in model.levels:
        for (key, _), projection in zip(level.spec.sources, level.projections, strict=True):
            if isinstance(projection, nn.Conv2d):
                fit_projection(projection, (batch[key] for batch in store.batches(indices.fit, BATCH)))
        if isinstance(level.start, ActNorm):
            level.start.initialise(torch.cat(list(_inputs(level, store, _spread(indices.fit, 4 * BATCH)))))
            starts.append(LevelStart(0.0, {}))
        else:
            starts.append(_fit_positions(model, level, level.start, store, indices, amounts, ridge))
    some = list(store.batches(_spread(indices.fit, 2 * BATCH), BATCH))
    whitened = [torch.cat([level.whitened(features) for features in some]) for level in model.levels]
    random = torch.Generator(_device(model)).manual_seed(0)
    model.initialise([x + noise * torch.randn(x.shape, generator=random, device=x.device) for x in whitened])
    return starts


@torch.no_grad()
def whitened_arrays(
    model: Detector, store: FeatureStore, indices: Sequence[int], *, memory_limit: int, folder: Path
) -> list[NDArray[np.float16]]:
    """What the couplings train on: each level's output of the frozen start, `(n, C, h, w)`, float16."""
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
    """How well the detector tells the early-stopping images from their pseudo-defective copies; sets its head."""
    fit_head(model, arrays, labels, indices)
    scores = [
        model.score([part.to(_device(model)) for part in _statistics(model, arrays, labels, rows)])[1].cpu()
        for rows in (indices.early_stop, indices.pseudo)
    ]
    defective = np.arange(len(indices.early_stop) + len(indices.pseudo)) >= len(indices.early_stop)
    return float(auroc(torch.cat(scores).numpy(), defective) or 0.0)


def resemblance(arrays: Sequence[NDArray[np.float16]], indices: Indices) -> float:
    """How much the early-stopping images resemble single fitted ones: the median, over the former, of the largest cosine.

    Whitened features of different parts are nearly orthogonal (below 0.3); several photographs of each part give 0.4
    and more, and then neither these images nor the threshold's say how a *new* part would score.
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
        model: Trained.
        arrays: From `whitened_arrays`, rows as in `indices`.
        labels: Class index of each row.
        indices: The `fit` and `early_stop` rows.
    """
    fitted, unseen = (_statistics(model, arrays, labels, rows) for rows in (indices.fit, indices.early_stop))
    model.fit_head(fitted, unseen)


def _statistics(
    model: Detector, arrays: Sequence[NDArray[np.float16]], labels: NDArray[np.int64], rows: Sequence[int]
) -> list[Tensor]:
    """What the head sees of some rows, per level, on the CPU; the class of each is given."""
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
    """At most `count` rows, evenly over the sequence: the first ones may all be of one class."""
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
