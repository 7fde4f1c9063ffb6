"""Check of all masks of a data set before they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from edgead.data.dataset import Sample
from edgead.data.masks import read_mask
from edgead.data.reader import image_size
from edgead.errors import DataError
from edgead.imaging import Decoding

_MAX_THREADS = 4


@dataclass(frozen=True)
class MaskCheck:
    """Result of checking the masks of a data set.

    Attributes:
        samples: The samples, without the masks that cannot be used.
        bad: Masks that cannot be used, each with the reason.
        warnings: Sentences about masks that are used and look wrong.
    """

    samples: tuple[Sample, ...]
    bad: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def check_masks(
    samples: Sequence[Sample],
    progress: Callable[[int, int], None] | None = None,
    *,
    decoding: Decoding = "upright",
) -> MaskCheck:
    """Read every mask once, and leave out those that cannot be used; an image that cannot be read keeps its mask.

    Args:
        samples: Labelled images.
        progress: Called with the number of masks done and the total.
        decoding: How the images are read, on which their sizes depend.
    """
    masked = [sample for sample in samples if sample.mask is not None]
    check = partial(_check, decoding=decoding)
    bad: dict[Path, str] = {}
    inverted: list[str] = []
    empty: list[str] = []
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        for done, (sample, result) in enumerate(zip(masked, pool.map(check, masked), strict=True), start=1):
            assert sample.mask is not None
            if isinstance(result, DataError):
                bad[sample.path] = result.message
            elif result is not None:
                share, at_border = result
                if share > 0.5 and at_border > 0.5:
                    inverted.append(f"{sample.mask.name} marks {share:.0%} of its image, and most of the border")
                elif share == 0:
                    empty.append(sample.mask.name)
            if progress is not None:
                progress(done, len(masked))
    warnings = []
    if inverted:
        warnings.append(
            f"Warning: {len(inverted)} of {len(masked)} masks look inverted, the first: {inverted[0]}. "
            "In a mask, 0 (black) is good and everything else is defect."
        )
    if empty:
        warnings.append(
            f"Warning: {len(empty)} masks of defective images mark nothing, the first: {empty[0]}. These images count "
            "as defective without a mask."
        )
    kept = tuple(replace(sample, mask=None) if sample.path in bad else sample for sample in samples)
    named = tuple((sample.mask.name, bad[sample.path]) for sample in masked if sample.path in bad and sample.mask)
    return MaskCheck(kept, named, tuple(warnings))


def _check(sample: Sample, decoding: Decoding) -> tuple[float, float] | DataError | None:
    """Marked share of the image and of its border; None if the image cannot be read, which scoring reports."""
    try:
        size = image_size(sample.path, decoding)
    except DataError:
        return None
    assert sample.mask is not None
    try:
        marked = read_mask(sample.mask, size)
    except DataError as error:
        return error
    border = np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]])
    return float(marked.mean()), float(border.mean())
