"""Samples and data sets: the image files of a folder, with their classes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GOOD = "good"


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Attributes:
        path: Image file.
        name: Path relative to the root of the data set, with forward slashes on every platform.
        class_name: Kind of part.
        gt_label: True for a defective part.
        defect: `"good"`, or the kind of defect.
        mask_path: Mask of the defect; None for good parts and for defects without a mask.
    """

    path: Path
    name: str
    class_name: str
    gt_label: bool = False
    defect: str = GOOD
    mask_path: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """All images below one root folder.

    Attributes:
        root: Folder that was searched.
        layout: Name of the recognised layout.
        classes: Class names, sorted.
        train: Good training images, sorted by class and name; empty if the layout has only a test part.
        test: Labelled images, sorted by class and name; empty for a plain folder.
        description: One sentence about what was recognised, for users.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    description: str


def evenly_spaced(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Pick at most `count` samples at even steps over the sequence."""
    if count == 0:
        return []
    if len(samples) <= count:
        return list(samples)
    return [samples[round(i)] for i in np.linspace(0, len(samples) - 1, count)]
