"""Thresholds of one engine, from its scores of held-out good images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.bundle import class_bias
from edgead.evaluation.segmentation import nfa_thresholds
from edgead.evaluation.threshold import class_thresholds
from edgead.manifest import POOLED, ClassThresholds, NfaRecord
from edgead.progress import Progress
from edgead.runner import Outputs, Runner
from edgead.tiled_runner import TiledRunner

ORDINARY_QUANTILE = 0.95
HeldOutBatch = tuple[NDArray[np.uint8], Sequence[str]]


def thresholds_from_runner(
    runner: Runner,
    batches: Iterable[HeldOutBatch],
    n_images: int,
    *,
    classes: Sequence[str],
    knows_classes: bool,
    norms: Sequence[tuple[str, int]],
    false_alarm_rate: float,
    confidence: float | None,
    progress: Progress,
) -> tuple[dict[str, ClassThresholds], NfaRecord | None]:
    """Thresholds per class and pooled, and the segmentation of a model that returns level norms.

    For the thresholds of a class, a model with classes receives the class; for the pooled thresholds it does not.

    Args:
        runner: Open engine.
        batches: Held-out good images as the runner takes them, `(N, ...)`, with the class of each.
        n_images: Total number of images.
        classes: Classes of the bundle, in its order.
        knows_classes: Whether the graph takes `class_bias`.
        norms: Output name and number of channels of each level norm; empty for most models.
        false_alarm_rate: Promised false-alarm rate, in (0, 1).
        confidence: Probability that each threshold keeps it; see `threshold_from_scores`.
        progress: Receives progress.

    Raises:
        DataError: If a class has fewer than 5 images or a score is not finite.
    """
    maps: list[list[NDArray[np.float32]]] = [[] for _ in norms]
    unknown = np.empty((n_images, 3))
    known = np.empty((n_images, 3)) if knows_classes else unknown
    names: list[str] = []
    covered = runner.stitcher.covered if isinstance(runner, TiledRunner) else None
    for images, class_names in batches:
        part = slice(len(names), len(names) + len(images))
        outputs = runner.infer(images)
        unknown[part] = _summaries(outputs, covered)
        for found, (name, _) in zip(maps, norms, strict=True):
            found.append(outputs[name])
        if knows_classes:
            known[part] = _summaries(runner.infer(images, class_bias(classes, class_names)), covered)
        names += class_names
        progress.update("Threshold", len(names), n_images)

    def thresholds_of(values: NDArray[np.float64]) -> ClassThresholds:
        return class_thresholds(
            values[:, 0], values[:, 1], float(np.median(values[:, 2])), false_alarm_rate, confidence
        )

    of_class = np.array(names)
    thresholds = {POOLED: thresholds_of(unknown), **{name: thresholds_of(known[of_class == name]) for name in classes}}
    if not norms:
        return thresholds, None
    joined = [np.concatenate(found) for found in maps]
    return thresholds, nfa_thresholds(joined, list(norms), names, false_alarm_rate, confidence=confidence)


def carried_thresholds(
    thresholds: Mapping[str, ClassThresholds], before: Outputs, after: Outputs
) -> dict[str, ClassThresholds]:
    """Thresholds of an engine from those of the float32 graph, by images that both have scored.

    The float32 scores of all good images are carried over by a line, the least squares of the engine's over the graph's,
    and widened by the residuals of that line, as the engine's own noise will widen them: the sums of each score with each
    residual, in order, are cut into as many blocks as there are images, and the medians of the blocks are the scores. Adding one
    residual to each score would keep the rate too, but the residual of a single image would move the threshold.

    Args:
        thresholds: Thresholds per class of the float32 graph, with the scores of all good images.
        before: Outputs of the float32 graph for some images, m >= 2.
        after: Outputs of the engine for the same images.
    """
    pairs = [summarise(out["pred_score"], out["anomaly_map"]) for out in (before, after)]
    carried = {}
    for name, own in thresholds.items():
        scores, maxima = (
            _carried(np.asarray(values, np.float64), pairs[0][index], pairs[1][index])
            for index, values in enumerate((own.scores, own.map_maxima))
        )
        low = _carried(np.array([own.heatmap_low]), pairs[0][2], pairs[1][2], noise=False)
        record = own.threshold
        carried[name] = class_thresholds(scores, maxima, float(low[0]), record.false_alarm_rate, record.confidence)
    return carried


def summarise(
    scores: ArrayLike, maps: NDArray[np.float32], covered: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], ...]:
    """Score, maximum and 95 % quantile of the map per image, `(N,)` each; where a crop covers less than the map, inside it."""
    values = maps.reshape(len(maps), -1) if covered is None else maps[:, covered]
    ordinary = np.quantile(values, ORDINARY_QUANTILE, axis=1)
    return np.asarray(scores, np.float64), values.max(axis=1).astype(np.float64), ordinary.astype(np.float64)


def _carried(
    values: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64], *, noise: bool = True
) -> NDArray[np.float64]:
    slope, offset = np.polyfit(before, after, 1) if np.ptp(before) > 0 else (1.0, float(np.mean(after - before)))
    residuals = after - (slope * before + offset)
    # the residuals of a fitted line are smaller than the errors by the two values that it takes from them
    residuals *= np.sqrt(len(residuals) / max(len(residuals) - 2, 1))
    found = slope * values + offset
    if not noise:
        return found
    sums = np.sort(np.add.outer(found, residuals), axis=None).reshape(len(found), -1)
    widened = np.empty_like(found)
    widened[np.argsort(found, kind="stable")] = np.median(sums, axis=1)
    return widened


def _summaries(outputs: Outputs, covered: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Score, maximum and 95 % quantile of the map per image, `(N, 3)`."""
    return np.stack(summarise(outputs["pred_score"], outputs["anomaly_map"], covered), axis=1)
