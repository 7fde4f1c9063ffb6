"""Known defects of a training: found, checked, and kept apart from the good images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgead.aligner import Aligner
from edgead.config.model import CLOSED_FORM
from edgead.config.root import Config
from edgead.data.chosen import choose_defects
from edgead.data.copies import STORED_DIGITS, stored_digest
from edgead.data.dataset import Dataset, Sample
from edgead.data.mask_check import check_masks
from edgead.data.reader import image_size
from edgead.data.scan import Scan, data_digest, scan_images
from edgead.data.snapshots import snapshot_of
from edgead.errors import ConfigError, DataError
from edgead.imaging import Image
from edgead.printable import path_text
from edgead.progress import Progress

# Known defects that it takes to decide anything.
LEAST = 5
NAMED = 5
# Largest factor between a side of a known defect's picture and those of the good images.
SIZE_FACTOR = 1.5


@dataclass(frozen=True)
class KnownDefects:
    """Pictures of known defects, none of which is a good image of the training.

    Attributes:
        samples: The pictures, at least one, by kind and name.
        digests: SHA-256 of each file.
    """

    samples: tuple[Sample, ...]
    digests: Mapping[Path, str]

    @property
    def decide(self) -> bool:
        """Whether there are enough of them to take part in the choice of the model's form."""
        return len(self.samples) >= LEAST

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents, wherever the folder lies."""
        return data_digest(self.samples, self.digests)

    @property
    def stored_digests(self) -> tuple[str, ...]:
        """Digests as a bundle stores them."""
        return tuple(sorted(self.digests[sample.path][:STORED_DIGITS] for sample in self.samples))

    def with_part(self, aligner: Aligner, read: Callable[[Sample], Image], progress: Progress) -> KnownDefects | None:
        """Those in which the part is found, with a note of the others; None if there are none.

        Args:
            aligner: Alignment of every image.
            read: Function that reads an image, not aligned.
            progress: Receiver of notes and progress.
        """
        kept = []
        for done, sample in enumerate(self.samples, start=1):
            if aligner.pose(read(sample)) is not None:
                kept.append(sample)
            progress.update("Finding the part in known defects", done, len(self.samples))
        if len(kept) < len(self.samples):
            progress.note(
                f"{len(self.samples) - len(kept)} of {len(self.samples)} known defects are left out, because the part was not "
                "found in them."
            )
        return replace(self, samples=tuple(kept)) if kept else None


def find_known_defects(
    config: Config, dataset: Dataset, good: Scan, progress: Progress
) -> tuple[KnownDefects | None, Scan]:
    """Known defects that the settings name, or those of a data set of judged pictures.

    Args:
        config: All settings.
        dataset: Data set of the training.
        good: Checked good images.
        progress: Receiver of notes and progress.

    Returns:
        The known defects, None without any; and the good images without those that are known defects at once.

    Raises:
        ConfigError: If known defects are named, and the model is not one whose form they could choose.
        DataError: If a named folder is missing or holds no usable picture, or too few good images remain.
    """
    samples = _named_samples(config, dataset, progress)
    if not samples:
        return None, good
    found = scan_images(
        samples,
        min_good=0,
        white_level=good.white_level,
        progress=lambda done, total: progress.update("Reading known defects", done, total),
    )
    for sample, reason in found.broken[:NAMED]:
        progress.note(f"Left out the known defect {path_text(sample.name)}: {reason}")
    both = {found.digests[sample.path] for sample in found.readable} & set(good.digests.values())
    own = [sample for sample in found.readable if found.digests[sample.path] not in both]
    good = _without(good, both, found, config.train.min_images, progress)
    own = _of_fitting_size(own, good, progress)
    if not own:
        raise DataError(
            f"None of the {len(samples)} known defects can be used: {len(found.broken)} cannot be read, {len(both)} are good "
            "images at once, and the others have another size than the good images.",
            hint="Give pictures as the camera takes them, each of a part with a defect.",
        )
    masks = check_masks(own)
    for name, reason in masks.bad[:NAMED]:
        progress.note(f"Left out the mask {name} of a known defect: {reason}")
    known = KnownDefects(masks.samples, found.digests)
    _note_counts(known, dataset, is_snapshot=not config.data.known_defects, progress=progress)
    return known, good


def _named_samples(config: Config, dataset: Dataset, progress: Progress) -> tuple[Sample, ...]:
    folders = config.data.known_defects
    if config.model.couplings != "never" or config.model.start == CLOSED_FORM:
        if folders:
            raise ConfigError(
                f"--known-defects: known defects choose the form of the default model, usf in closed form; this training is of "
                f"{config.model.name}{'' if config.model.start == CLOSED_FORM else ' with trained couplings'}.",
                hint="Leave out --known-defects and measure with them afterwards: edgead eval. Of a model of many classes, train one "
                "class by itself: --data FOLDER_OF_THE_CLASS.",
            )
        return ()
    if folders:
        samples, notes = choose_defects(config.data.root, folders)
        for note in notes:
            progress.note(f"Known defects: {note}")
        return samples
    if not config.data.judged_defects or snapshot_of(dataset.root) is None:
        return ()
    return tuple(sample for sample in dataset.test if sample.gt_label)


def _without(good: Scan, both: set[str], found: Scan, min_good: int, progress: Progress) -> Scan:
    """Good images that are no known defects; a picture that is called both is of no use for either."""
    if not both:
        return good
    kept = tuple(sample for sample in good.readable if good.digests[sample.path] not in both)
    first = next(sample for sample in found.readable if found.digests[sample.path] in both)
    progress.note(
        f"Warning: {len(both)} known defects are also among the good images, such as {path_text(first.name)}. They are left out "
        "of both: say which they are by leaving them in one folder alone."
    )
    if len(kept) < min_good:
        raise DataError(
            f"{len(kept)} good images remain that are no known defects; at least {min_good} are needed.",
            hint="Give the folder of the defects as --known-defects, and good images as --data.",
        )
    return replace(good, readable=kept)


def _of_fitting_size(samples: Sequence[Sample], good: Scan, progress: Progress) -> list[Sample]:
    """Pictures about as large as the good ones: a part cut out of a picture looks like nothing that the camera will show."""
    limits = [(min(sides) / SIZE_FACTOR, max(sides) * SIZE_FACTOR) for sides in zip(*good.sizes, strict=True)]
    kept: list[tuple[Sample, tuple[int, int]]] = []
    others: list[tuple[Sample, tuple[int, int]]] = []
    for sample in samples:
        size = image_size(sample.path)
        fits = all(low <= side <= high for side, (low, high) in zip(size, limits, strict=True))
        (kept if fits else others).append((sample, size))
    if others:
        sample, (height, width) = others[0]
        usual_height, usual_width = good.sizes.most_common(1)[0][0]
        progress.note(
            f"Warning: {len(others)} of {len(samples)} known defects are left out, because their pictures have another size or shape "
            f"than the good images ({usual_width} x {usual_height} px), such as {path_text(sample.name)} ({width} x {height} px). Give "
            "pictures as the camera takes them, not parts of them."
        )
    return [sample for sample, _ in kept]


def _note_counts(known: KnownDefects, dataset: Dataset, *, is_snapshot: bool, progress: Progress) -> None:
    n, what = len(known.samples), "of the data set" if is_snapshot else "of --known-defects"
    if known.decide:
        text = f"{n} known defects {what} help to choose the form of the model; its thresholds come from good images alone."
    else:
        text = (
            f"{n} known defects {what} are judged and decide nothing, which takes {LEAST}; artificial defects choose."
        )
    if is_snapshot:
        also = n
        text += " --set data.judged_defects=false leaves them to edgead eval."
    else:
        also = sum(_is_among(sample, set(known.stored_digests)) for sample in dataset.test)
    if also:
        text += f" {also} of them are test images too: edgead eval leaves them out of its figures."
    progress.note(text)


def _is_among(sample: Sample, digests: set[str]) -> bool:
    try:
        return stored_digest(sample.path) in digests
    except OSError:  # a test image that cannot be read is none of this training's business
        return False
