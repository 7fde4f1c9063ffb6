"""Closed-form fits of several classes in one model, each to its own good images, and the left-out scores of all of them.

The constants that make classes comparable are computed for each image from the other images of its class, as those of the map
are (`left_out.standardise`). The fits of the other classes have not seen the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.models.backbone import Backbone
from edgead.models.hgad_closed_form import CENTRES, POSITIONS, ClosedFormHgad, class_level
from edgead.models.level import Level
from edgead.models.scoring import SMALLEST_DEVIATION, ScoreHead
from edgead.train.features import FeatureStore
from edgead.train.left_out import (
    BATCH,
    Energies,
    LeftOutScores,
    Rows,
    fit_centres,
    fit_positions,
    gather_positions,
    standardise,
)
from edgead.train.start import FEW_IMAGES_SHRINKAGE, fit_projections


@dataclass(frozen=True)
class FitOptions:
    """How the forms of a class are fitted; names and ranges are those of the settings.

    Attributes:
        forms: Forms to try, `positions` and `centres`.
        shrinkage: Weights of the covariance of all positions to try.
        ridge: Ridge of the covariances per position.
        centres: Number of centres.
        centre_ridge: Ridge of the covariance behind the centres.
        fractions: Shares of the map to try for the image score.
        seed: Seed of the centres.
    """

    forms: Sequence[str]
    shrinkage: Sequence[float]
    ridge: float
    centres: int
    centre_ridge: float
    fractions: Sequence[float]
    seed: int


@dataclass
class ClassFit:
    """One form of one class, fitted to all its good images.

    Attributes:
        form: `positions` or `centres`.
        shrinkage: Weight of the covariance of all positions; None for centres.
        levels: Fitted levels.
        head: Standardisation of the map.
        energies: Energies of the class's good images per level.
        scores: Left-out maps and scores of the same, and scores of their pseudo-defective copies.
    """

    form: str
    shrinkage: float | None
    levels: list[Level]
    head: ScoreHead
    energies: list[Energies]
    scores: LeftOutScores


def fits_of_class(
    backbone: Backbone, features: Sequence[Level], store: FeatureStore, rows: Rows, options: FitOptions
) -> Iterator[ClassFit]:
    """Fit every form of a class, one at a time.

    Args:
        backbone: Frozen features.
        features: Levels that say which features the class has.
        store: Features.
        rows: Good images of the class and their pseudo-defective copies.
        options: Forms to try.

    Raises:
        TrainingError: If the features do not vary, or are too few for the centres.
    """

    def finished(form: str, amount: float | None, levels: list[Level], energies: list[Energies]) -> ClassFit:
        head = ScoreHead([level.size for level in levels], [1.0] * len(levels), options.fractions[0])
        return ClassFit(form, amount, levels, head, energies, standardise(head, energies, options.fractions))

    projected = [class_level(backbone, level, CENTRES, 0) for level in features]
    for level in projected:
        fit_projections(level, store, rows.good)

    def unfitted(form: str) -> list[Level]:
        levels = [class_level(backbone, level, form, options.centres) for level in features]
        for level, own in zip(levels, projected, strict=True):
            level.projections.load_state_dict(own.projections.state_dict())
        return levels

    if POSITIONS in options.forms:
        gathered = [gather_positions(level, store, rows) for level in projected]
        enough = len(rows.good) > max(level.channels for level in features)
        amounts = [amount for amount in options.shrinkage if enough or amount >= FEW_IMAGES_SHRINKAGE]
        for amount in amounts or [max(options.shrinkage)]:
            levels = unfitted(POSITIONS)
            pairs = zip(levels, gathered, strict=True)
            energies = [fit_positions(lv, store, rows, fit, amount=amount, ridge=options.ridge) for lv, fit in pairs]
            yield finished(POSITIONS, amount, levels, energies)
    if CENTRES in options.forms:
        levels = unfitted(CENTRES)
        energies = [fit_centres(lv, store, rows, ridge=options.centre_ridge, seed=options.seed) for lv in levels]
        yield finished(CENTRES, None, levels, energies)


@torch.no_grad()
def set_class(model: ClosedFormHgad, index: int, fit: ClassFit, fraction: float) -> None:
    """Make a fit one class of a model, with the constants that compare it with the others.

    Args:
        model: Model with a class of this form at `index`.
        index: Index of the class.
        fit: Fit of the class.
        fraction: Share of the map that the image score averages over, one of those that were fitted.
    """
    for into, level in zip(model.levels_of(index), fit.levels, strict=True):
        into.load_state_dict(level.state_dict())
    model.head.heads[index].load_state_dict(fit.head.state_dict())
    scores, distances = fit.scores.scores[fraction], _distances(fit.scores.maps)
    model.head.set_class(index, _mean_and_deviation(scores), _mean_and_deviation(distances))


@dataclass
class Judged:
    """Good images judged by the finished model, each class without the image itself in its fit; `(n, ...)`.

    Attributes:
        scores, maps: Image scores and maps of a model that does not know the class.
        known_scores, known_maps: The same with the class given.
        fitted_scores, fitted_maps: Those of the finished model without the class, which has seen the images.
        predicted: Index of the class that the model takes each image for.
    """

    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    known_scores: NDArray[np.float64]
    known_maps: NDArray[np.float32]
    fitted_scores: NDArray[np.float64]
    fitted_maps: NDArray[np.float32]
    predicted: NDArray[np.int64]


@torch.no_grad()
def judge_left_out(
    model: ClosedFormHgad, store: FeatureStore, fit: ClassFit, index: int, rows: Sequence[int], fraction: float
) -> Judged:
    """Judge the good images of one class by a model whose other classes have never seen them.

    Args:
        model: Finished model.
        store: Features.
        fit: Fit of the class.
        index: Index of the class.
        rows: Rows of the store with its good images, in the order of the fit.
        fraction: Share of the map that the image score averages over.
    """
    head = model.head
    own, n = fit.scores.maps.float(), len(rows)
    score_mean, score_deviation = _of_the_others(fit.scores.scores[fraction])
    distance_mean, distance_deviation = _of_the_others(_distances(own))
    found: list[tuple[Tensor, ...]] = []
    for start in range(0, n, BATCH):
        part = slice(start, min(start + BATCH, n))
        fitted = _all_maps(model, store, rows[part])
        scaled, class_score = head.scaled(fitted), head.class_scores(fitted)
        outputs = head.mixed(scaled, class_score)
        offset = (own[part] - _as_map(score_mean[part])) / _as_map(score_deviation[part])
        far = (own[part].mean(dim=(1, 2)) - distance_mean[part]) / distance_deviation[part]
        scaled[:, index], class_score[:, index] = offset.float(), -far.float()
        unknown = head.mixed(scaled, class_score)
        found.append((unknown[1], unknown[0], head.heads[index].pooled(scaled[:, index]), scaled[:, index], outputs[1], outputs[0], class_score.argmax(dim=1)))  # fmt: skip
    columns = [torch.cat(column).numpy() for column in zip(*found, strict=True)]
    for column in (0, 2, 4):
        columns[column] = columns[column].astype(np.float64)
    return Judged(*columns)


def _all_maps(model: ClosedFormHgad, store: FeatureStore, rows: Sequence[int]) -> Tensor:
    """Maps `(N, K, h, w)` of all classes."""
    features = store.batch(rows)
    energies = [
        [level.energy(level.whitened(features)) for level in model.levels_of(index)] for index in range(model.classes)
    ]
    return torch.stack([model.head.class_map(index, own) for index, own in enumerate(energies)], dim=1)


def _distances(maps: Tensor) -> NDArray[np.float64]:
    """Mean of each map `(n, h, w)`."""
    return maps.double().mean(dim=(1, 2)).numpy()  # type: ignore[no-any-return]


def _mean_and_deviation(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), SMALLEST_DEVIATION)


def _of_the_others(values: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Mean and deviation over all other values, for each of `(n,)`."""
    n = len(values)
    mean = (values.sum() - values) / (n - 1)
    variance = (np.square(values).sum() - np.square(values)) / (n - 1) - mean**2
    return torch.from_numpy(mean), torch.from_numpy(np.maximum(np.sqrt(np.maximum(variance, 0.0)), SMALLEST_DEVIATION))


def _as_map(values: Tensor) -> Tensor:
    return values[:, None, None]
