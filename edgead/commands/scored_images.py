"""Scores, maps and marks of labelled test images from one engine, for `edgead eval` and `edgead compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgead.aligner import PartNotFoundError
from edgead.bundle import Bundle
from edgead.data.copies import stored_digest
from edgead.data.dataset import Sample
from edgead.data.reader import read_image
from edgead.errors import DataError
from edgead.evaluation.evaluate import ScoredImage
from edgead.evaluation.marking import Marking
from edgead.manifest import POOLED, ClassThresholds
from edgead.pose import map_to_frame
from edgead.prediction import Segmentation
from edgead.progress import Progress
from edgead.runner import Outputs, Runner

ClassMode = Literal["given", "predicted", "none"]
BATCH = 4


@dataclass
class ImageScorer:
    """Runs the engine in a class mode.

    Attributes:
        bundle: Bundle of the engine.
        runner: Open engine.
        class_mode: Class mode; None for a model without class input.
        thresholds: Thresholds per class and pooled.
        markings: Rules of the marks per class and pooled.
        n_right: Number of images with a correctly predicted class so far.
    """

    bundle: Bundle
    runner: Runner
    class_mode: ClassMode | None
    thresholds: Mapping[str, ClassThresholds]
    markings: Mapping[str, Marking]
    n_right: int = 0

    def score(self, batch: NDArray[np.uint8], class_names: Sequence[str]) -> tuple[Outputs, list[str]]:
        """Outputs of a batch, and for each image the class whose thresholds apply."""
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
        """Image threshold of a predicted class; None if the image's own class applies."""
        return self.thresholds[name].threshold.value if self.class_mode == "predicted" else None

    def segmentation(self, outputs: Outputs, index: int, name: str) -> Segmentation:
        """Marks of an image of the batch."""
        is_anomalous = float(outputs["pred_score"][index]) > self.thresholds[name].threshold.value
        return self.markings[name].mark_outputs(outputs, index, is_anomalous=is_anomalous)


def without_known_defects(
    bundle: Bundle, samples: tuple[Sample, ...], progress: Progress
) -> tuple[tuple[Sample, ...], int]:
    """Images that were no known defects of the training, which helped to choose the form of the model.

    Args:
        bundle: Bundle, which has the digests of those.
        samples: Labelled images.
        progress: Receives a note of what is left out.

    Returns:
        The images that count, and the number of the others.

    Raises:
        DataError: If none is left.
    """
    known = frozenset(bundle.manifest.provenance.known_digests)
    if not known:
        return samples, 0
    kept = tuple(sample for sample in samples if _digest(sample) not in known)
    n_known = len(samples) - len(kept)
    if not kept:
        raise DataError(
            f"All {n_known} test images are known defects of the training, which helped to choose the form of {bundle.path}.",
            hint="Measure with defects that the training has not seen.",
        )
    if n_known:
        progress.note(
            f"{n_known} of the {len(samples)} test images are known defects of the training, which helped to choose the form of "
            f"{bundle.path}. They are left out of every number."
        )
    return kept, n_known


def _digest(sample: Sample) -> str:
    """Stored digest of an image; empty if the file cannot be read, which scoring reports."""
    try:
        return stored_digest(sample.path)
    except OSError:
        return ""


def score_images(
    scorer: ImageScorer, samples: tuple[Sample, ...], progress: Progress
) -> tuple[list[ScoredImage], list[tuple[Path, str]], list[Sample]]:
    """Scored images, those left out with the reason, and those among them in which the part is not found."""
    bundle = scorer.bundle
    reading = bundle.manifest.preprocessing.reading
    trained_on = frozenset(bundle.manifest.provenance.image_digests)
    images: list[ScoredImage] = []
    broken: list[tuple[Path, str]] = []
    lacking: list[Sample] = []
    for start in range(0, len(samples), BATCH):
        read = []
        for sample in samples[start : start + BATCH]:
            try:
                image = read_image(sample.path, **reading)
                pose = bundle.pose(image)
            except DataError as error:
                broken.append((sample.path, error.message))
                if isinstance(error, PartNotFoundError):
                    lacking.append(sample)
                continue
            read.append((sample, bundle.preprocess(image, pose), (image.shape[0], image.shape[1]), pose))
        if read:
            batch = np.stack([prepared for _, prepared, *_ in read])
            outputs, judged_by = scorer.score(batch, [sample.class_name for sample, *_ in read])
            for i, (sample, _, size, pose) in enumerate(read):
                anomaly_map, segmentation = outputs["anomaly_map"][i], scorer.segmentation(outputs, i, judged_by[i])
                if pose is not None:
                    anomaly_map, segmentation = map_to_frame(anomaly_map, pose), segmentation.on_frame(pose)
                images.append(
                    ScoredImage(
                        image_path=sample.path,
                        class_name=sample.class_name,
                        defect=sample.defect,
                        gt_label=sample.gt_label,
                        pred_score=float(outputs["pred_score"][i]),
                        anomaly_map=anomaly_map.copy(),
                        size=size,
                        mask=sample.mask,
                        own_threshold=scorer.own_threshold(judged_by[i]),
                        segmentation=segmentation,
                        was_trained_on=bool(trained_on) and stored_digest(sample.path) in trained_on,
                    )
                )
        progress.update("Scoring", min(start + BATCH, len(samples)), len(samples))
    return images, broken, lacking
