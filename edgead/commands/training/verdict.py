"""Verdict of a training: weak, fair or good, of what, and the commands that would help most."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgead.bundle_files import THRESHOLD_IMAGES
from edgead.commands.training.closed_form import CHOICES
from edgead.commands.training.data import TrainingData
from edgead.commands.training.defect_sizes import DefectSizes
from edgead.commands.training.form_choice import CENTRES, POSITIONS
from edgead.commands.training.known_defects import LEAST
from edgead.commands.training.known_report import N_FOUND, N_KNOWN, found_text
from edgead.commands.training.known_report import SHEET as MISSED
from edgead.commands.training.runs import BUNDLE
from edgead.commands.training.threshold_images import highest
from edgead.config import defaults
from edgead.config.file import DEFAULT_CONFIG
from edgead.config.root import Config, Origin
from edgead.data.pose_reference import PoseReference
from edgead.data.snapshots import snapshot_of
from edgead.evaluation.threshold import images_to_certify, threshold_from_scores
from edgead.manifest import POOLED, ClassThresholds, Manifest
from edgead.printable import path_text

Grade = Literal["good", "fair", "weak"]
GRADES: tuple[Grade, ...] = ("good", "fair", "weak")
# Rules of the verdict: shares of artificial defects found, and what counts as many, large or high.
FEW_FOUND, SOME_FOUND = 0.5, 0.8
WEAK_RATE = 0.02
MANY_COPIES = 0.2
CENTRES_GAIN = 0.1
HIGH_SCORES = 0.25
N_HIGHEST = 3
LARGE_DEFECT = 0.1
MOST_ADVICE = 2
_OPTIONS = {
    "model.name": "--model",
    **{f"model.{name}": f"--{name}" for name in ("coupling", "base", "backbone", "weights")},
    "model.image_size": "--image-size",
    "train.epochs": "--epochs",
    "train.device": "--device",
    "train.seed": "--seed",
}
_REPEATED = {
    f"data.{name}": f"--{name.replace('_', '-')}" for name in ("good", "bad", "masks", "exclude", "known_defects")
}
_FOUND_KEY = re.compile(r"found_(\d+)_px")


@dataclass(frozen=True)
class Finding:
    """One weakness of a training.

    Attributes:
        grade: Best verdict that it allows.
        what: The weakness, as a part of a list.
        advice: Sentence that says what helps, with its command; empty if nothing is known to.
    """

    grade: Grade
    what: str
    advice: str = ""


@dataclass(frozen=True)
class Verdict:
    """Verdict of a training.

    Attributes:
        grade: `good`, `fair` or `weak`: the worst of its findings.
        power: Share of artificial defects found, 0..1; None if it was not measured.
        findings: Weaknesses, the worst first.
        known: Number of known defects, and of those found by choices without them; None without any.
    """

    grade: Grade
    power: float | None
    findings: tuple[Finding, ...]
    known: tuple[int, int] | None = None

    @property
    def advice(self) -> list[str]:
        """The one or two things that would help most."""
        return [finding.advice for finding in self.findings if finding.advice][:MOST_ADVICE]

    def lines(self) -> list[str]:
        """The verdict for a terminal, one sentence or item per line."""
        found = "" if self.power is None else f" {self.power:.0%} of the artificial defects are found."
        lines = [f"Verdict: {self.grade}.{found}"]
        if self.known is not None:
            lines.append(f"{found_text(*self.known)}.")
        lines += [f"  - {finding.what}" for finding in self.findings]
        if self.advice:
            lines.append("What would help most:")
            lines += [f"  {number}. {advice}" for number, advice in enumerate(self.advice, 1)]
        return lines


def verdict_of(manifest: Manifest, data: TrainingData, run: Path, config: Config) -> Verdict:
    """Judge a finished training by what it has measured; no image is scored.

    Args:
        manifest: Manifest of the bundle.
        data: Images of the training.
        run: Folder of the run, with `choices.json` where several forms were tried.
        config: Settings of the training.
    """
    metrics, thresholds = manifest.provenance.metrics, manifest.thresholds[POOLED]
    power = metrics.get("pseudo_defect_power")
    names = [path_text(sample.name) for sample in data.split.threshold]
    command, add = commands_of(data.root)
    command += "".join(f" {word}" for word in option_words(config.origin))
    sizes = _sizes(metrics, data)
    findings = [
        # before all else: until parts are aligned, high scores and small defects have this reason
        None if data.motion is None else of_far_motion(data.motion, command),
        of_images(thresholds, command, add),
        of_high_scores(thresholds, names, run, command),
        of_copies(data.n_near_copies, len(data.split.threshold)),
        # a place of a tile is another place of the part in each tile
        None if data.n_tiles > 1 or data.motion is not None else of_motion(_choices(run), config.data.align, command),
        None if sizes is None else of_sizes(sizes, command),
    ]
    counts = (round(metrics[N_KNOWN]), round(metrics[N_FOUND])) if N_KNOWN in metrics else None
    if counts is not None:
        findings.append(of_known(*counts, run))
    stated = [finding for finding in findings if finding is not None]
    stated += [finding for finding in (of_power(power, has_reason=bool(stated)),) if finding is not None]
    stated.sort(key=lambda finding: -GRADES.index(finding.grade))
    grade: Grade = max((finding.grade for finding in stated), key=GRADES.index, default="good")
    return Verdict(grade, power, tuple(stated), counts)


def commands_of(root: Path) -> tuple[str, str]:
    """Commands to train again and to add good images; the second is empty for a folder to which a person copies them.

    The folder of a snapshot is never named: files added there damage the snapshot, so both commands name its data set.

    Args:
        root: Folder that was trained on.
    """
    snapshot = snapshot_of(root)
    if snapshot is None:
        return f"edgead train {shlex.quote(path_text(root))}", ""
    dataset = shlex.quote(path_text(snapshot.folder.parent.parent))
    return f"edgead train --from-dataset {dataset}", f"edgead dataset add {dataset} FOLDER --as good"


def option_words(origin: Origin) -> list[str]:
    """Words of the command line that give a training the same settings again, quoted for a shell.

    Args:
        origin: Where the settings come from; `./edgead.yaml` is read without being named, and the folder of the images is
            not among the words.
    """
    file, overrides = origin.file, origin.overrides
    words = [] if file is None or file == DEFAULT_CONFIG else ["--config", shlex.quote(path_text(file))]
    for key, value in overrides.items():
        if key in _REPEATED:
            words += [word for item in value or () for word in (_REPEATED[key], shlex.quote(path_text(item)))]
        elif key in _OPTIONS and value is not None:
            words += [_OPTIONS[key], shlex.quote(str(value))]
        elif key not in ("data.root", "train.add_to"):
            words += ["--set", shlex.quote(f"{key}={json.dumps(value, default=str)}")]
    return words


def of_power(power: float | None, *, has_reason: bool) -> Finding | None:
    """Few artificial defects found.

    Args:
        power: Share found, 0..1; None = not measured.
        has_reason: Whether another finding says why.
    """
    if power is None or power >= SOME_FOUND:
        return None
    advice = (
        ""
        if has_reason
        else "See what a lower threshold finds, and how many more false alarms it costs: edgead eval --false-alarm-rate 0.05"
    )
    return Finding("weak" if power < FEW_FOUND else "fair", f"artificial defects: {1 - power:.0%} are missed", advice)


def of_known(n: int, n_found: int, run: Path) -> Finding | None:
    """Known defects that are missed.

    Args:
        n: Number of known defects.
        n_found: Number of those found by choices without them.
        run: Folder of the run.
    """
    share = n_found / n
    if share >= SOME_FOUND or n < LEAST:
        return None
    return Finding(
        "weak" if share < FEW_FOUND else "fair",
        f"known defects: {n - n_found} of {n} are missed",
        f"Look at {run / MISSED}: defects that the eye finds hard need a closer view (--crop, --tiles) or better light.",
    )


def of_images(thresholds: ClassThresholds, command: str, add: str = "") -> Finding | None:
    """Few images: they promise a higher rate than the usual one, or do not certify what was asked for.

    Args:
        thresholds: Thresholds of all classes together.
        command: Command to train again.
        add: Command to add good images; empty = copy them into the folder.
    """
    record = thresholds.threshold
    usual = defaults.FALSE_ALARM_RATE
    if record.certified and record.false_alarm_rate <= usual:
        return None
    target = min(usual, record.false_alarm_rate)
    needed = images_to_certify(target, record.confidence)
    if record.n_images >= needed:  # a rate that was asked for
        return None
    kept = f"at {record.false_alarm_rate:.2%} false alarms" if record.certified else "with an extrapolated threshold"
    grade: Grade = "weak" if record.false_alarm_rate > WEAK_RATE else "fair"
    how = f" with: {add}; then train again: {command}" if add else f", and train again: {command}"
    return Finding(
        grade,
        f"few images: {record.n_images} different good images, {kept}",
        f"Add {needed - record.n_images} good images of different parts ({needed} certify {target:.2%}){how}",
    )


def of_high_scores(thresholds: ClassThresholds, names: Sequence[str], run: Path, command: str) -> Finding | None:
    """A few good images with scores far above all others, which raise the threshold for everything."""
    scores, record = list(thresholds.scores), thresholds.threshold
    order = highest(scores, N_HIGHEST)
    if len(scores) < 4 * N_HIGHEST or len(names) != len(scores):
        return None
    rest = [score for index, score in enumerate(scores) if index not in order]
    without = threshold_from_scores(rest, record.false_alarm_rate, record.confidence).value
    reach = record.value - float(np.median(scores))
    if reach <= 0 or (record.value - without) / reach < HIGH_SCORES:
        return None
    excluded = " ".join(f"--exclude {shlex.quote(names[index])}" for index in order)
    return Finding(
        "fair",
        f"high good scores: without the {N_HIGHEST} highest good images the threshold would be {without:.3g} instead of "
        f"{record.value:.3g}",
        f"Look at {run / BUNDLE / THRESHOLD_IMAGES}. If its first {N_HIGHEST} images are not good, leave them out: {command} {excluded}",
    )


def of_copies(n_copies: int, n_kept: int) -> Finding | None:
    """Many near-copies, which do not count as images."""
    if n_copies < MANY_COPIES * (n_copies + n_kept):
        return None
    return Finding(
        "fair",
        f"near-copies: {n_copies} of {n_copies + n_kept} good images repeat others and say nothing new",
        "Photograph different parts instead of one part several times.",
    )


def of_motion(choices: Sequence[Mapping[str, Any]], align: str, command: str) -> Finding | None:
    """Parts that move: features without a place find clearly more than one Gaussian per position."""
    best = {
        form: max((c["power"] for c in choices if c["form"] == form), default=None) for form in (POSITIONS, CENTRES)
    }
    positions, centres = best[POSITIONS], best[CENTRES]
    if align != "off" or positions is None or centres is None or centres - positions < CENTRES_GAIN:
        return None
    return Finding(
        "fair",
        f"parts that move or vary: a model of every place finds {positions:.0%} of the artificial defects, one without "
        f"places {centres:.0%}",
        f"Let training test whether aligning the parts helps: {command} --align auto",
    )


def of_far_motion(motion: PoseReference, command: str) -> Finding:
    """Parts that turn or shift so far that the same place shows something else in each image."""
    return Finding(
        "weak",
        f"parts that move: {motion.range_text()}; the good images resemble each other by {motion.likeness:.2f} when aligned, "
        f"{motion.unmoved_likeness:.2f} as they are",
        f"Align the parts: {command} --align auto",
    )


def of_sizes(sizes: DefectSizes, command: str) -> Finding | None:
    """Defects smaller than the grid of the map."""
    smallest = sizes.smallest
    limit = LARGE_DEFECT * min(sizes.frame_size)
    finer = sizes.finer_tiles
    if smallest is not None and (smallest <= min(sizes.found) or (finer is None and smallest < limit)):
        return None
    what = f"under {smallest} px" if smallest is not None else f"of up to {max(sizes.found)} px"
    advice = "" if finer is None else f"Show small defects larger: {command} --tiles {finer[0][0]}x{finer[0][1]}"
    return Finding(
        "weak" if smallest is None else "fair",
        f"small defects: those {what} are often missed at an input of {sizes.image_size[0]} px",
        advice,
    )


def _sizes(metrics: Mapping[str, float], data: TrainingData) -> DefectSizes | None:
    found = {int(match[1]): share for key, share in metrics.items() if (match := _FOUND_KEY.fullmatch(key))}
    if not found or data.grid is not None:  # tiles were chosen already
        return None
    frame = max(data.scan.sizes, key=lambda size: (data.scan.sizes[size], size))
    height, width = float(frame[0]), float(frame[1])
    return DefectSizes(dict(sorted(found.items())), 0, frame, (height, width), data.image_size, (1, 1))


def _choices(run: Path) -> list[dict[str, Any]]:
    path = run / CHOICES
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
