"""Evaluation of scored images: keys, original resolution, missing masks, means, errors."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.errors import DataError, EngineError
from edgead.evaluation.evaluate import EvaluationResult, ScoredImage, evaluate
from edgead.evaluation.pixel_metrics import aupro
from edgead.imaging import upsample_map
from edgead.prediction import Segmentation

KEYS = {
    *("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "aupro_0.3", "aupro_0.05"),
    *("seg_f1", "seg_f1_best", "region_recall", "marked_good_rate", "n_regions"),
    *("mask_iou", "threshold", "false_alarm_rate", "detection_rate", "n_good", "n_defective", "n_trained_on"),
}


def _mask(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A square in the upper left quarter; a file called empty holds no defect."""
    mask = np.zeros(size, bool)
    mask[: size[0] // 4, : size[1] // 4] = path.name != "empty.png"
    return mask


def _image(score: float, *, defect: str = "good", class_name: str = "nut", mask: str | None = None) -> ScoredImage:
    rng = np.random.default_rng(int(score * 100))
    anomaly_map = rng.random((8, 8)).astype(np.float32)
    anomaly_map[:2, :2] += score
    mask_path = Path(mask) if mask else None
    return ScoredImage(Path("x.png"), class_name, defect, defect != "good", score, anomaly_map, (40, 64), mask_path)


def _evaluate(images: list[ScoredImage], **thresholds: float) -> EvaluationResult:
    return evaluate(images, thresholds or {"nut": 1.0}, _mask, engine="fake-fp32")


GOOD = [_image(s) for s in (0.1, 0.2, 0.3, 1.5)]
BAD = [_image(s, defect=d, mask="m.png") for s, d in ((2.0, "dent"), (3.0, "dent"), (0.5, "scratch"))]


def test_json_has_the_documented_keys() -> None:
    """The JSON is strict, has every documented key, and its numbers are those of the images."""
    content = json.loads(json.dumps(_evaluate(GOOD + BAD).to_json(), allow_nan=False))
    assert content["engine"] == "fake-fp32"
    assert set(content["classes"]) == {"nut"}
    metrics = content["classes"]["nut"]
    assert set(metrics) >= KEYS | {"marked_good_interval"}
    assert set(content["mean"]) >= KEYS
    assert metrics["image_auroc"] == pytest.approx(11 / 12)
    assert (metrics["false_alarm_rate"], metrics["detection_rate"]) == (0.25, pytest.approx(2 / 3))
    assert (metrics["threshold"], metrics["n_good"], metrics["n_defective"]) == (1.0, 4, 3)
    assert metrics["false_alarm_interval"][0] < 0.25 < metrics["false_alarm_interval"][1]


def test_roc_at_the_observed_false_alarms() -> None:
    """The ROC point is the most that any threshold finds with no more false alarms, by trying every threshold."""
    result = _evaluate(GOOD + BAD).classes["nut"]
    alarms = result.false_alarms.k
    thresholds = [image.pred_score for image in GOOD + BAD] + [-1.0]
    allowed = [t for t in thresholds if sum(image.pred_score > t for image in GOOD) <= alarms]
    best = max(sum(image.pred_score > t for image in BAD) for t in allowed)
    assert result.roc_point is not None
    assert result.roc_point.detections.k == best > 0
    assert sum(image.pred_score > result.roc_point.threshold for image in GOOD) <= alarms
    content = result.to_json()["roc_at_these_false_alarms"]
    assert content == {"detection_rate": best / len(BAD), "threshold": result.roc_point.threshold}
    assert _evaluate(GOOD).classes["nut"].roc_point is None


def test_images_of_the_training_are_no_evidence_of_false_alarms() -> None:
    """The false-alarm rate and its interval are over the good images that the bundle was not trained on."""
    seen = [dataclasses.replace(image, was_trained_on=image.pred_score <= 1.0) for image in GOOD]
    metrics = _evaluate(seen + BAD).to_json()["classes"]["nut"]
    assert (metrics["n_trained_on"], metrics["n_good"], metrics["false_alarm_rate"]) == (3, 4, 1.0)
    assert metrics["image_auroc"] == pytest.approx(11 / 12), "every other metric has them"
    assert metrics["false_alarm_interval"] == pytest.approx((0.025, 1.0))
    nothing = _evaluate([dataclasses.replace(image, was_trained_on=True) for image in GOOD] + BAD)
    assert nothing.mean.false_alarm_rate is None


def test_each_defect_is_ranked_against_all_good_images() -> None:
    """Each kind of defect has its count, its detections, and AUROC against the good images of the class."""
    defects = _evaluate(GOOD + BAD).to_json()["classes"]["nut"]["defects"]
    assert (defects["dent"]["n"], defects["dent"]["detection_rate"], defects["dent"]["image_auroc"]) == (2, 1.0, 1.0)
    assert (defects["scratch"]["n"], defects["scratch"]["detection_rate"]) == (1, 0.0)
    assert defects["scratch"]["image_auroc"] == 0.75


def test_pixel_metrics_are_at_original_resolution() -> None:
    """AUPRO equals that of maps upsampled to the original size with masks as they are."""
    images = GOOD + BAD
    maps = [upsample_map(image.anomaly_map, image.size) for image in images]
    masks = [_mask(i.mask, i.size) if i.mask else np.zeros(i.size, bool) for i in images]
    metrics = _evaluate(images).classes["nut"].metrics
    for found, limit in ((metrics.aupro_0_3, 0.3), (metrics.aupro_0_05, 0.05)):
        assert found == pytest.approx(aupro(maps, masks, limit), abs=1e-4)
    assert metrics.pixel_auroc is not None
    assert metrics.pixel_auroc > 0.9


@pytest.mark.parametrize("mask", [None, "empty.png"])
def test_defects_without_a_mask_are_left_out_and_counted(mask: str | None) -> None:
    """A defective image without mask, or with an empty one, changes no pixel metric but is counted."""
    blind = _image(9.0, defect="stain", mask=mask)
    before, after = _evaluate(GOOD + BAD).classes["nut"].metrics, _evaluate([*GOOD, *BAD, blind]).classes["nut"].metrics
    assert (before.n_without_mask, after.n_without_mask) == (0, 1)
    assert after.pixel_auroc == pytest.approx(before.pixel_auroc, abs=1e-6)
    assert after.aupro_0_05 == pytest.approx(before.aupro_0_05, abs=1e-4)
    assert after.n_defective == 4


@pytest.mark.parametrize("mask", [None, "empty.png"])
def test_without_masks_pixel_metrics_are_null(mask: str | None) -> None:
    """Without any usable mask the pixel metrics are None, the image metrics stay."""
    metrics = _evaluate([*GOOD, _image(2.0, defect="dent", mask=mask)]).classes["nut"].metrics
    assert (metrics.pixel_auroc, metrics.pixel_ap, metrics.aupro_0_3, metrics.aupro_0_05) == (None,) * 4
    assert metrics.image_auroc == 1.0


def test_mask_iou_by_hand() -> None:
    """Mask IoU is over all counted images, good ones included."""
    marked = np.zeros((8, 8), np.float32)
    marked[:2, :4] = 1.0  # 10 x 32 px of 40 x 64; the mask is 10 x 16
    stray = np.zeros((8, 8), np.float32)
    stray[4:, 4:] = 1.0  # 20 x 32 px
    bad = replace(BAD[0], segmentation=Segmentation(marked, 0.5))
    blind = replace(bad, mask=None)
    silent = replace(GOOD[0], segmentation=Segmentation(marked, 1.0))
    alarmed = replace(GOOD[1], segmentation=Segmentation(stray, 0.5))
    marks = [np.count_nonzero(Segmentation(m, 0.5).mask_at((40, 64))) for m in (marked, stray)]
    assert 300 <= marks[0] <= 340
    assert 600 <= marks[1] <= 640
    assert _evaluate([bad, silent]).mean.mask_iou == pytest.approx(160 / marks[0])
    assert _evaluate([bad, blind, silent, alarmed]).mean.mask_iou == pytest.approx(160 / sum(marks))
    assert _evaluate([blind, silent]).mean.mask_iou is None, "no mask"
    assert _evaluate([bad, GOOD[0]]).mean.mask_iou is None, "an image without segmentation"


def test_good_images_alone_give_a_false_alarm_rate() -> None:
    """A test of good images only has a false-alarm rate and null for everything that needs defects."""
    content = _evaluate(GOOD).to_json()["classes"]["nut"]
    assert content["false_alarm_rate"] == 0.25
    assert {content[key] for key in ("image_auroc", "image_ap", "image_f1max", "detection_rate")} == {None}
    assert content["detection_interval"] is None


def test_a_score_at_the_threshold_is_no_alarm() -> None:
    """The rule is `score > threshold`, as the conformal bound needs it."""
    assert _evaluate(GOOD, nut=1.5).classes["nut"].metrics.false_alarm_rate == 0.0
    assert _evaluate(GOOD, nut=1.4999).classes["nut"].metrics.false_alarm_rate == 0.25


def test_mean_counts_each_class_once_and_skips_unknown() -> None:
    """The mean is over classes, not images; a class without a number is left out; counts are sums."""
    other = [replace(image, class_name="bolt", mask=None) for image in [*GOOD[:1], *BAD[:2]]]
    result = _evaluate(GOOD + BAD + other, nut=1.0, bolt=0.05)
    nut, bolt = result.classes["nut"].metrics, result.classes["bolt"].metrics
    assert result.mean.false_alarm_rate == pytest.approx((nut.false_alarm_rate + bolt.false_alarm_rate) / 2)
    assert result.mean.pixel_auroc == nut.pixel_auroc
    assert (result.mean.n_good, result.mean.threshold) == (5, None)


def test_pooled_threshold_stands_in_for_an_unknown_class() -> None:
    """A class without its own threshold takes that of `all`; without that too, the error lists the known classes."""
    assert _evaluate(GOOD, all=0.15).classes["nut"].metrics.threshold == 0.15
    with pytest.raises(DataError, match="no threshold for class 'nut'; it has: bolt"):
        _evaluate(GOOD, bolt=1.0)


def test_broken_scores_are_the_engine_s_fault() -> None:
    """NaN in a score or map stops the evaluation with the image's name instead of a wrong number."""
    with pytest.raises(EngineError, match=r"x\.png"):
        _evaluate([replace(GOOD[0], pred_score=float("nan"))])
    with pytest.raises(EngineError, match="gave a score that is not finite"):
        _evaluate([replace(GOOD[0], anomaly_map=np.full((2, 2), np.inf, np.float32))])
    with pytest.raises(DataError, match="no images"):
        _evaluate([])
