"""What a folder of images is to the rest of edgead: samples in classes."""

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
        path: The image file.
        name: Its path below the root of the data set, with forward slashes: the same on every machine.
        class_name: The kind of part.
        gt_label: True for a defective part.
        defect: `"good"`, or the kind of defect.
        mask_path: The mask of the defect; None for good parts and where there is none.
    """

    path: Path
    name: str
    class_name: str
    gt_label: bool = False
    defect: str = GOOD
    mask_path: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """The images below one root.

    Attributes:
        root: The folder that was searched.
        layout: The layout that was recognised, by its name.
        classes: Names of the classes, sorted.
        train: Good images to learn from, sorted by class and name; empty where a layout has only a test part.
        test: Labelled images, sorted by class and name; empty for a plain folder.
        description: One sentence that says what was recognised.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    description: str


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count` samples, evenly over the sequence."""
    if count == 0:
        return []
    if len(samples) <= count:
        return list(samples)
    return [samples[round(i)] for i in np.linspace(0, len(samples) - 1, count)]
