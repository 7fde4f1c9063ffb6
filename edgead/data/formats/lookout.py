"""Manifests of Lookout for Vision: one JSON object per line with an image, its label and perhaps a mask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgead.data.dataset import GOOD, Mask, Sample
from edgead.data.file_checks import beginning_of
from edgead.data.folders import is_image, list_files
from edgead.data.formats.annotation import ImageNames
from edgead.data.formats.table import Table
from edgead.data.names import role_of, split_of
from edgead.errors import DataError

LAYOUT = "Lookout for Vision manifest"
_SUFFIXES = (".manifest", ".jsonl", ".json", ".txt", "")
_SNIFFED_BYTES = 4096
_CLASSIFICATION, _SEGMENTATION = "groundtruth/image-classification", "groundtruth/semantic-segmentation"


def read_lookout(root: Path) -> Table | None:
    """Read all manifests in a folder; None if it holds none.

    Images and masks are looked for in the folder by the ends of their addresses. A manifest whose name says `train` or
    `test` is that part; without such names all good images are for training and all images for the test.

    Raises:
        DataError: If a manifest is damaged, contradicts another, or none of its images are in the folder.
    """
    files = sorted(list_files(root))
    manifests = [path for path in files if _is_manifest(path)]
    if not manifests:
        return None
    images = [path for path in files if is_image(path)]
    names = ImageNames(root, images)
    class_name = root.resolve().name or "data"
    splits = {path: split_of(path.relative_to(root).with_suffix("").name) for path in manifests}
    table = Table(LAYOUT, has_parts=any(split is not None for split in splits.values()))
    missing: list[str] = []
    seen: dict[Path, bool] = {}
    skipped = 0
    for path in manifests:
        for number, entry in _entries(path):
            image = names.find(str(entry["source-ref"]), path)
            if image is None:
                missing.append(str(entry["source-ref"]))
                continue
            sample = _sample(root, path, number, class_name, image, entry, names)
            if image in seen:
                if seen[image] != sample.gt_label:
                    labels = ("an anomaly", "normal") if sample.gt_label else ("normal", "an anomaly")
                    raise DataError(
                        f"{path}, line {number}: {image} is {labels[0]} here and {labels[1]} in a line before.",
                        hint="Look at the image, and remove the line with the wrong label.",
                    )
                continue
            seen[image] = sample.gt_label
            is_train = splits[path] == "train" or not table.has_parts
            if not sample.gt_label and is_train:
                table.train.append(sample)
            elif splits[path] == "train":
                skipped += 1
            else:
                table.test.append(sample)
    if missing:
        if not seen:
            raise DataError(
                f"None of the {len(missing)} images of the manifests in {root} is there, the first: {missing[0]}.",
                hint="Copy the images from the bucket into the folder of the manifest, with their folders.",
            )
        table.notes.append(f"{len(missing)} images of the manifests are not in the folder, the first: {missing[0]}.")
    if skipped:
        table.notes.append(f"Left out: {skipped} defective images of the training part, which are not trained on.")
    return table


def _is_manifest(path: Path) -> bool:
    if path.suffix.lower() not in _SUFFIXES:
        return False
    beginning = beginning_of(path, _SNIFFED_BYTES).lstrip()
    return beginning.startswith(b"{") and b'"source-ref"' in beginning.split(b"\n", 1)[0]


def _entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        for number, line in enumerate(lines, start=1):
            if line.strip():
                entry = json.loads(line)
                if not isinstance(entry, dict) or "source-ref" not in entry:
                    raise ValueError("there is no source-ref")
                yield number, entry
    except (OSError, ValueError) as error:
        raise DataError(f"The manifest {path} cannot be read: {error}.", hint="Export it again.") from error


def _sample(
    root: Path, path: Path, number: int, class_name: str, image: Path, entry: dict[str, Any], names: ImageNames
) -> Sample:
    is_defective = _is_anomaly(path, number, entry)
    mask = _mask(path, entry, names) if is_defective else None
    name = image.relative_to(root).as_posix()
    return Sample(image, name, class_name, is_defective, _kind(entry) if is_defective else GOOD, mask)


def _is_anomaly(path: Path, number: int, entry: dict[str, Any]) -> bool:
    """Label of a line, under whatever name the labelling job gave it."""
    for key, metadata in entry.items():
        if not key.endswith("-metadata") or not isinstance(metadata, dict) or metadata.get("type") != _CLASSIFICATION:
            continue
        role = role_of(str(metadata.get("class-name", "")))
        if role in ("good", "defect"):
            return role == "defect"
        value = entry.get(key.removesuffix("-metadata"))
        if isinstance(value, int):
            return value != 0
    raise DataError(
        f"{path}, line {number}: no label says whether {entry['source-ref']} is normal or an anomaly.",
        hint="A line needs an attribute of the type groundtruth/image-classification with the class-name normal or anomaly.",
    )


def _mask(path: Path, entry: dict[str, Any], names: ImageNames) -> Mask | None:
    for key, metadata in _segmentations(entry):
        reference = entry.get(key)
        found = names.find(str(reference), path) if reference else None
        if found is not None:
            return Mask((found,), background=_background(metadata))
    return None


def _kind(entry: dict[str, Any]) -> str:
    for _, metadata in _segmentations(entry):
        labels = {str(value.get("class-name")) for value in _colours(metadata)} - {"BACKGROUND"}
        if len(labels) == 1:
            return labels.pop()
    return "anomaly"


def _segmentations(entry: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, metadata in entry.items():
        if key.endswith("-metadata") and isinstance(metadata, dict) and metadata.get("type") == _SEGMENTATION:
            yield key.removesuffix("-metadata"), metadata


def _colours(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    colours = metadata.get("internal-color-map")
    return [value for value in colours.values() if isinstance(value, dict)] if isinstance(colours, dict) else []


def _background(metadata: dict[str, Any]) -> tuple[int, int, int] | None:
    for value in _colours(metadata):
        text = str(value.get("hex-color", "")).lstrip("#")
        if str(value.get("class-name", "")).upper() == "BACKGROUND" and len(text) == 6:
            return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)
    # the service paints what is no anomaly white
    return 255, 255, 255
