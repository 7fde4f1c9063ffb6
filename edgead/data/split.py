"""Split of good images into three parts: fit the model, stop the training, set the threshold."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from edgead.data.dataset import Sample
from edgead.errors import DataError

MIN_EARLY_STOP, MIN_THRESHOLD_IMAGES = 1, 5


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of the good images, each sorted by class and name.

    Attributes:
        fit: Images that the model is fitted to.
        early_stop: Images that decide when training stops.
        threshold: Images that set the threshold; used for nothing else.
    """

    fit: tuple[Sample, ...]
    early_stop: tuple[Sample, ...]
    threshold: tuple[Sample, ...]


def split_good(
    samples: Sequence[Sample], early_stop_fraction: float, threshold_fraction: float, seed: int = 0
) -> Split:
    """Split each class by a hash of the image names: the same split on every machine and for any order of samples.

    Counts are exact: the fractions of the images of a class, rounded. Near-duplicates, such as frames of one video, are
    not recognised here.

    Args:
        samples: Good images without exact copies, see `drop_copies`.
        early_stop_fraction: Share in 0..1; at least 1 image per class is taken.
        threshold_fraction: Share in 0..1; at least 5 images per class are taken, the minimum for a threshold.
        seed: Another seed gives another split.

    Raises:
        DataError: If a class has fewer than 7 images.
    """
    by_class: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.class_name].append(sample)
    fit: list[Sample] = []
    early_stop: list[Sample] = []
    threshold: list[Sample] = []
    for class_name, members in by_class.items():
        images = sorted(members, key=lambda sample: _rank(sample, seed))
        n = len(images)
        if n < MIN_THRESHOLD_IMAGES + MIN_EARLY_STOP + 1:
            raise DataError(
                f"Class {class_name} has {n} different good images; at least "
                f"{MIN_THRESHOLD_IMAGES + MIN_EARLY_STOP + 1} are needed to split them.",
                hint="Add images of good parts.",
            )
        n_threshold = min(max(MIN_THRESHOLD_IMAGES, round(n * threshold_fraction)), n - MIN_EARLY_STOP - 1)
        n_held = n_threshold + min(max(MIN_EARLY_STOP, round(n * early_stop_fraction)), n - n_threshold - 1)
        threshold += images[:n_threshold]
        early_stop += images[n_threshold:n_held]
        fit += images[n_held:]
    return Split(_sorted(fit), _sorted(early_stop), _sorted(threshold))


def _rank(sample: Sample, seed: int) -> str:
    # The relative name, not the class: a single class is named after its folder, which may be renamed.
    return hashlib.sha256(os.fsencode(f"{seed}\0{sample.name}")).hexdigest()


def _sorted(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: (sample.class_name, sample.name)))
