"""Report of `edgead eval`: facts of bundle and engine, and pictures that the training has drawn."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgead.bundle import Bundle
from edgead.bundle_files import THRESHOLD_IMAGES
from edgead.commands.training.known_report import N_FOUND, N_KNOWN, found_text
from edgead.commands.training.known_report import SHEET as MISSED
from edgead.data.masks import read_mask
from edgead.data.reader import read_image
from edgead.errors import DataError
from edgead.evaluation.evaluate import EvaluationResult, ScoredImage
from edgead.evaluation.report import Report
from edgead.evaluation.robustness import Robustness
from edgead.evaluation.segmentation import SegmentationKind
from edgead.imaging import Image
from edgead.manifest import ClassThresholds
from edgead.runner import Runner

SEGMENTATIONS: dict[SegmentationKind, str] = {
    "threshold": "map above the pixel threshold",
    "nfa": "regions by their number of false detections",
    "hysteresis": "regions by the bundle's rule",
}


def report_of(
    bundle: Bundle,
    runner: Runner,
    data: Path,
    result: EvaluationResult,
    images: list[ScoredImage],
    thresholds: dict[str, ClassThresholds],
    segmentation: SegmentationKind,
    robustness: Robustness | None,
) -> Report:
    """Report of an evaluation, with what the training has drawn into the folder of the run.

    Args:
        bundle: Evaluated bundle.
        runner: Engine that scored the images.
        data: Folder of the images.
        result: Metrics.
        images: Scored images.
        thresholds: Thresholds per class and pooled.
        segmentation: Measured segmentation.
        robustness: Results on changed images; None = not measured.
    """
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
    metrics = manifest.provenance.metrics
    if N_KNOWN in metrics:
        facts["Training"] = found_text(round(metrics[N_KNOWN]), round(metrics[N_FOUND]))
    read = partial(read_image, **manifest.preprocessing.reading)
    return Report(
        f"Evaluation of {', '.join(result.classes)}", facts, result, images, thresholds, read, read_mask, robustness,
        are_left_out=bundle.held_out_corrections() is not None, threshold_sheet=_picture(bundle.path / THRESHOLD_IMAGES),
        missed_sheet=_picture(bundle.path.parent / MISSED) if N_KNOWN in metrics else None,
    )  # fmt: skip


def _picture(path: Path) -> Image | None:
    """Picture that the training has drawn; None if it is not there."""
    try:
        return read_image(path)
    except DataError:
        return None
