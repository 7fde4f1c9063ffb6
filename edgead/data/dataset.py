"""What a folder of images is to the rest of edgead: samples in classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
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


def is_image(path: Path) -> bool:
    """Whether the file's name is that of an image; hidden files (such as macOS's `._*`) are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """Every image in `folder` and below, sorted by its path below `folder`; hidden folders are left out."""
    images = [path for path in list_files(folder) if is_image(path)]
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def list_files(folder: Path) -> Iterator[Path]:
    """Every file in `folder` and below, in no particular order; hidden folders are left out."""
    seen = set()  # links are followed, so a link to a parent would never end
    for parent, folders, files in os.walk(folder, followlinks=True):
        resolved = os.path.realpath(parent)
        if resolved in seen:
            folders.clear()
            continue
        seen.add(resolved)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            yield Path(parent, name)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in `folder` that are not hidden, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")), key=str)


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count` samples, evenly over the sequence."""
    if count == 0:
        return []
    if len(samples) <= count:
        return list(samples)
    return [samples[round(i)] for i in np.linspace(0, len(samples) - 1, count)]
