"""`edgead eval`: how well a bundle's engine does on labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgead.bundle import Bundle, ClassCalibration
from edgead.commands.progress import Progress
from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.data.reader import read_image, read_mask
from edgead.errors import DataError
from edgead.evaluation.evaluate import EvaluationResult, ScoredImage, evaluate
from edgead.evaluation.report import Report, write_report
from edgead.evaluation.threshold import at_rate
from edgead.runner import Runner

REPORT_FILE = "report.html"
BATCH = 4


@dataclass(frozen=True)
class Evaluation:
    """The numbers, and the report if one was written.

    Attributes:
        result: Per class and mean.
        report: The HTML page.
        broken: Images that could not be read, with the reason.
    """

    result: EvaluationResult
    report: Path | None
    broken: tuple[tuple[Path, str], ...]


def evaluate_bundle(
    bundle: Bundle,
    runner: Runner,
    data: Path,
    progress: Progress,
    *,
    false_alarm_rate: float | None,
    report: Path | None,
) -> Evaluation:
    """Score every test image of a data set.

    Args:
        bundle: Verified.
        runner: An open engine of it.
        data: A data set with a test part, or a folder with `good` and defect folders.
        progress: Gets notes and progress.
        false_alarm_rate: Use the threshold for this rate instead of the shipped one.
        report: Folder for the HTML report.

    Raises:
        DataError: If there is no labelled test image that can be read.
    """
    dataset = find_dataset(data, need_train=False)
    progress.note(dataset.description)
    if not dataset.test:
        raise DataError(
            f"{data} has no labelled test images (seen: {dataset.layout}).",
            hint="Give a folder with test/good and test/<defect>, or with good/ and <defect>/.",
        )
    calibration = {
        name: record if false_alarm_rate is None else at_rate(record, false_alarm_rate)
        for name, record in bundle.manifest.calibration.items()
    }
    images, broken = _score(bundle, runner, dataset.test, progress)
    for path, reason in broken[:5]:
        progress.note(f"Left out {path}: {reason}")
    if not images:
        raise DataError(f"None of the {len(dataset.test)} test images in {data} can be read.")
    thresholds = {name: record.threshold.value for name, record in calibration.items()}
    result = evaluate(images, thresholds, read_mask, engine=runner.engine_name)
    page = None
    if report is not None:
        page = report / REPORT_FILE
        write_report(page, _report(bundle, runner, data, result, images, calibration))
    return Evaluation(result, page, tuple(broken))


def _score(
    bundle: Bundle, runner: Runner, samples: tuple[Sample, ...], progress: Progress
) -> tuple[list[ScoredImage], list[tuple[Path, str]]]:
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
            outputs = runner.infer(np.stack([prepared for _, prepared, _ in read]))
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
    calibration: dict[str, ClassCalibration],
) -> Report:
    manifest = bundle.manifest
    facts = {
        "Bundle": str(bundle.path),
        "Model": f"{manifest.model}, trained {manifest.provenance.created_at}",
        "Engine": runner.engine_name,
        "Data": str(data),
        "Training images": str(manifest.provenance.n_images.get("fit", 0)),
        "edgead": manifest.edgead_version,
    }
    read = partial(read_image, white_level=manifest.preprocessing.white_level)
    return Report(f"Evaluation of {', '.join(result.classes)}", facts, result, images, calibration, read, read_mask)
