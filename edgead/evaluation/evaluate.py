"""Metrics of `edgead eval` from scored test images, per class and averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.errors import DataError, EngineError
from edgead.evaluation.mask_metrics import MaskCounts
from edgead.evaluation.metrics import ScoreCounts, counts_from_scores
from edgead.evaluation.pixel_metrics import PixelAccumulator, edges_from_maps
from edgead.evaluation.threshold import binomial_interval
from edgead.imaging import upsample_map
from edgead.manifest import POOLED
from edgead.prediction import Segmentation

MaskReader = Callable[[Any, tuple[int, int]], NDArray[np.bool_]]


@dataclass(frozen=True)
class ScoredImage:
    """A test image with the engine's outputs.

    Attributes:
        image_path: Image file.
        class_name: Class of the image, as in the bundle.
        defect: Kind of defect, as named by the data set; meaningless for good images.
        gt_label: Whether the image is defective.
        pred_score: Image score from the engine, raw units.
        anomaly_map: Anomaly map `(h, w)`, float32, at its own resolution, raw units.
        size: Original `(height, width)` of the image in pixels.
        mask: Ground truth of a defective image, in the form that the reader of masks takes; None if there is none.
        own_threshold: Image threshold for this image, if it differs from that of its class.
        segmentation: Automatic segmentation; without it, the metrics of marked pixels are undefined.
        was_trained_on: Whether the bundle's training used this file; such a good image is no evidence of false alarms.
    """

    image_path: Path
    class_name: str
    defect: str
    gt_label: bool
    pred_score: float
    anomaly_map: NDArray[np.float32]
    size: tuple[int, int]
    mask: Any | None
    own_threshold: float | None = None
    segmentation: Segmentation | None = None
    was_trained_on: bool = False


_interval = cache(binomial_interval)


@dataclass(frozen=True)
class Rate:
    """Rate of `k` events in `n` images."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Clopper-Pearson interval."""
        return _interval(self.k, self.n) if self.n else None


@dataclass(frozen=True)
class Metrics:
    """Metrics of one class, or the mean over classes; None where undefined.

    Pixel metrics are over the images with known ground truth: all good images, and defective images with a mask that
    is not empty. Maps are upsampled to the original image; masks are never resized. `mask_iou`, `seg_f1` (pixel F1) and
    `region_recall` (share of true regions with any marked pixel) compare the automatic segmentation with the masks;
    `seg_f1_best` is the F1 of the best threshold of the map, chosen with the masks, to compare `seg_f1` with.
    `marked_good_rate` is the share of good images with any marked pixel. It and the false-alarm rate leave out good images
    that the bundle was trained on (`n_trained_on`); every other metric has them. In the mean, each class counts once,
    classes with an undefined metric are left out, the threshold is given only for a single class, and counts are sums.
    """

    image_auroc: float | None
    image_ap: float | None
    image_f1max: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    aupro_0_3: float | None
    aupro_0_05: float | None
    mask_iou: float | None
    seg_f1: float | None
    seg_f1_best: float | None
    region_recall: float | None
    marked_good_rate: float | None
    threshold: float | None
    false_alarm_rate: float | None
    detection_rate: float | None
    n_good: int
    n_defective: int
    n_without_mask: int
    n_trained_on: int
    n_regions: int

    def to_json(self) -> dict[str, float | int | None]:
        """Metrics under the stable keys of `eval --json`."""
        return {METRIC_KEYS.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}


METRIC_KEYS = {"aupro_0_3": "aupro_0.3", "aupro_0_05": "aupro_0.05"}


@dataclass(frozen=True)
class DefectResult:
    """Results of one kind of defect: detections at the threshold, and image AUROC against the good images."""

    detected: Rate
    image_auroc: float | None


@dataclass(frozen=True)
class RocPoint:
    """Point of the ROC with the observed number of false alarms: the most that any threshold finds with no more of them.

    It is found on the test images themselves, so it says how good the order of the scores is, and is no threshold to use.

    Attributes:
        threshold: Lowest threshold with no more false alarms.
        detections: Defective images above it.
    """

    threshold: float
    detections: Rate


@dataclass(frozen=True)
class ClassResult:
    """Results of one class: metrics, the counts behind the rates, each kind of defect, and what the ROC would allow."""

    metrics: Metrics
    false_alarms: Rate
    detections: Rate
    marked_good: Rate | None
    defects: dict[str, DefectResult]
    roc_point: RocPoint | None = None

    def to_json(self) -> dict[str, Any]:
        """Metrics, 95 % intervals of the rates, and kinds of defect."""
        return {
            **self.metrics.to_json(),
            "false_alarm_interval": self.false_alarms.interval,
            "detection_interval": self.detections.interval,
            "marked_good_interval": None if self.marked_good is None else self.marked_good.interval,
            "roc_at_these_false_alarms": None
            if self.roc_point is None
            else {"detection_rate": self.roc_point.detections.value, "threshold": self.roc_point.threshold},
            "defects": {
                name: {
                    "n": defect.detected.n,
                    "detection_rate": defect.detected.value,
                    "detection_interval": defect.detected.interval,
                    "image_auroc": defect.image_auroc,
                }
                for name, defect in self.defects.items()
            },
        }


@dataclass(frozen=True)
class EvaluationResult:
    """Results of `edgead eval`."""

    engine: str
    classes: dict[str, ClassResult]
    mean: Metrics

    def to_json(self) -> dict[str, Any]:
        """Results under the documented JSON keys; fractions are 0..1, undefined metrics null."""
        classes = {name: result.to_json() for name, result in self.classes.items()}
        return {"engine": self.engine, "classes": classes, "mean": self.mean.to_json()}


def evaluate(
    images: Sequence[ScoredImage], thresholds: Mapping[str, float], read_mask: MaskReader, *, engine: str
) -> EvaluationResult:
    """Compute the metrics of an engine on labelled images.

    Args:
        images: All test images, with low-resolution maps; masks are read one at a time.
        thresholds: Image threshold per class; `all` is the fallback for other classes.
        read_mask: Function that reads the mask `(H, W)` of `ScoredImage.mask` and an original size.
        engine: Engine name for the report, `<backend>-<precision>`.

    Raises:
        DataError: If there are no images, or a class has no threshold.
        EngineError: If a score or map is not finite.
    """
    if not images:
        raise DataError("There are no images to evaluate.", hint="Check the test folder of the data set.")
    by_class: dict[str, list[ScoredImage]] = {}
    require_finite(images, engine)
    for image in images:
        by_class.setdefault(image.class_name, []).append(image)
    classes = {
        name: _evaluate_class(members, _threshold_of(name, thresholds), read_mask)
        for name, members in sorted(by_class.items())
    }
    return EvaluationResult(engine, classes, _mean([result.metrics for result in classes.values()]))


def require_finite(images: Sequence[ScoredImage], engine: str) -> None:
    """Refuse scores and maps that are not finite.

    Raises:
        EngineError: If a score or map is not finite.
    """
    for image in images:
        if not (np.isfinite(image.pred_score) and np.isfinite(image.anomaly_map).all()):
            raise EngineError(
                f"{engine} gave a score that is not finite for {image.image_path}.",
                hint="Rebuild the engine at a higher precision, for example `edgead build-engine --fp32`.",
            )


def image_counts(images: Sequence[ScoredImage]) -> ScoreCounts:
    """Count labels per distinct image score, for image metrics and curves."""
    return counts_from_scores([image.pred_score for image in images], [image.gt_label for image in images])


def _threshold_of(class_name: str, thresholds: Mapping[str, float]) -> float:
    if class_name in thresholds:
        return thresholds[class_name]
    if POOLED in thresholds:
        return thresholds[POOLED]
    raise DataError(
        f"The bundle has no threshold for class {class_name!r}; it has: {', '.join(sorted(thresholds))}.",
        hint="Evaluate on the classes that the bundle was trained on.",
    )


def _evaluate_class(images: list[ScoredImage], threshold: float, read_mask: MaskReader) -> ClassResult:
    good = [image for image in images if not image.gt_label]
    defective = [image for image in images if image.gt_label]
    counts = image_counts(images)
    f1 = counts.f1_max()
    pixels, marks, n_without_mask = _count_pixels(good, defective, read_mask)
    pixel_counts = pixels.counts() if pixels else None
    best = pixel_counts.f1_max() if pixel_counts else None
    marked_good = None if marks.good_marked is None else Rate(*marks.good_marked)
    unseen = [image for image in good if not image.was_trained_on]
    false_alarms, detections = _alarms(unseen, threshold), _alarms(defective, threshold)
    metrics = Metrics(
        image_auroc=counts.auroc(),
        image_ap=counts.average_precision(),
        image_f1max=f1[0] if f1 else None,
        pixel_auroc=pixel_counts.auroc() if pixel_counts else None,
        pixel_ap=pixel_counts.average_precision() if pixel_counts else None,
        aupro_0_3=pixels.aupro(0.3) if pixels else None,
        aupro_0_05=pixels.aupro(0.05) if pixels else None,
        mask_iou=marks.iou,
        seg_f1=marks.f1,
        seg_f1_best=best[0] if best else None,
        region_recall=marks.region_recall,
        marked_good_rate=marked_good.value if marked_good else None,
        threshold=threshold,
        false_alarm_rate=false_alarms.value,
        detection_rate=detections.value,
        n_good=len(good),
        n_defective=len(defective),
        n_without_mask=n_without_mask,
        n_trained_on=len(good) - len(unseen),
        n_regions=marks.n_regions,
    )
    kinds = sorted({image.defect for image in defective})
    defects = {kind: _defect_result(kind, good, defective, threshold) for kind in kinds}
    return ClassResult(
        metrics, false_alarms, detections, marked_good, defects, _roc_point(unseen, defective, false_alarms.k)
    )


def _roc_point(good: list[ScoredImage], defective: list[ScoredImage], n_alarms: int) -> RocPoint | None:
    """Most detections of any threshold with at most `n_alarms` false alarms; None without good or defective images."""
    if not good or not defective:
        return None
    scores = sorted((image.pred_score for image in good), reverse=True)
    # a threshold at a good score lets that image pass, as every comparison with a threshold does
    limit = scores[n_alarms] if n_alarms < len(scores) else min(image.pred_score for image in [*good, *defective]) - 1.0
    return RocPoint(limit, Rate(sum(image.pred_score > limit for image in defective), len(defective)))


def _defect_result(kind: str, good: list[ScoredImage], defective: list[ScoredImage], threshold: float) -> DefectResult:
    members = [image for image in defective if image.defect == kind]
    return DefectResult(_alarms(members, threshold), image_counts([*good, *members]).auroc())


def _alarms(images: Sequence[ScoredImage], threshold: float) -> Rate:
    limits = (threshold if image.own_threshold is None else image.own_threshold for image in images)
    return Rate(sum(image.pred_score > limit for image, limit in zip(images, limits, strict=True)), len(images))


def _count_pixels(
    good: list[ScoredImage], defective: list[ScoredImage], read_mask: MaskReader
) -> tuple[PixelAccumulator | None, MaskCounts, int]:
    """Fill the accumulators, and count the defective images whose mask is missing or empty.

    An empty mask of a defective image means that its ground truth is unknown; its pixels do not count as good. Without any
    mask there is no accumulator of scores.
    """
    masked = [image for image in defective if image.mask is not None]
    pixels = PixelAccumulator(edges_from_maps(image.anomaly_map for image in [*good, *masked])) if masked else None
    marks = MaskCounts()
    n_seen = 0
    for image in masked:
        mask = read_mask(image.mask, image.size)
        if mask.any():
            assert pixels is not None
            pixels.add(upsample_map(image.anomaly_map, image.size), mask)
            marks.add_defective(image.segmentation, mask)
            n_seen += 1
    if n_seen == 0:
        pixels = None
    for image in good:
        if pixels is not None:
            pixels.add(upsample_map(image.anomaly_map, image.size), np.zeros(image.size, bool))
        marks.add_good(image.segmentation, image.size, counts_as_good=not image.was_trained_on)
    return pixels, marks, len(defective) - n_seen


def _mean(parts: list[Metrics]) -> Metrics:
    values: dict[str, Any] = {}
    for field in fields(Metrics):
        column = [getattr(part, field.name) for part in parts]
        known = [value for value in column if value is not None]
        if field.name.startswith("n_"):
            values[field.name] = sum(column)
        elif field.name == "threshold":
            values[field.name] = column[0] if len(parts) == 1 else None
        else:
            values[field.name] = sum(known) / len(known) if known else None
    return Metrics(**values)
