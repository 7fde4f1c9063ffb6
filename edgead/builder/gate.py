"""Does an engine of lower precision still tell good from defective as the float32 graph does?"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.engines.fingerprint import GateRecord
from edgead.evaluation.metrics import auroc
from edgead.imaging import Image
from edgead.manifest import POOLED, ClassThresholds
from edgead.runner import Runner

TIMED_RUNS = 15


@dataclass(frozen=True)
class GateImages:
    """What an engine is judged by, `(N, H, W, 3)` uint8 RGB each.

    Attributes:
        held_out: Good images that training did not see.
        classes: Of each of them.
        good, defective: Labelled images; the held-out ones and pseudo-defects made from them where the user gave none.
        is_labelled: Whether the user gave them.
    """

    held_out: NDArray[np.uint8]
    classes: list[str]
    good: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    is_labelled: bool


@dataclass(frozen=True)
class GateScores:
    """Scores `(N,)` of the images of a gate."""

    held_out: NDArray[np.float32]
    good: NDArray[np.float32]
    defective: NDArray[np.float32]


def score_images(runner: Runner, images: GateImages) -> GateScores:
    """Score everything that a gate looks at."""
    held_out = scores_of(runner, images.held_out)
    good = scores_of(runner, images.good) if images.is_labelled else held_out
    return GateScores(held_out, good, scores_of(runner, images.defective))


def scores_of(runner: Runner, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores of images, one at a time."""
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
    """The numbers of the gate.

    Args:
        reference: Of the float32 graph.
        engine: Of the engine, of the same images.
        bundle: With the float32 graph's thresholds.
        own: The engine's thresholds.
        max_drop: Allowed drop of the image AUROC.
        is_labelled: Whether the user gave labelled images.
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
    """Median milliseconds for one image `(H, W, 3)` of two engines, run by turns so that both see the same load."""
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
    """Rank correlation of two lists of scores `(N,)`; 0 where one of them is constant."""
    if not all(np.ptp(values) > 0 for values in (first, second)):
        return 0.0
    one, other = (np.argsort(np.argsort(values)) - (len(values) - 1) / 2.0 for values in (first, second))
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def image_auroc(scores: GateScores) -> float:
    """Of the defective images against the good ones; 0 where a score is not finite."""
    values = np.concatenate([scores.good, scores.defective])
    labels = np.arange(len(values)) >= len(scores.good)
    found = auroc(values, labels) if np.isfinite(values).all() else 0.0
    assert found is not None
    return found
