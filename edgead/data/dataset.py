"""Samples and data sets: the image files of a folder, with their classes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgead.printable import path_text

GOOD = "good"
_T = TypeVar("_T")
Point = tuple[float, float]


@dataclass(frozen=True)
class Polygon:
    """Outline of a defect in pixels, `(x, y)` from the image's upper left corner; pixel i spans i to i + 1."""

    points: tuple[Point, ...]


@dataclass(frozen=True)
class Line:
    """Open line along a defect, in pixels like those of `Polygon`.

    Attributes:
        points: Corners `(x, y)`; a single one is a dot.
        width_px: Width of the line, or diameter of the dot.
    """

    points: tuple[Point, ...]
    width_px: float


@dataclass(frozen=True)
class Bitmap:
    """Rectangular part of a mask: packed bits of `(height, width)` with its upper left corner in pixels."""

    left: int
    top: int
    size: tuple[int, int]
    bits: bytes


Shape = Polygon | Line | Bitmap


@dataclass(frozen=True)
class Mask:
    """Ground truth of one image: the union of mask files and drawn shapes.

    Attributes:
        files: Mask files.
        shapes: Outlines and bitmaps from an annotation file.
        origin: Annotation file of the shapes, for messages.
        size: `(height, width)` in pixels that the annotation file states for the image; None if it states none.
        background: RGB colour of pixels without a defect in `files`; None = the rule of `read_mask`.
    """

    files: tuple[Path, ...] = ()
    shapes: tuple[Shape, ...] = ()
    origin: Path | None = None
    size: tuple[int, int] | None = None
    background: tuple[int, int, int] | None = None

    @property
    def name(self) -> str:
        """Path for messages."""
        if len(self.files) > 1:
            return f"{self.files[0].parent} ({len(self.files)} files)"
        return str(self.files[0] if self.files else self.origin)


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Attributes:
        path: Image file.
        name: Path relative to the root of the data set, with forward slashes on every platform.
        class_name: Kind of part.
        gt_label: True for a defective part.
        defect: `"good"`, or the kind of defect.
        mask: Ground truth of the defect; None for good parts and for defects without a mask.
    """

    path: Path
    name: str
    class_name: str
    gt_label: bool = False
    defect: str = GOOD
    mask: Mask | None = None

    @property
    def mask_path(self) -> Path | None:
        """First file of the mask; None if there is none."""
        return next(iter(self.mask.files), None) if self.mask else None


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


def with_text_names(dataset: Dataset) -> Dataset:
    r"""Same data set with classes and kinds of defect that are text, which bundles and reports hold.

    They come from names of folders, whose bytes that are not UTF-8 become `\xNN`. Names of images stay as they are.
    """

    def renamed(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(
            replace(sample, class_name=path_text(sample.class_name), defect=path_text(sample.defect))
            for sample in samples
        )

    return replace(
        dataset,
        classes=tuple(map(path_text, dataset.classes)),
        train=renamed(dataset.train),
        test=renamed(dataset.test),
    )


def evenly_spaced(items: Sequence[_T], count: int) -> list[_T]:
    """Pick at most `count` items at even steps over a sequence."""
    if count == 0:
        return []
    if len(items) <= count:
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]
