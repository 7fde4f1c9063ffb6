"""A check of every image before training: readable, bit depth, size, digest."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from edgead.data.copies import Copy, drop_copies
from edgead.data.dataset import Sample
from edgead.data.file_checks import read_content
from edgead.data.reader import Inspection, inspect_image
from edgead.data.white_level import Depth, find_white_levels
from edgead.errors import DataError

_MAX_THREADS = 4
_NAMED_IN_ERRORS = 5


@dataclass(frozen=True)
class Scan:
    """Result of checking every image.

    Attributes:
        readable: Samples that can be read, in the given order; of several files with the same bytes one is kept.
        broken: Samples that cannot be read, each with the reason.
        white_level: Argument for `read_image`, see `find_white_levels`; 255 if all images are 8-bit.
        sizes: Number of readable images per `(height, width)` in pixels.
        digests: SHA-256 of each file that can be read, copies included.
        float_white_level: Argument for `read_image`; None if no image holds floats.
        notes: Sentences about bit depths, orientations and pages.
        copies: Left-out samples with the same bytes as another one, each with that other one.
        sizes_by_class: The same as `sizes` for each class.
    """

    readable: tuple[Sample, ...]
    broken: tuple[tuple[Sample, str], ...]
    white_level: float
    sizes: Counter[tuple[int, int]]
    digests: dict[Path, str]
    float_white_level: float | None = None
    notes: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    sizes_by_class: dict[str, Counter[tuple[int, int]]] = field(default_factory=dict)


def scan_images(
    samples: Sequence[Sample],
    *,
    min_good: int,
    white_level: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Decode every image once, on a few threads (OpenCV decodes in parallel).

    Args:
        samples: Images to check.
        min_good: Number of readable good images that each class needs; beyond it, broken images are not an error.
        white_level: White level that the user chose; None = found from the images.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: If a class has fewer different readable good images than `min_good`; the message lists the first
            broken files and counts the copies.
    """
    readable: list[Sample] = []
    broken: list[tuple[Sample, str]] = []
    digests: dict[Path, str] = {}
    sizes: defaultdict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    depths: list[Depth] = []
    facts: Counter[str] = Counter()
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for done, (sample, result) in enumerate(zip(samples, pool.map(_inspect, samples), strict=True), start=1):
            if isinstance(result, DataError):
                broken.append((sample, result.message))
            else:
                digests[sample.path] = result.digest
                readable.append(sample)
                sizes[sample.class_name][result.size] += 1
                facts.update(turned=result.is_turned, paged=result.has_more)
                if result.depth != "8":
                    depths.append(
                        Depth(sample.name, sample.class_name, result.depth == "float", result.peak, result.largest)
                    )
            if progress is not None:
                progress(done, len(samples))
    white = find_white_levels(depths, white_level)
    notes = (*white.notes, *_container_notes(facts, len(readable)))
    kept, copies = drop_copies(readable, digests)
    total = sum(sizes.values(), Counter())
    scan = Scan(
        tuple(kept), tuple(broken), white.integer, total, digests, white.floating, notes, tuple(copies), dict(sizes)
    )
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
        total.update(os.fsencode(f"{sample.name}\0{content}\n"))
    return total.hexdigest()


def _container_notes(facts: Mapping[str, int], total: int) -> Iterator[str]:
    if turned := facts["turned"]:
        yield f"{turned} of {total} images are turned upright by their EXIF orientation."
    if paged := facts["paged"]:
        yield f"{paged} of {total} images are files of several pages: the first page of each is read."


def _inspect(sample: Sample) -> Inspection | DataError:
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
        n_copies = sum(copy.class_name == class_name and not copy.gt_label for copy, _ in scan.copies)
        also = f" that differ ({n_copies} more are exact copies)" if n_copies else ""
        raise DataError(
            f"Class {class_name} has {good[class_name]} readable good images{also}; at least {min_good} are needed."
            f"{listing}",
            hint="Add images of good parts"
            + (" or repair the broken files." if reasons else ".")
            + " About ten are enough for edgead teach.",
        )
