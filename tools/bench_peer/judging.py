"""The same metrics for both sides: edgead's evaluation on stored scores and maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgead.data.dataset import Sample
from edgead.data.masks import read_mask
from edgead.data.reader import read_image
from edgead.evaluation.evaluate import ScoredImage, evaluate
from edgead.evaluation.metrics import auroc
from edgead.prediction import Segmentation

KEYS = ("image_auroc", "pixel_auroc", "aupro_0.3", "seg_f1", "seg_f1_best")


def judge(test: Sequence[Sample], raw: Path, thresholds: Sequence[float]) -> dict[str, Any]:
    """Metrics of a peer from its raw scores and maps.

    Args:
        test: Test images in the order of the scores.
        raw: File with `scores` (N,) and `maps` (N, h, w), before clipping.
        thresholds: Its automatic thresholds for images and pixels.
    """
    with np.load(raw) as stored:
        scores, maps = stored["scores"], stored["maps"]
    image_threshold, pixel_threshold = thresholds
    images = []
    for sample, score, map_ in zip(test, scores, maps, strict=True):
        height, width = read_image(sample.path).shape[:2]
        images.append(
            ScoredImage(
                image_path=sample.path,
                class_name="part",
                defect=sample.defect,
                gt_label=sample.gt_label,
                pred_score=float(score),
                anomaly_map=map_,
                size=(height, width),
                mask=sample.mask,
                segmentation=Segmentation(map_, pixel_threshold),
            )
        )
    values = evaluate(images, {"part": image_threshold}, read_mask, engine="peer").mean.to_json()
    return {key: values[key] for key in KEYS} | verdicts(test, [float(score) > image_threshold for score in scores])


def judge_own(values: dict[str, Any]) -> dict[str, Any]:
    """The same keys from the JSON of `edgead eval`."""
    mean = values["mean"]
    found = {key: mean[key] for key in KEYS}
    n_defective, n_good = mean["n_defective"], mean["n_good"] - mean["n_trained_on"]
    return found | {
        "found": round((mean["detection_rate"] or 0.0) * n_defective),
        "n_defective": n_defective,
        "false_alarms": round((mean["false_alarm_rate"] or 0.0) * n_good),
        "n_good": n_good,
    }


def verdicts(test: Sequence[Sample], labels: Sequence[bool]) -> dict[str, Any]:
    """Defective images found and false alarms, from verdicts."""
    found = sum(label for sample, label in zip(test, labels, strict=True) if sample.gt_label)
    false = sum(label for sample, label in zip(test, labels, strict=True) if not sample.gt_label)
    n_defective = sum(sample.gt_label for sample in test)
    return {"found": found, "n_defective": n_defective, "false_alarms": false, "n_good": len(test) - n_defective}


def image_auroc(test: Sequence[Sample], scores: Sequence[float]) -> float | None:
    """AUROC of image scores."""
    return auroc(np.array(scores), np.array([sample.gt_label for sample in test]))
