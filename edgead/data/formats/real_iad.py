"""Real-IAD layout: a JSON file per class assigns every image to training or test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgead.data.dataset import GOOD, Mask, Sample
from edgead.data.folders import subfolders
from edgead.data.formats.annotation import load_json
from edgead.data.formats.table import Table
from edgead.errors import DataError

LAYOUT = "Real-IAD"
_JSONS = "realiad_jsons"
_DEPTH = 2


def read_real_iad(root: Path) -> Table | None:
    """Read the classes of Real-IAD in a folder; None if it holds none.

    The folder is the whole data set, the folder of one resolution (`realiad_1024`), or that of one class. The JSON files
    lie in it or in a folder beside it; of several sets of them `realiad_jsons` counts.

    Raises:
        DataError: If a JSON file differs from those that Real-IAD ships, images are missing, or the set of JSON files is
            ambiguous.
    """
    files = _json_files(root)
    if not files:
        return None
    table = Table(LAYOUT)
    skipped = 0
    for path, content in files:
        home = _images_of(root, path, content)
        if home is None:
            continue
        class_name = path.stem
        normal = str(content["meta"]["normal_class"])
        for part in ("train", "test"):
            for entry in content.get(part, []):
                sample = _sample(root, home, path, class_name, normal, entry)
                if part == "train" and sample.gt_label:
                    skipped += 1
                else:
                    (table.train if part == "train" else table.test).append(sample)
    if not table.train and not table.test:
        return None
    if skipped:
        table.notes.append(f"Left out: {skipped} defective images of the training part, which are not trained on.")
    _require_files(root, table)
    return table


def _json_files(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """JSON files of Real-IAD below the root, or of the root's class in a folder beside it."""
    found = list(_real_iad_files(root, _DEPTH))
    if not found:
        resolved = root.resolve()
        for parent in list(resolved.parents)[:2]:
            candidates = [folder for folder in subfolders(parent) if folder.name.startswith(_JSONS)]
            found = [item for folder in candidates for item in _real_iad_files(folder, 1)]
            if found:
                single = [item for item in found if item[0].stem == resolved.name]
                found = single or found
                break
    sets = sorted({path.parent for path, _ in found})
    if len(sets) > 1:
        named = [folder for folder in sets if folder.name == _JSONS]
        if len(named) != 1 and len({path.stem for path, _ in found}) < len(found):
            raise DataError(
                f"{root} has {len(sets)} sets of JSON files of Real-IAD: {', '.join(folder.name for folder in sets)}.",
                hint=f"Keep one, or name it {_JSONS}.",
            )
        found = [item for item in found if item[0].parent == named[0]] if named else found
    return sorted(found, key=lambda item: item[0].as_posix())


def _real_iad_files(folder: Path, depth: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob("*.json")):
        content = load_json(path)
        meta = content.get("meta") if isinstance(content, dict) else None
        if isinstance(meta, dict) and "normal_class" in meta:
            yield path, content
    if depth:
        for part in subfolders(folder):
            yield from _real_iad_files(part, depth - 1)


def _images_of(root: Path, path: Path, content: dict[str, Any]) -> Path | None:
    """Folder that the image paths of a JSON file are relative to; None if it is not here."""
    prefix = str(content["meta"].get("prefix", "")).strip("/")
    first = next(
        (entry for part in ("train", "test") for entry in content.get(part, []) if isinstance(entry, dict)), None
    )
    if first is None:
        return None
    resolved = root.resolve()
    below = [folder for folder in subfolders(root) if folder.name.startswith("realiad_") and _JSONS not in folder.name]
    below.sort(key=lambda folder: int("".join(filter(str.isdigit, folder.name)) or 0), reverse=True)
    homes = [*(folder / prefix for folder in below), root / prefix, path.parent / prefix, path.parent]
    if resolved.name == Path(prefix).name:
        homes.append(root)
    image = str(first.get("image_path", ""))
    present = [home for home in homes if (home / image).is_file()]
    if present:
        return present[0]
    if path.is_relative_to(root):
        raise DataError(
            f"The images that {path} lists are missing, the first: {homes[0] / image}.",
            hint="Unpack the images of one resolution, for example realiad_1024, beside the JSON files.",
        )
    return None


def _sample(root: Path, home: Path, table: Path, class_name: str, normal: str, entry: dict[str, Any]) -> Sample:
    try:
        image, kind = home / str(entry["image_path"]), str(entry["anomaly_class"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{table} has an entry without {error}.", hint="Use the files that Real-IAD ships.") from error
    is_defective = kind != normal
    mask = Mask((home / str(entry["mask_path"]),)) if is_defective and entry.get("mask_path") else None
    return Sample(
        image, image.relative_to(root).as_posix(), class_name, is_defective, kind if is_defective else GOOD, mask
    )


def _require_files(root: Path, table: Table) -> None:
    paths = [
        path
        for sample in (*table.train, *table.test)
        for path in (sample.path, *(sample.mask.files if sample.mask else ()))
    ]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(paths)} files that the JSON files of {root} list are missing, the first: {missing[0]}.",
            hint="Unpack the complete archives of these classes.",
        )
