"""Annotation files in a folder of images: which of them can be read, and which cannot."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgead.data.file_checks import beginning_of
from edgead.data.formats.annotation import Annotation, ImageNames, load_json
from edgead.data.formats.coco import is_coco, read_coco
from edgead.data.formats.cvat import is_cvat, read_cvat
from edgead.data.formats.label_tables import labels_images
from edgead.data.formats.labelme import is_labelme, read_labelme
from edgead.errors import DataError

_YOLO = re.compile(rb"\s*(?:\d+(?: [\d.eE+-]+){4,}\s*)+")
_MARKS = {"objects", "annotations", "bbox", "points", "regions", "labels"}


@dataclass
class Annotations:
    """Annotations of a data set.

    Attributes:
        by_image: Annotation of each image that has one.
        unread: Files that look like annotations or labels in a format that is not read, such as YOLO's or `labels.csv`.
        without_image: Annotation files whose image is not in the data set.
    """

    by_image: dict[Path, Annotation] = field(default_factory=dict)
    unread: list[Path] = field(default_factory=list)
    without_image: list[Path] = field(default_factory=list)


def read_annotations(root: Path, files: Iterable[Path], images: list[Path]) -> Annotations:
    """Read every annotation of labelme, COCO and CVAT among the files of a data set.

    Args:
        root: Folder of the data set.
        files: All files in it that are not images.
        images: All images in it that are not masks.

    Raises:
        DataError: If an annotation file does not fit its format, or two annotations disagree about an image.
    """
    found = Annotations()
    names = ImageNames(root, images)
    stems = {path.stem.casefold() for path in images} | {path.name.casefold() for path in images}
    for path in sorted(files):
        suffix = path.suffix.lower()
        if suffix == ".json":
            _read_json(path, load_json(path), names, stems, found)
        elif suffix == ".xml" and is_cvat(path):
            _merge(found, read_cvat(path, names))
        elif suffix in (".xml", ".txt") and path.stem.casefold() in stems and _looks_like_annotation(path):
            found.unread.append(path)
        elif labels_images(path, stems):
            found.unread.append(path)
    return found


def _read_json(path: Path, content: Any, names: ImageNames, stems: set[str], found: Annotations) -> None:
    if is_labelme(content):
        one = read_labelme(path, content, names)
        if one is None:
            found.without_image.append(path)
        else:
            _merge(found, {one[0]: one[1]})
    elif is_coco(content):
        _merge(found, read_coco(path, content, names))
    elif isinstance(content, dict) and path.stem.casefold() in stems and _MARKS & content.keys():
        found.unread.append(path)


def _merge(found: Annotations, more: dict[Path, Annotation]) -> None:
    for image, annotation in more.items():
        before = found.by_image.get(image)
        if before is not None and (before.shapes, before.label) != (annotation.shapes, annotation.label):
            raise DataError(
                f"The image {image} has two annotations that differ, in {before.origin} and {annotation.origin}.",
                hint="Move one of the two files away.",
            )
        found.by_image[image] = annotation


def _looks_like_annotation(path: Path) -> bool:
    content = beginning_of(path, 65_536)
    if path.suffix.lower() == ".xml":
        return b"<annotation" in content or b"<object" in content
    return bool(_YOLO.fullmatch(content.rsplit(b"\n", 1)[0] if len(content) == 65_536 else content))
