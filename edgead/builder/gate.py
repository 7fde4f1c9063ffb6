"""Accuracy gate: compares a lower-precision engine with the float32 graph on good and defective images."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.engines.fingerprint import GateRecord
from edgead.evaluation.metrics import auroc
from edgead.imaging import Image
from edgead.manifest import POOLED, ClassThresholds
from edgead.progress import Progress, Silent
from edgead.runner import Outputs, Runner

TIMED_RUNS = 15


@dataclass(frozen=True)
class GateImages:
    """Images for the gate, uint8 RGB, `(N, h, w, 3)` each, or frames of tiles `(N, T, h, w, 3)`.

    Attributes:
        held_out: Held-out good images.
        classes: Class of each held-out image.
        good, defective: Labelled images; without any, the held-out images and pseudo-defects made from them.
        is_labelled: Whether the user supplied labelled images.
        corrections: What leaving them out adds to the scores of the held-out images; None if the model has not seen them.
    """

    held_out: NDArray[np.uint8]
    classes: list[str]
    good: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    is_labelled: bool
    corrections: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class GateScores:
    """Scores `(N,)` of the images of a gate, and the outputs for the held-out ones."""

    held_out: NDArray[np.float32]
    good: NDArray[np.float32]
    defective: NDArray[np.float32]
    outputs: Outputs = field(default_factory=dict)


def score_images(runner: Runner, images: GateImages, progress: Progress | None = None) -> GateScores:
    """Score all images of the gate; held-out ones that the model has seen, as if it had not."""
    total = len(images.held_out) + len(images.defective) + (len(images.good) if images.is_labelled else 0)
    counted = _Counted(runner, total, progress or Silent())
    outputs = outputs_of(counted, images.held_out)
    held_out = outputs["pred_score"] + (0.0 if images.corrections is None else images.corrections)
    good = scores_of(counted, images.good) if images.is_labelled else held_out
    return GateScores(held_out, good, scores_of(counted, images.defective), outputs)


class _Counted:
    """Tells progress after each image of a runner."""

    def __init__(self, runner: Runner, total: int, progress: Progress) -> None:
        self._runner, self._total, self._progress, self._done = runner, total, progress, 0

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        outputs = self._runner.infer(batch)
        self._done += len(batch)
        self._progress.update(f"Scoring with {self._runner.engine_name}", self._done, self._total)
        return outputs


def outputs_of(runner: Runner | _Counted, images: NDArray[np.uint8]) -> Outputs:
    """Maps and scores of images, computed one at a time."""
    found = [runner.infer(images[i : i + 1]) for i in range(len(images))]
    return {name: np.concatenate([one[name] for one in found]) for name in ("anomaly_map", "pred_score")}


def scores_of(runner: Runner | _Counted, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores of images, computed one at a time."""
    return np.array([runner.infer(images[i : i + 1])["pred_score"][0] for i in range(len(images))], np.float32)


def judge(
    reference: GateScores,
    engine: GateScores,
    bundle: Bundle,
    own: dict[str, ClassThresholds],
    max_drop: float,
    *,
    is_labelled: bool,
) -> GateRecord:
    """Compute the numbers of the gate.

    Args:
        reference: Scores of the float32 graph.
        engine: Scores of the engine on the same images.
        bundle: Bundle with the float32 graph's thresholds.
        own: Thresholds of the engine.
        max_drop: Allowed drop of the image AUROC.
        is_labelled: Whether the user supplied labelled images.
    """
    both = [np.concatenate([scores.good, scores.defective]) for scores in (reference, engine)]
    return GateRecord(
        judged_by="labelled images" if is_labelled else "pseudo-defects",
        n_good=len(reference.good),
        n_defective=len(reference.defective),
        reference_auroc=image_auroc(reference),
        engine_auroc=image_auroc(engine),
        max_drop=max_drop,
        score_correlation=spearman(*both),
        false_alarm_rate=float(np.mean(engine.held_out > own[POOLED].threshold.value)),
        false_alarm_rate_before=float(np.mean(engine.held_out > bundle.thresholds().threshold.value)),
    )


def time_in_turns(first: Runner, second: Runner, image: Image, runs: int = TIMED_RUNS) -> tuple[float, float]:
    """Median milliseconds per image `(H, W, 3)` or frame `(T, h, w, 3)` of two engines, run alternately so that both see the same load."""
    batch = image[None]
    times: tuple[list[float], list[float]] = ([], [])
    for runner in (first, second):
        runner.infer(batch)
    for _ in range(runs):
        for runner, found in zip((first, second), times, strict=True):
            started = time.perf_counter()
            runner.infer(batch)
            found.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times[0])), float(np.median(times[1]))


def spearman(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman rank correlation of two lists of scores `(N,)`; 0 if one of them is constant."""
    if not all(np.ptp(values) > 0 for values in (first, second)):
        return 0.0
    one, other = (np.argsort(np.argsort(values)) - (len(values) - 1) / 2.0 for values in (first, second))
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def image_auroc(scores: GateScores) -> float:
    """Image AUROC of defective against good images; 0 if a score is not finite."""
    values = np.concatenate([scores.good, scores.defective])
    labels = np.arange(len(values)) >= len(scores.good)
    found = auroc(values, labels) if np.isfinite(values).all() else 0.0
    assert found is not None
    return found
