"""`edgead compare`: two bundles or runs on the same labelled images at the same promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgead.bundle import Bundle
from edgead.bundle_files import MANIFEST
from edgead.commands.scored_images import ImageScorer, score_images, without_known_defects
from edgead.commands.training.runs import BUNDLE
from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.dataset import Sample
from edgead.data.reader import read_image
from edgead.errors import DataError
from edgead.evaluation.compare_page import KINDS, Change, Judged, comparison_html
from edgead.evaluation.evaluate import Rate, ScoredImage, require_finite
from edgead.evaluation.marking import marking_at
from edgead.evaluation.paired import AurocDifference, PairedVerdicts, auroc_difference, paired_verdicts
from edgead.evaluation.threshold import class_thresholds
from edgead.manifest import POOLED, ClassThresholds
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.storage import write_bytes

PAGE = "compare.html"
NO_ROLES = FolderRoles()


@dataclass(frozen=True)
class Side:
    """One of the two: a verified bundle and its open engine."""

    bundle: Bundle
    runner: Runner

    def describe(self) -> str:
        manifest = self.bundle.manifest
        return (
            f"{self.bundle.path}, {manifest.model}, trained {manifest.provenance.created_at}, digest "
            f"{self.bundle.digest[:12]}, engine {self.runner.engine_name}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "bundle": str(self.bundle.path),
            "digest": self.bundle.digest,
            "model": self.bundle.manifest.model,
            "engine": self.runner.engine_name,
        }


@dataclass(frozen=True)
class ModelComparison:
    """Result of a comparison of A and B.

    Attributes:
        a, b: The two sides.
        false_alarm_rate, confidence: Promise that both keep.
        found: Verdicts on the defective images.
        false_alarms: Verdicts on the good images that neither was trained on.
        auroc: Image AUROC of both without good images that A or B was trained on; None with fewer than two good or two defective images of every class.
        changes: Images whose verdict differs.
        n_trained_on: Number of good images that A or B was trained on, left out of `false_alarms` and `auroc`.
        left_out: Images that A or B could not judge, with side and reason.
        page: Path of the HTML page; None if it was not asked for.
        n_known_defects: Number of images left out because they helped to choose the form of A or B.
    """

    a: Side
    b: Side
    false_alarm_rate: float
    confidence: float | None
    found: PairedVerdicts
    false_alarms: PairedVerdicts
    auroc: AurocDifference | None
    changes: tuple[Change, ...]
    n_trained_on: int
    left_out: tuple[tuple[Path, str, str], ...]
    page: Path | None = None
    n_known_defects: int = 0

    @property
    def lines(self) -> list[str]:
        """Results in sentences."""
        lines = [f"Both at {self.false_alarm_rate:.3g} false alarms per good image, by their own held-out images."]
        for what, verdicts in (("Defects found", self.found), ("False alarms", self.false_alarms)):
            lines.append(f"{what}: {_sentence(verdicts)}")
        if self.n_trained_on:
            lines.append(
                f"{self.n_trained_on} good images that A or B was trained on are left out of the false alarms and the AUROC."
            )
        if self.n_known_defects:
            lines.append(
                f"{self.n_known_defects} images that helped to choose the form of A or B are left out of everything."
            )
        if self.auroc is None:
            lines.append("Image AUROC: undefined, it needs two good and two defective images of a class.")
        else:
            lines.append(f"Image AUROC: {_auroc_sentence(self.auroc)}")
        if self.left_out:
            by_side = Counter(side for _, side, _ in self.left_out)
            said = " and ".join(f"{count} by {side}" for side, count in sorted(by_side.items()))
            lines.append(f"Left out of everything, because they could not be judged: {said}.")
        counts = Counter(change.kind for change in self.changes)
        changed = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
        lines.append(f"Verdicts that differ, from A to B: {changed or 'none'}.")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `compare --json`."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "false_alarm_rate": self.false_alarm_rate,
            "confidence": self.confidence,
            "found": self.found.to_json(),
            "false_alarms": self.false_alarms.to_json(),
            "image_auroc": None if self.auroc is None else self.auroc.to_json(),
            "n_trained_on": self.n_trained_on,
            **({"n_known_defects": self.n_known_defects} if self.n_known_defects else {}),
            "changes": [_change_json(change) for change in self.changes],
            "left_out": [{"image": str(path), "side": side, "reason": why} for path, side, why in self.left_out],
            "page": None if self.page is None else str(self.page),
        }


def bundle_of(path: Path) -> Path:
    """Bundle folder of a path that may also be the folder of a run."""
    inner = path / BUNDLE
    return inner if not (path / MANIFEST).is_file() and inner.is_dir() else path


def compare(
    a: Side,
    b: Side,
    data: Path,
    progress: Progress,
    *,
    false_alarm_rate: float | None,
    confidence: float | None,
    report: Path | None,
    roles: FolderRoles = NO_ROLES,
) -> ModelComparison:
    """Judge every labelled test image with both, each at its own threshold for the same promise.

    A model of several classes judges without knowing the class, at its pooled threshold.

    Args:
        a, b: The two bundles with their open engines; they may be one bundle with two engines.
        data: Data set with a test part, or a folder with `good` and defect folders.
        progress: Receives notes and progress.
        false_alarm_rate, confidence: Promise of both; None = that of A.
        report: Folder for the HTML page; None = no page.
        roles: Folders of good and defective images, in place of those recognised in `data`.

    Raises:
        DataError: If no labelled image can be judged by both.
        EngineError: If a score or map is not finite.
        StorageError: If the page cannot be written.
    """
    dataset = choose_dataset(data, roles, need_train=False)
    progress.note(dataset.description)
    if not dataset.test:
        raise DataError(
            f"{data} has no labelled test images (layout: {dataset.layout}).",
            hint="Use a folder with test/good and test/<defect>, or name folders: --good DIR --bad DIR.",
        )
    samples = dataset.test
    for bundle in {side.bundle.path: side.bundle for side in (a, b)}.values():
        samples, _ = without_known_defects(bundle, samples, progress)
    promise = a.bundle.thresholds().threshold
    rate = false_alarm_rate or promise.false_alarm_rate
    confidence = confidence or promise.confidence
    judged, left_out = [], []
    for name, side in (("A", a), ("B", b)):
        found, broken = _judge(side, samples, rate, confidence, progress)
        judged.append(found)
        left_out += [(path, name, reason) for path, reason in broken]
    pairs = [(judged[0][path], judged[1][path]) for path in judged[0] if path in judged[1]]
    if not pairs:
        raise DataError(
            f"None of the {len(samples)} labelled images in {data} can be judged by both A and B. The first reason, of "
            f"{left_out[0][1]}: {left_out[0][2]}",
            hint="Give images that can be read, from the camera that both models were trained for: --data DIR.",
        )
    bad = [pair for pair in pairs if pair[0].image.gt_label]
    good = [pair for pair in pairs if not pair[0].image.gt_label]
    new = [pair for pair in good if not any(one.image.was_trained_on for one in pair)]
    changes = tuple(
        sorted(
            (Change(*pair) for pair in pairs if pair[0].is_anomalous != pair[1].is_anomalous),
            key=lambda change: (KINDS.index(change.kind), change.a.image.image_path),
        )
    )
    result = ModelComparison(
        a, b, rate, confidence, _verdicts(bad), _verdicts(new), _auroc([*bad, *new]), changes, len(good) - len(new),
        tuple(left_out), None if report is None else report / PAGE, len(dataset.test) - len(samples),
    )  # fmt: skip
    if result.page is not None:
        facts = {"A": a.describe(), "B": b.describe(), "Data": str(data)}
        read = partial(read_image, **a.bundle.manifest.preprocessing.reading)
        page = comparison_html("Comparison of two detectors", facts, result.lines, changes, read)
        write_bytes(result.page, page.encode("utf-8", "backslashreplace"))
    return result


def _judge(
    side: Side, samples: tuple[Sample, ...], rate: float, confidence: float | None, progress: Progress
) -> tuple[dict[Path, Judged], list[tuple[Path, str]]]:
    bundle = side.bundle
    knows_classes = bundle.manifest.graph.class_bias is not None
    thresholds = {name: _at_promise(record, rate, confidence) for name, record in bundle.manifest.thresholds.items()}
    markings = {
        name: marking_at(bundle.manifest, one, None if name == POOLED else name, false_alarm_rate=rate)
        for name, one in thresholds.items()
    }
    scorer = ImageScorer(bundle, side.runner, "none" if knows_classes else None, thresholds, markings)
    images, broken, _ = score_images(scorer, samples, progress)
    require_finite(images, side.runner.engine_name)

    def of(image: ScoredImage) -> Judged:
        own = POOLED if knows_classes or image.class_name not in thresholds else image.class_name
        return Judged(image, thresholds[own].threshold.value, thresholds[own].heatmap_scale)

    return {image.image_path: of(image) for image in images}, broken


def _at_promise(record: ClassThresholds, rate: float, confidence: float | None) -> ClassThresholds:
    if (record.threshold.false_alarm_rate, record.threshold.confidence) == (rate, confidence):
        return record
    return class_thresholds(record.scores, record.map_maxima, record.heatmap_low, rate, confidence)


def _verdicts(pairs: Sequence[tuple[Judged, Judged]]) -> PairedVerdicts:
    return paired_verdicts([a.is_anomalous for a, _ in pairs], [b.is_anomalous for _, b in pairs])


def _auroc(pairs: Sequence[tuple[Judged, Judged]]) -> AurocDifference | None:
    classes = sorted({a.image.class_name for a, _ in pairs})
    parts = []
    for name in classes:
        own = [(a.image, b.image) for a, b in pairs if a.image.class_name == name]
        parts.append(
            (
                np.array([a.pred_score for a, _ in own], np.float64),
                np.array([b.pred_score for _, b in own], np.float64),
                np.array([a.gt_label for a, _ in own], bool),
            )
        )
    return auroc_difference(parts)


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "image": str(change.a.image.image_path),
        "defect": change.a.image.defect if change.a.image.gt_label else None,
        "change": change.kind,
        "score_a": change.a.image.pred_score,
        "threshold_a": change.a.threshold,
        "score_b": change.b.image.pred_score,
        "threshold_b": change.b.threshold,
    }


def _sentence(verdicts: PairedVerdicts) -> str:
    interval, p_value = verdicts.interval, verdicts.p_value
    if interval is None or p_value is None:
        return "no image."
    low, high = (100.0 * end for end in interval)
    return (
        f"A {_rate(verdicts.rate_a)}, B {_rate(verdicts.rate_b)}; A alone {verdicts.only_a}, B alone {verdicts.only_b}; "
        f"difference {100.0 * (verdicts.only_b - verdicts.only_a) / verdicts.n:+.1f} points (95 % interval {low:+.1f} to "
        f"{high:+.1f}), exact McNemar p = {p_value:.2g}."
    )


def _rate(rate: Rate) -> str:
    assert rate.interval is not None
    low, high = rate.interval
    return f"{rate.k} of {rate.n} ({low:.1%} to {high:.1%})"


def _auroc_sentence(found: AurocDifference) -> str:
    start = f"A {found.a:.4f}, B {found.b:.4f}; difference {found.b - found.a:+.4f}"
    if found.interval is None:
        seen = "both rank all images alike" if found.a == found.b else "it is the same for every image"
        return f"{start}; {seen}, and that gives no interval."
    return f"{start} (95 % interval {found.interval[0]:+.4f} to {found.interval[1]:+.4f}, DeLong)."
