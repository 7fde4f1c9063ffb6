"""Alignment of a training: a reference picture from good images, and whether to use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.aligner import Aligner
from edgead.config.training import DataConfig
from edgead.data.dataset import Sample, evenly_spaced
from edgead.data.pose_reference import PoseReference, fit_reference, may_move
from edgead.data.split import MIN_EARLY_STOP, MIN_THRESHOLD_IMAGES, Split
from edgead.errors import DataError
from edgead.imaging import Image, resize
from edgead.pose import PoseRange
from edgead.progress import Progress

# Images that the reference picture is the mean of, and others that it is judged by.
N_IMAGES = 24
_MANY = 0.05
# Numbers of images that show whether parts move: for the whole check, and for the quick comparison before it.
_N_TO_LOOK_AT, _N_AT_FIRST = 8, 3
_LOOK_SIDE = 512
# Likeness of single images from which on parts lie still, and gain of likeness by alignment from which on they move far.
_STILL, _FAR = 0.7, 0.3


@dataclass(frozen=True)
class AlignedSplit:
    """Good images in which the part is found, and how they are aligned.

    Attributes:
        aligner: Alignment of every image; None = they stay as they are.
        split: The images.
        n_left_out: Number of images left out because the part is not found.
        motion: Effect of aligning, if alignment is off and parts turn or shift far; otherwise None.
    """

    aligner: Aligner | None
    split: Split
    n_left_out: int = 0
    motion: PoseReference | None = None


def align_split(
    settings: DataConfig, split: Split, read: Callable[[Sample], Image], progress: Progress
) -> AlignedSplit:
    """Make the alignment that the settings ask for, and leave out images without the part.

    Args:
        settings: Settings of the data.
        split: Good images.
        read: Function that reads an image, not aligned.
        progress: Receives notes and progress.

    Raises:
        DataError: If alignment is on and the part is not found in most images, or too few of them remain.
    """
    if settings.align == "off":
        motion = _motion(settings, split, read)
        if motion is not None:
            progress.note(f"Warning: the parts do not lie still. {motion.describe()} Align them: --align auto")
        return AlignedSplit(None, split, motion=motion)
    reference = _reference(settings, split, read)
    if settings.align == "on" and not reference.is_usable:
        raise DataError(
            f"Alignment is on, but the part was found in only {reference.found_share:.0%} of the good images looked at; "
            f"98 % are needed.",
            hint="Leave out --align for textures, or parts that fill the picture; for parts that move further, set a larger "
            "data.align_angle, data.align_shift or data.align_scale.",
        )
    progress.note(reference.describe())
    if settings.align == "auto" and not reference.helps:
        progress.note("The images are not aligned: it would not make them resemble each other clearly more.")
        return AlignedSplit(None, split)
    return _found(Aligner(reference.rule, reference.picture), split, read, progress)


def write_alignment(path: Path, aligner: Aligner) -> None:
    """Write the reference picture as a bundle stores it."""
    np.savez_compressed(path, reference=aligner.reference)


def _reference(settings: DataConfig, split: Split, read: Callable[[Sample], Image]) -> PoseReference:
    chosen = evenly_spaced(split.fit, N_IMAGES)
    rest = [sample for sample in split.fit if sample not in chosen]
    judged = [*split.early_stop, *rest]
    search = PoseRange(settings.align_angle, settings.align_shift, settings.align_scale)
    return fit_reference(
        [read(sample) for sample in chosen], [read(s) for s in evenly_spaced(judged, N_IMAGES)], search
    )


def _motion(settings: DataConfig, split: Split, read: Callable[[Sample], Image]) -> PoseReference | None:
    """Effect of aligning parts that turn or shift far; None for parts at rest and for textures."""
    chosen = evenly_spaced(split.fit, _N_TO_LOOK_AT)
    rest = evenly_spaced([sample for sample in split.fit if sample not in chosen], _N_TO_LOOK_AT)
    if len(chosen) < _N_TO_LOOK_AT or not rest:
        return None
    images = [_small(read(sample)) for sample in chosen]
    search = PoseRange(settings.align_angle, settings.align_shift, settings.align_scale)
    if not may_move(images[: _N_AT_FIRST + 1], search, _STILL):
        return None
    reference = fit_reference(images, [_small(read(sample)) for sample in rest], search)
    is_far = reference.is_usable and reference.likeness - reference.unmoved_likeness > _FAR
    return reference if is_far else None


def _small(image: Image) -> Image:
    """An image that is enough to find a part in, so that two dozen photographs do not fill the memory."""
    height, width = image.shape[:2]
    share = _LOOK_SIDE / max(height, width)
    return image if share >= 1 else resize(image, (round(height * share), round(width * share)))


def _found(aligner: Aligner, split: Split, read: Callable[[Sample], Image], progress: Progress) -> AlignedSplit:
    parts: list[tuple[Sample, ...]] = []
    left_out: list[Sample] = []
    total, done = sum(map(len, (split.fit, split.early_stop, split.threshold))), 0
    for samples in (split.fit, split.early_stop, split.threshold):
        kept: list[Sample] = []
        for sample in samples:
            (kept if aligner.pose(read(sample)) is not None else left_out).append(sample)
            done += 1
            progress.update("Finding the part", done, total)
        parts.append(tuple(kept))
    _check(left_out, total, parts, progress)
    return AlignedSplit(aligner, Split(*parts), len(left_out))


def _check(left_out: Sequence[Sample], total: int, parts: Sequence[Sequence[Sample]], progress: Progress) -> None:
    """Tell which images were left out, and refuse to go on with too few."""
    for sample in left_out[:5]:
        progress.note(f"Left out {sample.name}: the part was not found.")
    if left_out:
        many = "Warning: " if len(left_out) > _MANY * total else ""
        progress.note(
            f"{many}{len(left_out)} of {total} good images were left out, because the part was not found in them."
        )
    fit, early_stop, threshold = map(len, parts)
    if not fit or early_stop < MIN_EARLY_STOP or threshold < MIN_THRESHOLD_IMAGES:
        raise DataError(
            f"The part was found in only {fit + early_stop + threshold} of {total} good images; too few remain.",
            hint="Look at the images that were left out, or train without --align.",
        )
