"""Thresholds of one engine, from its scores of held-out good images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

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


def _summaries(outputs: Outputs, covered: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Score, maximum and 95 % quantile of the map per image, `(N, 3)`; where a crop covers less than the map, inside it."""
    maps = outputs["anomaly_map"]
    values = maps.reshape(len(maps), -1) if covered is None else maps[:, covered]
    ordinary = np.quantile(values, ORDINARY_QUANTILE, axis=1)
    return np.stack([outputs["pred_score"], values.max(axis=1), ordinary], axis=1)
