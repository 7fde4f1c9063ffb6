"""Annotations in COCO's JSON: one file for many images."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from edgead.data.dataset import Polygon, Shape
from edgead.data.formats.annotation import Annotation, ImageNames, broken, kind_of, marks_defect
from edgead.data.shapes import bitmap, counts_from_text, from_run_lengths, rectangle

TOOL = "COCO"


def is_coco(content: Any) -> bool:
    """Whether parsed JSON is a COCO file."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("images"), list)
        and isinstance(content.get("annotations"), list)
    )


def read_coco(path: Path, content: dict[str, Any], names: ImageNames) -> dict[Path, Annotation]:
    """Annotations of the images that are in the data set; a listed image without annotations has no defect.

    Outlines and run lengths are used where there are any, else boxes. Categories that name good parts mark no defect.

    Raises:
        DataError: If the content does not fit the format.
    """
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
        drawn: dict[Any, list[tuple[str, list[Shape]]]] = defaultdict(list)
        for entry in content["annotations"]:
            label = categories.get(entry.get("category_id"), "defect")
            if marks_defect(label):
                drawn[entry["image_id"]].append((label, _shapes(entry)))
        found: dict[Path, Annotation] = {}
        for image in content["images"]:
            target = names.find(str(image["file_name"]), path)
            if target is None:
                continue
            parts = drawn.get(image["id"], [])
            shapes = tuple(shape for _, shapes in parts for shape in shapes)
            size = (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None
            kind = kind_of([label for label, _ in parts])
            found[target] = Annotation(path, TOOL, shapes, size, "defect" if parts else None, kind)
    except (KeyError, TypeError, ValueError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise broken(path, why, TOOL) from error
    return found


def _shapes(entry: dict[str, Any]) -> list[Shape]:
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, dict):
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        runs = counts_from_text(counts) if isinstance(counts, str) else [int(count) for count in counts]
        return [bitmap(0, 0, from_run_lengths(runs, (height, width), by_column=True))]
    if segmentation:
        return [
            Polygon(tuple(zip(map(float, ring[::2]), map(float, ring[1::2]), strict=True))) for ring in segmentation
        ]
    if "bbox" in entry:
        left, top, wide, high = (float(value) for value in entry["bbox"])
        return [rectangle(left, top, left + wide, top + high)]
    return []
