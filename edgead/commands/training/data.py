"""Good images of a training: found, checked and split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.config.root import Config
from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.dataset import Sample
from edgead.data.pseudo_defects import make_pseudo_defect
from edgead.data.reader import read_image
from edgead.data.scan import Scan, data_digest, scan_images
from edgead.data.size_report import size_warnings
from edgead.data.split import Split, split_good
from edgead.imaging import Image, resize
from edgead.manifest import Preprocessing
from edgead.progress import Progress


@dataclass(frozen=True)
class TrainingData:
    """Good images, split by use, and functions that read them."""

    root: Path
    description: str
    scan: Scan
    split: Split
    image_size: tuple[int, int]
    classes: tuple[str, ...]
    digest: str
    n_near_copies: int = 0

    @property
    def preprocessing(self) -> Preprocessing:
        """Rules by which every image becomes an input."""
        return Preprocessing.current(self.image_size, self.scan.white_level, self.scan.float_white_level)

    def read(self, sample: Sample) -> Image:
        """Read an image at input size, RGB."""
        return self._resized(read_image(sample.path, **self.preprocessing.reading))

    def read_pseudo(self, sample: Sample, donor: Sample, key: tuple[int, ...]) -> Image:
        """Make a pseudo-defective copy of an image at input size; `key` determines the change."""
        image, other = (read_image(s.path, **self.preprocessing.reading) for s in (sample, donor))
        changed, _ = make_pseudo_defect(image, other, np.random.default_rng(key))
        return self._resized(changed)

    def _resized(self, image: Image) -> Image:
        return resize(image, self.image_size, self.preprocessing.resize)


def fit_backbone(config: Config, progress: Progress) -> Config:
    """Settings with levels and an image size that fit the backbone, with a note for each change."""
    from edgead.models.backbone_fit import fit_to_backbone

    model, notes = fit_to_backbone(config.model)
    for note in notes:
        progress.note(note)
    return config.model_copy(update={"model": model})


def prepare_data(config: Config, progress: Progress) -> TrainingData:
    """Find, check and split the good images.

    Raises:
        DataError: If there are too few readable ones.
    """
    roles = FolderRoles(config.data.good, config.data.bad, config.data.masks)
    dataset = choose_dataset(config.data.root, roles)
    progress.note(dataset.description)
    scan = scan_images(
        dataset.train,
        min_good=config.train.min_images,
        white_level=config.data.white_level,
        progress=lambda done, total: progress.update("Reading images", done, total),
    )
    for sample, reason in scan.broken[:5]:
        progress.note(f"Left out {sample.name}: {reason}")
    if scan.broken:
        progress.note(f"{len(scan.broken)} of {len(dataset.train)} images cannot be read and were left out.")
    if scan.copies:
        copy, original = scan.copies[0]
        progress.note(
            f"{len(scan.copies)} of {len(dataset.train)} images are exact copies of others, such as {copy.name} of "
            f"{original.name}, and were left out; {len(scan.readable)} different ones remain."
        )
    side = config.model.image_size
    for note in (*scan.notes, *size_warnings(scan.sizes, (side, side))):
        progress.note(note)
    split = split_good(scan.readable, config.data.early_stop_fraction, config.data.threshold_fraction)
    progress.note(
        f"Good images: {len(split.fit)} to learn from, {len(split.early_stop)} to stop by, "
        f"{len(split.threshold)} for the threshold."
    )
    digest = data_digest(scan.readable, scan.digests)
    return TrainingData(dataset.root, dataset.description, scan, split, (side, side), dataset.classes, digest)
