"""Collections from and to folders, COCO and labelme."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgead.data.collection import Entry
from edgead.data.dataset import Sample
from edgead.data.masks import read_mask
from edgead.data.reader import inspect_image
from edgead.data.snapshots import is_used, kind_folder, write_tree
from edgead.imaging import png_from_rgb
from edgead.progress import SILENT, Progress, tracked
from edgead.storage import write_bytes, write_json

Format = Literal["folders", "coco", "labelme"]
FORMATS: tuple[Format, ...] = get_args(Format)


def entry_of(sample: Sample) -> Entry:
    """Entry for an image of a data set in a known layout: good, or defective with its kind."""
    if not sample.gt_label:
        return Entry("", "", verdict="good", source=sample.name)
    return Entry("", "", verdict="defect", kind=sample.defect, source=sample.name)


def mask_png_of(sample: Sample) -> bytes | None:
    """Mask of an image's defects as PNG, white where the part is defective; None without a mask.

    Raises:
        DataError: If the image or its mask cannot be read.
    """
    if sample.mask is None:
        return None
    marked = read_mask(sample.mask, inspect_image(sample.path).size)
    return png_from_rgb(np.repeat((marked * np.uint8(255))[..., None], 3, axis=2))


def export_collection(
    folder: Path, entries: Sequence[Entry], out: Path, form: Format, progress: Progress = SILENT
) -> int:
    """Write the judged pictures of a collection; those judged unsure and unjudged ones are left out.

    Args:
        folder: Folder of the collection.
        entries: Its entries.
        out: New or empty folder.
        form: `folders`: `train/good`, `test/KIND`, `ground_truth/KIND`; `coco`: `images` and `annotations.json`; `labelme`:
            images with a JSON file beside each.
        progress: Receiver of progress.

    Returns:
        Number of pictures written.

    Raises:
        DataError: If a picture or a mask cannot be read.
        StorageError: If the disk is full.
    """
    used, task = [entry for entry in entries if is_used(entry)], "Writing pictures"
    if form == "folders":
        for entry in tracked(used, task, progress):
            write_tree(folder, [entry], out)
    elif form == "coco":
        _write_coco(folder, used, out, progress)
    else:
        for entry in tracked(used, task, progress):
            _write_labelme(folder, entry, out)
    return len(used)


def _write_coco(folder: Path, entries: Sequence[Entry], out: Path, progress: Progress) -> None:
    kinds = sorted({kind_folder(entry) for entry in entries if not entry.is_good})
    categories = {kind: number for number, kind in enumerate(kinds, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, entry in enumerate(tracked(entries, "Writing pictures", progress), start=1):
        source = folder / entry.path
        height, width = inspect_image(source).size
        write_bytes(out / "images" / source.name, source.read_bytes())
        images.append({"id": number, "file_name": f"images/{source.name}", "width": width, "height": height})
        if entry.is_good:
            continue
        annotation: dict[str, Any] = {
            "id": len(annotations) + 1, "image_id": number, "category_id": categories[kind_folder(entry)], "iscrowd": 0,
            "segmentation": [], "area": 0,
        }  # fmt: skip
        if entry.mask:
            marked = read_mask(folder / entry.mask, (height, width))
            left, top, wide, high = _box(marked)
            segmentation = {"size": [height, width], "counts": run_lengths(marked)}
            annotation |= {
                "segmentation": segmentation, "area": int(marked.sum()), "bbox": [left, top, wide, high], "iscrowd": 1,
            }  # fmt: skip
        annotations.append(annotation)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": kind} for kind, number in categories.items()],
    }
    write_json(out / "annotations.json", content)


def _write_labelme(folder: Path, entry: Entry, out: Path) -> None:
    source = folder / entry.path
    height, width = inspect_image(source).size
    write_bytes(out / source.name, source.read_bytes())
    shapes: list[dict[str, Any]] = []
    if entry.mask and not entry.is_good:
        marked = read_mask(folder / entry.mask, (height, width))
        left, top, wide, high = _box(marked)
        part = (marked[top : top + high, left : left + wide] * np.uint8(255))[..., None]
        encoded = base64.b64encode(png_from_rgb(np.repeat(part, 3, axis=2))).decode()
        points = [[left, top], [left + wide - 1, top + high - 1]]
        shapes.append({
            "label": kind_folder(entry), "points": points, "shape_type": "mask", "mask": encoded, "group_id": None, "flags": {},
        })  # fmt: skip
    content = {
        "version": "5.0.0", "flags": {"good" if entry.is_good else "defect": True}, "shapes": shapes,
        "imagePath": source.name, "imageData": None, "imageHeight": height, "imageWidth": width,
    }  # fmt: skip
    write_json(out / f"{source.stem}.json", content)


def run_lengths(marked: NDArray[np.bool_]) -> list[int]:
    """Run lengths of a mask `(height, width)` down its columns, beginning with background, as COCO writes them.

    >>> run_lengths(np.array([[False, True], [True, True]]))
    [1, 3]
    """
    flat = marked.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return [0, *lengths.tolist()] if flat.size and flat[0] else lengths.tolist()


def _box(marked: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, width and height of what is marked; of the first pixel if nothing is."""
    left, top, width, height = cv2.boundingRect(marked.astype(np.uint8))
    return left, top, max(width, 1), max(height, 1)


def is_empty_folder(folder: Path) -> bool:
    """Whether a folder does not exist, or has nothing in it."""
    return not folder.exists() or (folder.is_dir() and not list(folder.iterdir()))
