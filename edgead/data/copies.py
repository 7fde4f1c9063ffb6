"""Copies of images: exact ones by the digest of their files, near ones by a small grey picture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from edgead.data.dataset import Sample
from edgead.imaging import Image

STORED_DIGITS = 16
SMALL_PX = 32
# Root mean square difference of small pictures, in grey levels. Measured on three sets of real parts: JPEG of quality 20 to
# 95 and sizes from half to 1.3 times give at most 2.0. Of all pairs of good images, 24 of 80,601 are closer among the solar
# cells (one cell photographed twice), 1 of 292,230 among the magnetic tiles, and none of 116,886 among the boards.
NEAR = 2.0
Copy = tuple[Sample, Sample]


def drop_copies(samples: Sequence[Sample], digests: Mapping[Path, str]) -> tuple[list[Sample], list[Copy]]:
    """Keep one sample of each digest: the first by class and name; the order of the samples does not matter.

    Args:
        samples: Images.
        digests: SHA-256 of each file.

    Returns:
        The samples that are kept, in the given order, and each dropped one with the sample that stands for it.
    """
    first: dict[str, Sample] = {}
    for sample in sorted(samples, key=lambda sample: (sample.class_name, sample.name)):
        first.setdefault(digests[sample.path], sample)
    kept = [sample for sample in samples if first[digests[sample.path]] is sample]
    copies = [(sample, first[digests[sample.path]]) for sample in samples if first[digests[sample.path]] is not sample]
    return kept, copies


def stored_digest(path: Path) -> str:
    """Digest of an image file as a bundle stores it: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:STORED_DIGITS]


def are_near_copies(first: Image, second: Image) -> bool:
    """Whether two images `(H, W, 3)` of one size are one picture, encoded, resized or taken in two ways.

    Parts in front of a fixed camera can look alike too at this size: compare only images whose features are similar.
    """
    small = [
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA)
        for image in (first, second)
    ]
    one, other = (picture.astype(np.float32) - picture.mean() for picture in small)
    return bool(np.sqrt(np.mean((one - other) ** 2)) < NEAR)
