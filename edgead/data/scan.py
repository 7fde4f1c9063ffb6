"""A check of every image before training: readable, bit depth, size, digest."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgead.data.dataset import Sample
from edgead.data.reader import inspect_image, read_content, white_level_for
from edgead.errors import DataError

_MAX_THREADS = 4
_NAMED_IN_ERRORS = 5


@dataclass(frozen=True)
class Scan:
    """Result of checking every image.

    Attributes:
        readable: Samples that can be read, in the given order.
        broken: Samples that cannot be read, each with the reason.
        white_level: Argument for `read_image`: 255 if all images are 8-bit, else that of 10, 12, 14 or 16 bits.
        sizes: Number of readable images per `(height, width)` in pixels.
        digests: SHA-256 of each readable file.
    """

    readable: tuple[Sample, ...]
    broken: tuple[tuple[Sample, str], ...]
    white_level: int
    sizes: Counter[tuple[int, int]]
    digests: dict[Path, str]


def scan_images(
    samples: Sequence[Sample], *, min_good: int, progress: Callable[[int, int], None] | None = None
) -> Scan:
    """Decode every image once, on a few threads (OpenCV decodes in parallel).

    Args:
        samples: Images to check.
        min_good: Number of readable good images that each class needs; beyond it, broken images are not an error.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: If a class has fewer readable good images than `min_good`; the message lists the first broken files.
    """
    readable: list[Sample] = []
    broken: list[tuple[Sample, str]] = []
    digests: dict[Path, str] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    peak = 0
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for done, (sample, result) in enumerate(zip(samples, pool.map(_inspect, samples), strict=True), start=1):
            if isinstance(result, DataError):
                broken.append((sample, result.message))
            else:
                size, image_peak, digests[sample.path] = result
                readable.append(sample)
                sizes[size] += 1
                peak = max(peak, image_peak)
            if progress is not None:
                progress(done, len(samples))
    scan = Scan(tuple(readable), tuple(broken), white_level_for(peak), sizes, digests)
    _require_good(samples, scan, min_good)
    return scan


def data_digest(samples: Sequence[Sample], digests: Mapping[Path, str] | None = None) -> str:
    """SHA-256 over the sorted names and contents of the images, independent of where the folder lies.

    Args:
        samples: Images to digest.
        digests: SHA-256 per file, if a scan has already computed them; other files are read.
    """
    known = digests or {}
    total = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.name):
        content = known.get(sample.path) or hashlib.sha256(read_content(sample.path)).hexdigest()
        total.update(f"{sample.name}\0{content}\n".encode())
    return total.hexdigest()


def _inspect(sample: Sample) -> tuple[tuple[int, int], int, str] | DataError:
    try:
        return inspect_image(sample.path)
    except DataError as error:
        return error


def _require_good(samples: Sequence[Sample], scan: Scan, min_good: int) -> None:
    good = Counter(sample.class_name for sample in scan.readable if not sample.gt_label)
    for class_name in sorted({sample.class_name for sample in samples}):
        if good[class_name] >= min_good:
            continue
        reasons = [reason for sample, reason in scan.broken if sample.class_name == class_name]
        lines = "".join(f"\n  {reason}" for reason in reasons[:_NAMED_IN_ERRORS])
        more = f"\n  and {len(reasons) - _NAMED_IN_ERRORS} more" if len(reasons) > _NAMED_IN_ERRORS else ""
        listing = f" {len(reasons)} cannot be read:{lines}{more}" if reasons else ""
        raise DataError(
            f"Class {class_name} has {good[class_name]} readable good images; at least {min_good} are needed.{listing}",
            hint="Add images of good parts" + (" or repair the broken files." if reasons else "."),
        )
