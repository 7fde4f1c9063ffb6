"""Dividing good images into those that fit the model, stop the training and set the threshold."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.data.dataset import Sample
from edgead.errors import DataError

MIN_EARLY_STOP, MIN_THRESHOLD_IMAGES = 1, 5


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of the good images, each sorted by class and name.

    Attributes:
        fit: What the model learns from.
        early_stop: What says when to stop.
        threshold: Images that the threshold comes from; nothing else sees them.
    """

    fit: tuple[Sample, ...]
    early_stop: tuple[Sample, ...]
    threshold: tuple[Sample, ...]


def split_good(
    samples: Sequence[Sample],
    early_stop_fraction: float,
    threshold_fraction: float,
    seed: int = 0,
    digests: Mapping[Path, str] | None = None,
) -> Split:
    """Split each class by a hash of the images' names, so that it is the same on every machine and for any order.

    Counts are exact: the fractions, rounded, of the *different* pictures of a class. Copies of one picture go where
    the first of them goes; near-duplicates, such as frames of one video, are not recognised.

    Args:
        samples: Good images.
        early_stop_fraction: 0..1, at least 1 picture per class.
        threshold_fraction: 0..1, at least 5 pictures per class: a threshold needs them.
        seed: Another seed gives another split.
        digests: SHA-256 per file, from a scan; without it every file counts as a different picture.

    Raises:
        DataError: If a class has fewer than 7 different pictures.
    """
    by_class: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.class_name].append(sample)
    fit: list[Sample] = []
    early_stop: list[Sample] = []
    threshold: list[Sample] = []
    for class_name, members in by_class.items():
        pictures = _ranked_pictures(members, seed, digests or {})
        n = len(pictures)
        if n < MIN_THRESHOLD_IMAGES + MIN_EARLY_STOP + 1:
            raise DataError(
                f"Class {class_name} has {n} different good pictures ({len(members)} files); "
                f"at least {MIN_THRESHOLD_IMAGES + MIN_EARLY_STOP + 1} are needed to split them.",
                hint="Add images of good parts.",
            )
        n_threshold = min(max(MIN_THRESHOLD_IMAGES, round(n * threshold_fraction)), n - MIN_EARLY_STOP - 1)
        n_held = n_threshold + min(max(MIN_EARLY_STOP, round(n * early_stop_fraction)), n - n_threshold - 1)
        threshold += _flat(pictures[:n_threshold])
        early_stop += _flat(pictures[n_threshold:n_held])
        fit += _flat(pictures[n_held:])
    return Split(_sorted(fit), _sorted(early_stop), _sorted(threshold))


def _ranked_pictures(samples: Sequence[Sample], seed: int, digests: Mapping[Path, str]) -> list[list[Sample]]:
    """Samples grouped by content; groups ordered by the smallest hash of a name in them."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[digests.get(sample.path, str(sample.path))].append(sample)
    return sorted(groups.values(), key=lambda group: min(_rank(sample, seed) for sample in group))


def _rank(sample: Sample, seed: int) -> str:
    # The name below the root, not the class: a single class is named after its folder, which may be moved or renamed.
    return hashlib.sha256(f"{seed}\0{sample.name}".encode()).hexdigest()


def _flat(groups: Sequence[Sequence[Sample]]) -> list[Sample]:
    return [sample for group in groups for sample in group]


def _sorted(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: (sample.class_name, sample.name)))
