"""`edgead eval`: accuracy of a bundle's engine on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.aligner import PartNotFoundError
from edgead.bundle import Bundle
from edgead.commands.evaluation_report import report_of
from edgead.commands.robustness import RobustnessSetting, measure_robustness
from edgead.commands.scored_images import ClassMode, ImageScorer, score_images, without_known_defects
from edgead.commands.training.requirements import require_torch
from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.dataset import Sample
from edgead.data.mask_check import check_masks
from edgead.data.masks import read_mask
from edgead.data.reader import read_image
from edgead.errors import ConfigError, DataError
from edgead.evaluation.alignment import Alignment, alignment_of
from edgead.evaluation.evaluate import EvaluationResult, Metrics, ScoredImage, evaluate
from edgead.evaluation.marking import kind_of, marking_at
from edgead.evaluation.metric_columns import tables_of
from edgead.evaluation.report import write_report
from edgead.evaluation.robustness import Robustness
from edgead.evaluation.segmentation import SegmentationKind
from edgead.evaluation.threshold import at_rate
from edgead.imaging import Image
from edgead.manifest import POOLED
from edgead.pose import UNMOVED, Pose
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.stream.likeness import LikenessCheck

if TYPE_CHECKING:
    from edgead.models.detector import Detector

REPORT_FILE = "report.html"
ALIGNMENT_BATCH = 8
NO_ROLES = FolderRoles()


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation, with the report if one was written.

    Attributes:
        result: Metrics per class and their mean.
        segmentation: Automatic segmentation that `mask_iou` measures.
        report: Path of the HTML report.
        broken: Images left out, unreadable or without the part, with the reason.
        bad_masks: Masks that cannot be used, with the reason; their images count as defective without a mask.
        class_mode: Class information given to the model; None for a model without class input.
        class_accuracy: Share of images with a correctly predicted class; None for a model without class input.
        alignment: Correlation of NLL and latent norm, if requested.
        robustness: Results on changed copies of the images, if requested.
        part_not_found: Number of `good` and of `defective` images in which the part is not found; None for a bundle that
            aligns nothing.
        n_known_defects: Number of test images left out because they helped to choose the form of the model.
    """

    result: EvaluationResult
    segmentation: SegmentationKind
    report: Path | None
    broken: tuple[tuple[Path, str], ...]
    class_mode: ClassMode | None = None
    class_accuracy: float | None = None
    alignment: Alignment | None = None
    bad_masks: tuple[tuple[str, str], ...] = ()
    robustness: Robustness | None = None
    part_not_found: dict[str, int] | None = None
    n_known_defects: int = 0

    @property
    def metrics(self) -> Metrics:
        """Metrics of the only class, or their means over the classes; `result.classes` has those of each."""
        return self.result.mean

    def tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Tables that `edgead eval` prints, each as headings and rows of texts, a row per class."""
        return tables_of(self.result)

    def _repr_html_(self) -> str:
        def row(cell: str, texts: list[str]) -> str:
            return f"<tr>{''.join(f'<{cell}>{escape(text)}</{cell}>' for text in texts)}</tr>"

        tables = (row("th", headings) + "".join(row("td", texts) for texts in rows) for headings, rows in self.tables())
        return f"<p>engine {escape(self.result.engine)}</p>" + "".join(f"<table>{rows}</table>" for rows in tables)

    def __repr__(self) -> str:
        lines = [f"Evaluation(engine {self.result.engine})"]
        for headings, rows in self.tables():
            widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
            for texts in (headings, *rows):
                lines.append("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip())
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """`EvaluationResult.to_json` plus the segmentation, and class mode and accuracy for models with class input."""
        values = {**self.result.to_json(), "segmentation": self.segmentation}
        if self.class_mode is not None:
            values |= {"class_mode": self.class_mode, "class_accuracy": self.class_accuracy}
        if self.part_not_found is not None:
            values["part_not_found"] = self.part_not_found
        if self.n_known_defects:
            values["n_known_defects"] = self.n_known_defects
        if self.bad_masks:
            values["bad_masks"] = [{"mask": name, "reason": reason} for name, reason in self.bad_masks]
        if self.alignment is not None:
            values["alignment"] = self.alignment.to_json()
        if self.robustness is not None:
            values["robustness"] = self.robustness.to_json()
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
    roles: FolderRoles = NO_ROLES,
    robustness_images: int | None = None,
) -> Evaluation:
    """Score every test image of a data set.

    Args:
        bundle: Verified bundle.
        runner: Open engine of the bundle.
        data: Data set with a test part, or a folder with `good` and defect folders.
        progress: Receives notes and progress.
        false_alarm_rate: False-alarm rate to choose the threshold for; None = the bundle's threshold.
        report: Folder for the HTML report; None = no report.
        class_mode: Class input of a model with classes: `given` = the true class and its threshold, `predicted` = the
            class that the model predicts first and its threshold, `none` = no class and the pooled threshold. Other
            models use each class's threshold.
        alignment: Whether to run the torch model too and correlate its likelihood with its latent norm; needs torch.
        segmentation: Segmentation to measure; None = the bundle's.
        roles: Folders of good and defective images and of masks, in place of those recognised in `data`.
        robustness_images: Largest number of good and of defective images that are changed to measure robustness, 0 = all;
            None = robustness is not measured.

    Raises:
        ConfigError: If the bundle does not have this segmentation.
        DataError: If no labelled test image can be read.
        MissingDependencyError: If the alignment is requested and torch is not installed.
    """
    model = _model_for_alignment(bundle) if alignment else None
    dataset = choose_dataset(data, roles, need_train=False)
    progress.note(dataset.description)
    if not dataset.test:
        raise DataError(
            f"{data} has no labelled test images (layout: {dataset.layout}).",
            hint="Use a folder with test/good and test/<defect>, or with good/ and <defect>/, or name folders: --good DIR "
            "--bad DIR.",
        )
    tested, n_known = without_known_defects(bundle, dataset.test, progress)
    samples, bad_masks = _with_usable_masks(bundle, tested, progress)
    thresholds = {
        name: record if false_alarm_rate is None else at_rate(record, false_alarm_rate)
        for name, record in bundle.manifest.thresholds.items()
    }
    kind = _segmentation_kind(bundle, segmentation)
    knows_classes = bundle.manifest.graph.class_bias is not None
    values = {name: record.threshold.value for name, record in thresholds.items()}
    markings = {
        name: marking_at(
            bundle.manifest, one, None if name == POOLED else name, false_alarm_rate=false_alarm_rate, kind=kind
        )
        for name, one in thresholds.items()
    }
    scorer = ImageScorer(bundle, runner, class_mode if knows_classes else None, thresholds, markings)
    images, broken, lacking = score_images(scorer, samples, progress)
    for path, reason in broken[:5]:
        progress.note(f"Left out {path}: {reason}")
    n_good = sum(not sample.gt_label for sample in lacking)
    if lacking:
        progress.note(
            f"The part was not found in {len(lacking)} of {len(samples)} test images, {n_good} good and "
            f"{len(lacking) - n_good} defective ones. They have no score and are in no number below: in a stream they are faults."
        )
    if not images:
        raise DataError(
            f"None of the {len(tested)} test images in {data} can be judged: {len(broken) - len(lacking)} cannot be read"
            f"{f', and in {len(lacking)} the part was not found' if lacking else ''}. The first reason: {broken[0][1]}",
            hint="Give images as this camera takes them, of the part that the model was trained on; copy damaged files again.",
        )
    accuracy = scorer.n_right / len(images) if knows_classes else None
    _note_trained_on(images, progress)
    note_unlike(images, bundle.manifest.thresholds[POOLED].scores, progress)
    if knows_classes and class_mode == "none":
        values = {POOLED: values[POOLED]}
    steps = 1 if report is None else 2
    progress.update("Metrics", 0, steps)
    result = evaluate(images, values, read_mask, engine=runner.engine_name)
    progress.update("Metrics", 1, steps)
    robustness = None if robustness_images is None else _robustness(scorer, images, robustness_images, progress)
    page = None
    if report is not None:
        page = report / REPORT_FILE
        write_report(page, report_of(bundle, runner, data, result, images, thresholds, kind, robustness))
        progress.update("Metrics", 2, steps)
    aligned = measure_alignment(bundle, model, tested, progress) if model is not None else None
    return Evaluation(
        result,
        kind,
        page,
        tuple(broken),
        class_mode if knows_classes else None,
        accuracy,
        aligned,
        bad_masks,
        robustness,
        None if bundle.aligner is None else {"good": n_good, "defective": len(lacking) - n_good},
        n_known,
    )


def _robustness(scorer: ImageScorer, images: Sequence[ScoredImage], n_images: int, progress: Progress) -> Robustness:
    bundle, reading = scorer.bundle, scorer.bundle.manifest.preprocessing.reading

    def score(batch: NDArray[np.uint8], class_name: str) -> tuple[NDArray[np.float64], list[float]]:
        outputs, judged_by = scorer.score(batch, [class_name] * len(batch))
        return outputs["pred_score"].astype(np.float64), [scorer.thresholds[name].threshold.value for name in judged_by]

    def prepare(image: Image) -> NDArray[np.uint8]:
        try:
            return bundle.preprocess(image)
        except PartNotFoundError:  # the change hides it: the frame as it is scores like a defect
            return bundle.preprocess(image, Pose(UNMOVED, (image.shape[0], image.shape[1]), 0.0))

    setting = RobustnessSetting(
        read=lambda image: read_image(image.image_path, **reading),
        prepare=prepare,
        score=score,
        input_size=bundle.image_size if bundle.grid is None else bundle.grid.scaled_frame,
        promise=scorer.thresholds[POOLED].threshold.false_alarm_rate,
        engine=scorer.runner.engine_name,
    )
    return measure_robustness(setting, images, n_images, progress)


def _with_usable_masks(
    bundle: Bundle, samples: tuple[Sample, ...], progress: Progress
) -> tuple[tuple[Sample, ...], tuple[tuple[str, str], ...]]:
    """Check all masks before anything is scored, and leave out those that cannot be used."""
    check = check_masks(
        samples,
        lambda done, total: progress.update("Checking masks", done, total),
        decoding=bundle.manifest.preprocessing.reading["decoding"],
    )
    for _, reason in check.bad[:5]:
        progress.note(f"Left out a mask: {reason}")
    if check.bad:
        progress.note(f"{len(check.bad)} masks were left out; their images count as defective without a mask.")
    for warning in check.warnings:
        progress.note(warning)
    return check.samples, check.bad


def _model_for_alignment(bundle: Bundle) -> Detector:
    """Load the torch model of a bundle before any image is scored.

    Raises:
        ConfigError: If its base distribution is not normal, so that its likelihood has no such norm (hgad).
        MissingDependencyError: If torch is not installed.
    """
    require_torch("--alignment")
    from edgead.models.zoo import load_model

    model = load_model(bundle)
    if not model.has_normal_base:
        raise ConfigError(
            f"--alignment does not apply to {bundle.path}: it compares the likelihood with the latent norm of one normal "
            f"distribution, and {bundle.manifest.model} has a mixture of several.",
            hint="Leave out --alignment; everything else that `edgead eval` measures applies.",
        )
    return model


def measure_alignment(bundle: Bundle, model: Detector, samples: Sequence[Sample], progress: Progress) -> Alignment:
    """Run the unfolded torch model of a bundle on test images, in float32.

    Raises:
        DataError: If fewer than two of them can be read.
    """
    import torch

    reading = bundle.manifest.preprocessing.reading
    pairs: list[NDArray[np.float64]] = []
    for start in range(0, len(samples), ALIGNMENT_BATCH):
        images = []
        for sample in samples[start : start + ALIGNMENT_BATCH]:
            try:
                images.append(bundle.preprocess(read_image(sample.path, **reading)))
            except DataError:
                continue
        if images:
            with torch.inference_mode():
                inputs = np.stack(images).reshape(-1, *bundle.image_size, 3)  # tiles count as images
                values = model.nll_and_norm(torch.from_numpy(inputs))
            pairs.append(torch.stack(values).double().numpy())
        progress.update("Alignment", min(start + ALIGNMENT_BATCH, len(samples)), len(samples))
    n_inputs = sum(pair.shape[1] for pair in pairs)
    if n_inputs < 2:
        raise DataError(
            f"--alignment correlates two values over the test images, at least 2: {n_inputs} of {len(samples)} can be used.",
            hint="Add labelled test images, or leave out --alignment.",
        )
    nll, norm = np.concatenate(pairs, axis=1)
    dimensions = sum(level.channels * level.size[0] * level.size[1] for level in model.levels)
    return alignment_of(nll, norm, dimensions=dimensions, is_uniform=model.flow.is_uniform)


def _note_trained_on(images: Sequence[ScoredImage], progress: Progress) -> None:
    """Tell which test images the bundle was trained on."""
    good, defective = (
        sum(image.was_trained_on and image.gt_label is label for image in images) for label in (False, True)
    )
    if good:
        n_good = sum(not image.gt_label for image in images)
        progress.note(
            f"Warning: the bundle was trained on {good} of the {n_good} good test images. They are left out of the "
            f"false-alarm rate, which is from {n_good - good}; AUROC and the other metrics have them and are too high. "
            "Evaluate on good images that training has not seen."
        )
    if defective:
        progress.note(
            f"Warning: the bundle was trained on {defective} of the test images that are labelled defective, as if they "
            "were good."
        )


def note_unlike(images: Sequence[ScoredImage], good_scores: Sequence[float], progress: Progress) -> None:
    """Warn if the good test images score like none of those behind the threshold.

    Args:
        images: Scored test images; defective ones, and those of the training, do not count.
        good_scores: Scores of the good images behind the threshold.
        progress: Receives the warning.
    """
    check = LikenessCheck(good_scores, stretch_s=0.0)
    scores = [image.pred_score for image in images if not image.gt_label and not image.was_trained_on]
    found = next((found for score in scores if (found := check.add(score, 0.0)) is not None), None)
    if found is not None:
        n_above = sum(score > found.level for score in scores)
        progress.note(
            f"Warning: the good test images are unlike the training images: {n_above} of {len(scores)} score above "
            f"{found.level:.4g}, as {found.n_good_above} of {found.n_good} good images behind the threshold do. Compression (JPEG), camera, "
            "light, focus or scale may differ. Thresholds and false-alarm rates do not hold for such images: train with "
            "images from the same camera."
        )


def _segmentation_kind(bundle: Bundle, wanted: SegmentationKind | None) -> SegmentationKind:
    """Segmentation to measure: the requested one, else the bundle's."""
    own = kind_of(bundle.manifest)
    if wanted not in (None, "threshold", own):
        what, hint = {
            "nfa": ("segmentation by number of false detections", "Train with --set model.segmentation=nfa"),
            "hysteresis": ("rule that marks regions", "Train again"),
        }[wanted]
        raise ConfigError(f"{bundle.path} has no {what}.", hint=f"{hint}, or measure --segmentation threshold.")
    return wanted or own
