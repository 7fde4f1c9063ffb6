"""`edgead eval`: how well a bundle's engine does on labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.data.reader import read_image, read_mask
from edgead.errors import ConfigError, DataError
from edgead.evaluation.alignment import Alignment, alignment_of
from edgead.evaluation.evaluate import EvaluationResult, ScoredImage, evaluate
from edgead.evaluation.report import Report, write_report
from edgead.evaluation.segmentation import NfaSegmenter, SegmentationKind, segmenter_of
from edgead.evaluation.threshold import at_rate
from edgead.manifest import POOLED, ClassThresholds
from edgead.prediction import Segmentation
from edgead.progress import Progress
from edgead.runner import Outputs, Runner

ClassMode = Literal["given", "predicted", "none"]
REPORT_FILE = "report.html"
SEGMENTATIONS: dict[SegmentationKind, str] = {
    "threshold": "map above the pixel threshold",
    "nfa": "regions by their number of false detections",
}
BATCH = 4
ALIGNMENT_BATCH = 8


@dataclass(frozen=True)
class Evaluation:
    """The numbers, and the report if one was written.

    Attributes:
        result: Per class and mean.
        segmentation: Which automatic segmentation `mask_iou` is of.
        report: The HTML page.
        broken: Images that could not be read, with the reason.
        class_mode: What the model was told about each image's class; None for a model that cannot be told.
        class_accuracy: Share of the images whose class the model predicts right; None as above.
        alignment: Correlation of NLL and latent norm, where it was asked for.
    """

    result: EvaluationResult
    segmentation: SegmentationKind
    report: Path | None
    broken: tuple[tuple[Path, str], ...]
    class_mode: ClassMode | None = None
    class_accuracy: float | None = None
    alignment: Alignment | None = None

    def to_json(self) -> dict[str, Any]:
        """As `EvaluationResult.to_json`, with the segmentation, and class mode and accuracy where there are classes."""
        values = {**self.result.to_json(), "segmentation": self.segmentation}
        if self.class_mode is not None:
            values |= {"class_mode": self.class_mode, "class_accuracy": self.class_accuracy}
        if self.alignment is not None:
            values["alignment"] = self.alignment.to_json()
        return values


def evaluate_bundle(
    bundle: Bundle,
    runner: Runner,
    data: Path,
    progress: Progress,
    *,
    false_alarm_rate: float | None,
    report: Path | None,
    class_mode: ClassMode = "none",
    alignment: bool = False,
    segmentation: SegmentationKind | None = None,
) -> Evaluation:
    """Score every test image of a data set.

    Args:
        bundle: Verified.
        runner: An open engine of it.
        data: A data set with a test part, or a folder with `good` and defect folders.
        progress: Gets notes and progress.
        false_alarm_rate: Use the threshold for this rate instead of the shipped one.
        report: Folder for the HTML report.
        class_mode: For a model that knows classes: `given` tells it the class of each image and uses that class's
            threshold, `predicted` those that the model itself finds first, `none` leaves it open and uses the
            threshold of an unknown class. Other models use each class's threshold.
        alignment: Also run the torch model, and correlate its likelihood with its latent norm; needs torch.
        segmentation: Which one is measured; None takes the bundle's.

    Raises:
        ConfigError: If the bundle has no such segmentation.
        DataError: If there is no labelled test image that can be read.
    """
    dataset = find_dataset(data, need_train=False)
    progress.note(dataset.description)
    if not dataset.test:
        raise DataError(
            f"{data} has no labelled test images (seen: {dataset.layout}).",
            hint="Give a folder with test/good and test/<defect>, or with good/ and <defect>/.",
        )
    thresholds = {
        name: record if false_alarm_rate is None else at_rate(record, false_alarm_rate)
        for name, record in bundle.manifest.thresholds.items()
    }
    kind = _segmentation_kind(bundle, segmentation)
    knows_classes = bundle.manifest.graph.class_bias is not None
    values = {name: record.threshold.value for name, record in thresholds.items()}
    nfa = bundle.manifest.nfa if kind == "nfa" else None
    segmenters = {name: segmenter_of(nfa, name, false_alarm_rate) for name in nfa.thresholds} if nfa else {}
    scorer = _Scorer(bundle, runner, class_mode if knows_classes else None, thresholds, segmenters)
    images, broken = _score(scorer, dataset.test, progress)
    for path, reason in broken[:5]:
        progress.note(f"Left out {path}: {reason}")
    if not images:
        raise DataError(f"None of the {len(dataset.test)} test images in {data} can be read.")
    if knows_classes and class_mode == "none":
        values = {POOLED: values[POOLED]}
    result = evaluate(images, values, read_mask, engine=runner.engine_name)
    page = None
    if report is not None:
        page = report / REPORT_FILE
        write_report(page, _report(bundle, runner, data, result, images, thresholds, kind))
    aligned = measure_alignment(bundle, data, progress) if alignment else None
    accuracy = scorer.n_right / len(images) if knows_classes else None
    return Evaluation(result, kind, page, tuple(broken), class_mode if knows_classes else None, accuracy, aligned)


def measure_alignment(bundle: Bundle, data: Path, progress: Progress) -> Alignment:
    """Run the unfolded torch model of a bundle over the test images of a data set, in float32.

    Raises:
        ConfigError: If the model's base distribution is not normal, so that there is no such norm (hgad).
        DataError: If there are fewer than two test images that can be read.
        MissingDependencyError: Without torch.
    """
    import torch

    from edgead.models.zoo import load_model

    model = load_model(bundle)
    if not model.has_normal_base:
        raise ConfigError(
            f"{bundle.manifest.model} has a mixture as its base: its likelihood is not a function of a latent norm.",
            hint="Leave --alignment out.",
        )
    samples = find_dataset(data, need_train=False).test
    white_level = bundle.manifest.preprocessing.white_level
    pairs: list[NDArray[np.float64]] = []
    for start in range(0, len(samples), ALIGNMENT_BATCH):
        images = []
        for sample in samples[start : start + ALIGNMENT_BATCH]:
            try:
                images.append(bundle.preprocess(read_image(sample.path, white_level)))
            except DataError:
                continue
        if images:
            with torch.inference_mode():
                values = model.nll_and_norm(torch.from_numpy(np.stack(images)))
            pairs.append(torch.stack(values).double().numpy())
        progress.update("Alignment", min(start + ALIGNMENT_BATCH, len(samples)), len(samples))
    if sum(pair.shape[1] for pair in pairs) < 2:
        raise DataError(f"{data} has fewer than two labelled test images that can be read.")
    nll, norm = np.concatenate(pairs, axis=1)
    dimensions = sum(level.channels * level.size[0] * level.size[1] for level in model.levels)
    return alignment_of(nll, norm, dimensions=dimensions, is_uniform=model.flow.is_uniform)


@dataclass
class _Scorer:
    """Runs the engine as the class mode says.

    Attributes:
        bundle: Of the engine.
        runner: Open.
        class_mode: None for a model that cannot be told the class.
        thresholds: Per class, and `all`.
        segmenters: Likewise, where the segmentation is not that of the pixel threshold.
        n_right: Images whose class was predicted right so far.
    """

    bundle: Bundle
    runner: Runner
    class_mode: ClassMode | None
    thresholds: Mapping[str, ClassThresholds]
    segmenters: Mapping[str, NfaSegmenter]
    n_right: int = 0

    def score(self, batch: NDArray[np.uint8], class_names: Sequence[str]) -> tuple[Outputs, list[str]]:
        """Outputs of a batch, and the name of the class whose thresholds judge each image."""
        if self.class_mode is None:
            return self.runner.infer(batch), [name if name in self.thresholds else POOLED for name in class_names]
        if self.class_mode == "given":
            outputs = self.runner.infer(batch, self.bundle.class_bias(class_names))
        else:
            outputs = self.runner.infer(batch)
        classes = self.bundle.manifest.classes
        predicted = [classes[int(index)] for index in outputs["class_score"].argmax(axis=1)]
        self.n_right += sum(a == b for a, b in zip(predicted, class_names, strict=True))
        if self.class_mode == "predicted":
            return self.runner.infer(batch, self.bundle.class_bias(predicted)), predicted
        return outputs, list(class_names) if self.class_mode == "given" else [POOLED] * len(batch)

    def own_threshold(self, name: str) -> float | None:
        """The image threshold of a class, where it need not be that of the image's class."""
        return self.thresholds[name].threshold.value if self.class_mode == "predicted" else None

    def segmentation(self, outputs: Outputs, index: int, name: str) -> Segmentation:
        """What is marked automatically on an image of the batch."""
        if self.segmenters:
            return self.segmenters[name].segment(outputs, index)
        return Segmentation(outputs["anomaly_map"][index].copy(), self.thresholds[name].pixel_threshold.value)


def _segmentation_kind(bundle: Bundle, wanted: SegmentationKind | None) -> SegmentationKind:
    """The segmentation to measure: the one that was asked for, else the bundle's own."""
    has_nfa = bundle.manifest.nfa is not None
    if wanted == "nfa" and not has_nfa:
        raise ConfigError(
            f"{bundle.path} has no segmentation by number of false detections.",
            hint="Train with --set model.segmentation=nfa, or measure --segmentation threshold.",
        )
    return wanted or ("nfa" if has_nfa else "threshold")


def _score(
    scorer: _Scorer, samples: tuple[Sample, ...], progress: Progress
) -> tuple[list[ScoredImage], list[tuple[Path, str]]]:
    bundle = scorer.bundle
    white_level = bundle.manifest.preprocessing.white_level
    images: list[ScoredImage] = []
    broken: list[tuple[Path, str]] = []
    for start in range(0, len(samples), BATCH):
        read = []
        for sample in samples[start : start + BATCH]:
            try:
                picture = read_image(sample.path, white_level)
            except DataError as error:
                broken.append((sample.path, error.message))
                continue
            read.append((sample, bundle.preprocess(picture), (picture.shape[0], picture.shape[1])))
        if read:
            batch = np.stack([prepared for _, prepared, _ in read])
            outputs, judged_by = scorer.score(batch, [sample.class_name for sample, _, _ in read])
            for i, (sample, _, size) in enumerate(read):
                images.append(
                    ScoredImage(
                        image_path=sample.path,
                        class_name=sample.class_name,
                        defect=sample.defect,
                        gt_label=sample.gt_label,
                        pred_score=float(outputs["pred_score"][i]),
                        anomaly_map=outputs["anomaly_map"][i].copy(),
                        size=size,
                        mask_path=sample.mask_path,
                        own_threshold=scorer.own_threshold(judged_by[i]),
                        segmentation=scorer.segmentation(outputs, i, judged_by[i]),
                    )
                )
        progress.update("Scoring", min(start + BATCH, len(samples)), len(samples))
    return images, broken


def _report(
    bundle: Bundle,
    runner: Runner,
    data: Path,
    result: EvaluationResult,
    images: list[ScoredImage],
    thresholds: dict[str, ClassThresholds],
    segmentation: SegmentationKind,
) -> Report:
    manifest = bundle.manifest
    facts = {
        "Bundle": str(bundle.path),
        "Model": f"{manifest.model}, trained {manifest.provenance.created_at}",
        "Engine": runner.engine_name,
        "Data": str(data),
        "Marked regions": SEGMENTATIONS[segmentation],
        "Training images": str(manifest.provenance.n_images.get("fit", 0)),
        "edgead": manifest.edgead_version,
    }
    read = partial(read_image, white_level=manifest.preprocessing.white_level)
    return Report(f"Evaluation of {', '.join(result.classes)}", facts, result, images, thresholds, read, read_mask)
