"""Closed-form fits of several classes in one model, each to its own good images, and the left-out scores of all of them.

The constants that make classes comparable are computed for each image from the other images of its class, as those of the map
are (`left_out.standardise`). The fits of the other classes have not seen the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.evaluation.threshold import threshold_from_scores
from edgead.models.backbone import Backbone
from edgead.models.class_head import ClassHead
from edgead.models.hgad_closed_form import CENTRES, POSITIONS, ClosedFormHgad, class_level
from edgead.models.level import Level, LevelSpec
from edgead.models.scoring import SMALLEST_DEVIATION, ScoreHead
from edgead.train.centre_fits import fit_centres
from edgead.train.cross_fit import cross_fit, has_few_groups
from edgead.train.features import FeatureStore
from edgead.train.left_out import (
    BATCH,
    Energies,
    LeftOutScores,
    Rows,
    fit_positions,
    gather_positions,
    standardise,
)
from edgead.train.level_fits import fit_levels
from edgead.train.start import FEW_IMAGES_SHRINKAGE, fit_projections

# Rate of the second threshold at which classes are made equal, and the deviation that they have at least, as a share of that of all scores.
COMMON_RATE, SMALLEST_SHARE = 0.05, 0.1


@dataclass(frozen=True)
class FitOptions:
    """How the forms of a class are fitted; names and ranges are those of the settings.

    Attributes:
        forms: Forms to try, `positions` and `centres`.
        shrinkage: Weights of the covariance of all positions to try.
        ridge: Ridge of the covariances per position.
        centres: Numbers of centres to try.
        centre_ridge: Ridge of the covariance behind the centres.
        fractions: Shares of the map to try for the image score.
        seed: Seed of the centres.
        promised_rate: Promised false-alarm rate, at which scores of all classes are made equal.
        map_size: Size `(h, w)` of the anomaly map of the whole model; None = that of the class's finest level.
    """

    forms: Sequence[str]
    shrinkage: Sequence[float]
    ridge: float
    centres: Sequence[int]
    centre_ridge: float
    fractions: Sequence[float]
    seed: int
    promised_rate: float
    map_size: tuple[int, int] | None = None


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
        promised_rate: Promised false-alarm rate, at which scores of all classes are made equal.
    """

    form: str
    shrinkage: float | None
    levels: list[Level]
    head: ScoreHead
    energies: list[Energies]
    scores: LeftOutScores
    promised_rate: float

    @property
    def centres(self) -> int:
        """Number of centres; 0 without any."""
        centres = self.levels[0].centres
        return 0 if centres is None else len(centres)


def fits_of_class(
    backbone: Backbone, specs: Sequence[LevelSpec], store: FeatureStore, rows: Rows, options: FitOptions
) -> Iterator[ClassFit]:
    """Fit every form of a class, one at a time.

    Args:
        backbone: Frozen features.
        specs: Features of each level of the class.
        store: Features.
        rows: Good images of the class and their pseudo-defective copies.
        options: Forms to try.

    Raises:
        TrainingError: If the features do not vary, or are too few for the centres.
    """

    def finished(form: str, amount: float | None, levels: list[Level], energies: list[Energies]) -> ClassFit:
        sizes = [level.size for level in levels]
        head = ScoreHead(sizes, [1.0] * len(levels), options.fractions[0], options.map_size)
        scores = standardise(head, energies, options.fractions)
        return ClassFit(form, amount, levels, head, energies, scores, options.promised_rate)

    projected = [class_level(backbone, spec, CENTRES, 0) for spec in specs]
    for level in projected:
        fit_projections(level, store, rows.good)

    def unfitted(form: str, centres: int = 0) -> list[Level]:
        levels = [class_level(backbone, spec, form, centres) for spec in specs]
        for level, own in zip(levels, projected, strict=True):
            level.projections.load_state_dict(own.projections.state_dict())
        return levels

    if POSITIONS in options.forms:
        gathered = [gather_positions(level, store, rows) for level in projected]
        enough = len(rows.good) > max(level.channels for level in projected)
        amounts = [amount for amount in options.shrinkage if enough or amount >= FEW_IMAGES_SHRINKAGE]
        for amount in amounts or [max(options.shrinkage)]:
            levels = unfitted(POSITIONS)
            pairs = zip(levels, gathered, strict=True)
            energies = [fit_positions(lv, store, rows, fit, amount=amount, ridge=options.ridge) for lv, fit in pairs]
            yield finished(POSITIONS, amount, levels, energies)
    for count in options.centres if CENTRES in options.forms else ():
        levels = unfitted(CENTRES, count)
        energies = [fit_centres(lv, store, rows, ridge=options.centre_ridge, seed=options.seed) for lv in levels]
        yield finished(CENTRES, None, levels, energies)


def scored_by_others(fit: ClassFit, store: FeatureStore, rows: Rows, options: FitOptions) -> ClassFit:
    """A fit whose left-out scores come from fits on other images alone, if the images of the class are few.

    Args:
        fit: Fit of the class; its constants stay.
        store: Features.
        rows: Good images of the class and their pseudo-defective copies.
        options: Options that it was fitted with.

    Raises:
        TrainingError: If the features of the other images do not vary.
    """
    if not has_few_groups(rows):
        return fit

    def energies(others: Rows) -> list[Energies]:
        for level in fit.levels:
            fit_projections(level, store, others.good)
        amounts = None if fit.shrinkage is None else (fit.shrinkage,)
        ((_, found),) = fit_levels(
            fit.levels,
            store,
            others,
            amounts,
            ridge=options.ridge,
            centre_ridge=options.centre_ridge,
            seed=options.seed,
        )
        return found

    return replace(fit, scores=cross_fit(fit.levels, fit.head, store, rows, energies, options.fractions))


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
    set_scale(model.head, index, fit, fraction)


def set_scale(head: ClassHead, index: int, fit: ClassFit, fraction: float) -> None:
    """Set the constants that compare a class with the others; see `set_class`."""
    scores, distances = fit.scores.scores[fraction], _distances(head, fit.scores.maps)
    head.set_class(index, scale_of_scores(scores, fit.promised_rate), _mean_and_deviation(distances))


def scale_of_scores(scores: NDArray[np.float64], promised_rate: float) -> tuple[float, float]:
    """Offset and deviation that put the thresholds of a class where those of a standard normal distribution lie.

    Scores of classes differ in the length of their tails. On this scale all classes reach their thresholds for the promised rate at one value,
    and those for 5 % at another, so that one threshold for all gives each class the rate that its own would. With a rate above 1 % there is no
    room between the two: the mean takes the place of the second.

    Args:
        scores: Left-out scores of good images `(n,)`.
        promised_rate: False-alarm rate of the threshold; the smallest that n images certify, if that is larger.
    """
    rate = max(promised_rate, 1.0 / (len(scores) + 1))
    threshold, quantile = threshold_from_scores(scores, rate).value, NormalDist().inv_cdf(1.0 - rate)
    other, other_quantile = float(scores.mean()), 0.0
    if rate <= COMMON_RATE / 5.0:
        other = threshold_from_scores(scores, COMMON_RATE).value
        other_quantile = NormalDist().inv_cdf(1.0 - COMMON_RATE)
    smallest = max(SMALLEST_DEVIATION, SMALLEST_SHARE * float(scores.std()))
    deviation = max((threshold - other) / (quantile - other_quantile), smallest)
    return threshold - quantile * deviation, deviation


@torch.no_grad()
def maps_of_classes(model: ClosedFormHgad, store: FeatureStore, rows: Sequence[int]) -> Tensor:
    """Maps `(n, K, h, w)` of all classes of a model for some rows of a store."""
    found = []
    for start in range(0, len(rows), BATCH):
        features = store.batch(rows[start : start + BATCH])
        energies = [
            [level.energy(level.whitened(features)) for level in model.levels_of(index)]
            for index in range(model.classes)
        ]
        maps = [model.head.class_map(index, own) for index, own in enumerate(energies)]
        found.append(torch.stack(maps, dim=1))
    return torch.cat(found)


@torch.no_grad()
def choose_class_share(
    head: ClassHead,
    fits: Sequence[ClassFit],
    fractions: Sequence[float],
    maps: Sequence[Sequence[Tensor]],
    shares: Sequence[float],
) -> float:
    """Set the share of the map that tells the class: the smallest of those that recognise the most images.

    Args:
        head: Head of the model; its constants are set too.
        fits: Fit of each of the K classes.
        fractions: Share of the map behind the image score of each class.
        maps: Maps `(n, K, h, w)` of good images of each class and of their pseudo-defective copies, that of the class without the
            image in its fit.
        shares: Shares to try.

    Returns:
        Share of images whose class is recognised, mean over good images and copies of all classes.
    """
    found = {}
    for share in sorted(shares):
        _set_share(head, share, fits, fractions)
        right = [
            head.class_scores(part).argmax(dim=1) == index
            for index, parts in enumerate(maps)
            for part in parts
            if len(part)
        ]
        found[share] = float(np.mean([float(one.double().mean()) for one in right]))
    best = max(found, key=lambda share: found[share])
    _set_share(head, best, fits, fractions)
    return found[best]


def _set_share(head: ClassHead, share: float, fits: Sequence[ClassFit], fractions: Sequence[float]) -> None:
    head.class_share = share
    for index, (fit, fraction) in enumerate(zip(fits, fractions, strict=True)):
        set_scale(head, index, fit, fraction)


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
def judge_left_out(head: ClassHead, fitted: Tensor, fit: ClassFit, index: int, fraction: float) -> Judged:
    """Judge the good images of one class by a model whose other classes have never seen them.

    Class unknown, an image takes no part in the scale of its class, by which it is compared with images of others. Class given, it is
    compared with images of its class alone: their scale changes no order, and that of the finished model serves.

    Args:
        head: Head of the finished model.
        fitted: Maps `(n, K, h, w)` of the images by the finished model, see `maps_of_classes`.
        fit: Fit of the class.
        index: Index of the class.
        fraction: Share of the map that the image score averages over.
    """
    own, n = fit.scores.maps.float(), len(fitted)
    score_mean, score_deviation = _scales_of_the_others(fit.scores.scores[fraction], fit.promised_rate)
    distance_mean, distance_deviation = _of_the_others(_distances(head, own))
    mean, gain = (head.get_buffer(f"score_{name}")[index] for name in ("mean", "gain"))
    found: list[tuple[Tensor, ...]] = []
    for start in range(0, n, BATCH):
        part = slice(start, min(start + BATCH, n))
        scaled, class_score = head.scaled(fitted[part]), head.class_scores(fitted[part])
        outputs = head.mixed(scaled, class_score)
        offset = (own[part] - _as_map(score_mean[part])) / _as_map(score_deviation[part])
        far = (head.distances(own[part]) - distance_mean[part]) / distance_deviation[part]
        known = (own[part] - mean) * gain
        scaled[:, index], class_score[:, index] = offset.float(), -far.float()
        unknown = head.mixed(scaled, class_score)
        found.append((unknown[1], unknown[0], head.heads[index].pooled(known), known, outputs[1], outputs[0], class_score.argmax(dim=1)))  # fmt: skip
    columns = [torch.cat(column).numpy() for column in zip(*found, strict=True)]
    for column in (0, 2, 4):
        columns[column] = columns[column].astype(np.float64)
    return Judged(*columns)


def _distances(head: ClassHead, maps: Tensor) -> NDArray[np.float64]:
    return head.distances(maps).double().numpy()  # type: ignore[no-any-return]


def _mean_and_deviation(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), SMALLEST_DEVIATION)


def _of_the_others(values: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Mean and deviation over all other values, for each of `(n,)`."""
    n = len(values)
    mean = (values.sum() - values) / (n - 1)
    variance = (np.square(values).sum() - np.square(values)) / (n - 1) - mean**2
    return torch.from_numpy(mean), torch.from_numpy(np.maximum(np.sqrt(np.maximum(variance, 0.0)), SMALLEST_DEVIATION))


def _scales_of_the_others(scores: NDArray[np.float64], promised_rate: float) -> tuple[Tensor, Tensor]:
    """`scale_of_scores` of all other scores, for each of `(n,)`."""
    scales = [scale_of_scores(np.delete(scores, index), promised_rate) for index in range(len(scores))]
    offset, deviation = torch.tensor(scales, dtype=torch.float64).unbind(dim=1)
    return offset, deviation


def _as_map(values: Tensor) -> Tensor:
    return values[:, None, None]
