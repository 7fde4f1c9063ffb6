"""Copies of images: exact ones by the digest of their files, near ones by a small grey picture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.dataset import Sample
from edgead.imaging import Image

STORED_DIGITS = 16
SMALL_PX = 32
# Root mean square difference of small pictures, in grey levels, that no copy exceeds: JPEG of quality 20 gives at most 1.7 on
# three sets of real parts. Smooth pictures change less (solar cells: 1.2), and parts of one lot may differ by no more than
# 1.2 there, so that each picture's own copies are the measure.
NEAR = 2.0
POOR_QUALITY, FAIR_QUALITY = 20, 50
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

    They are if they differ by no more than one of them differs from its own copy, as JPEG of quality 20, or at half its size
    and quality 50. Parts in front of a fixed camera can look alike too: compare only images whose features are similar.
    """
    one, other = _small(first), _small(second)
    difference = _distance(one, other)
    return difference < NEAR and (
        difference <= _change_by_copying(first, one) or difference <= _change_by_copying(second, other)
    )


def _change_by_copying(image: Image, small: NDArray[np.float32]) -> float:
    h, w = image.shape[:2]
    half = np.asarray(cv2.resize(image, (max(1, w // 2), max(1, h // 2)), interpolation=cv2.INTER_AREA), np.uint8)
    copies = (_encoded(image, POOR_QUALITY), _encoded(half, FAIR_QUALITY))
    return max(_distance(small, _small(copy)) for copy in copies)


def _encoded(image: Image, quality: int) -> Image:
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)


def _small(image: Image) -> NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(small - small.mean(), np.float32)


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))
