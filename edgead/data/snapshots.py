"""Snapshots of a collection: an immutable list of its judged pictures, named by its own digest, as a folder to train on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.bundle_files import file_digest
from edgead.data.collection import Entry
from edgead.data.names import role_of
from edgead.errors import DataError
from edgead.progress import SILENT, Progress, tracked
from edgead.storage import json_bytes, replace_folder, scratch_folder, storage_error, write_bytes

SNAPSHOTS = "snapshots"
FILE = "snapshot.json"
_DIGITS = 16
_UNSAFE = re.compile(r"[^\w. -]")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk.

    Attributes:
        folder: Its folder, `snapshots/<name>` of the collection.
        digest: SHA-256 over verdict, kind and digests of every picture, hexadecimal.
        part: Name of the data set, which becomes the class of the parts.
        n_good, n_defects: Number of pictures to learn from, and to test with.
    """

    folder: Path
    digest: str
    part: str
    n_good: int
    n_defects: int

    @property
    def name(self) -> str:
        return self.digest[:_DIGITS]

    @property
    def root(self) -> Path:
        """Folder to train on: good pictures in `train/good`, defects in `test`, masks in `ground_truth`."""
        return self.folder / self.part


def is_used(entry: Entry) -> bool:
    """Whether a snapshot has this picture: it was judged good, a false alarm or a defect."""
    return entry.is_good or entry.verdict == "defect"


def kind_folder(entry: Entry) -> str:
    """Name of the folder of a defect: its kind, or `defect` where that says nothing or something else."""
    name = _UNSAFE.sub("_", entry.kind).strip(" .")[:64]
    return "defect" if not name or role_of(name) not in (None, "defect") else name


def make_snapshot(folder: Path, entries: Iterable[Entry], progress: Progress = SILENT) -> Snapshot:
    """Make the snapshot of a collection's present content, or find the one that is there.

    Pictures are hard links where the disk has them, so that a snapshot costs little and stays whole when the collection
    changes.

    Args:
        folder: Folder of the collection.
        entries: Its entries.
        progress: Receiver of progress.

    Raises:
        DataError: If a picture is missing or has changed, none was judged good, or the snapshot that is there is damaged.
        StorageError: If the disk is full.
    """
    used = sorted((entry for entry in entries if is_used(entry)), key=lambda entry: entry.digest)
    if not any(entry.is_good for entry in used):
        raise DataError(
            f"{folder} has no picture that was judged good or a false alarm.",
            hint="Add some: edgead dataset add DATASET PICTURES --as good",
        )
    pictures = [_line(folder, entry) for entry in tracked(used, "Checking pictures", progress)]
    digest = _digest(pictures)
    final = folder / SNAPSHOTS / digest[:_DIGITS]
    if (final / FILE).is_file():
        found = read_snapshot(final)
        check_snapshot(found)
        return found
    part = _UNSAFE.sub("_", folder.resolve().name) or "part"
    # the number of links, not the pictures themselves, is what it costs
    with scratch_folder(folder / SNAPSHOTS, "new") as scratch:
        write_tree(folder, used, scratch / part, link=True)
        content = {"digest": digest, "part": part, "pictures": pictures}
        write_bytes(scratch / FILE, json_bytes(content))
        replace_folder(scratch, final)
    return read_snapshot(final)


def find_snapshot(folder: Path, name: str) -> Snapshot:
    """A snapshot by its name, or the beginning of its digest.

    Raises:
        DataError: If there is none, or several begin like that, or it is damaged.
    """
    found = [one for one in snapshots(folder) if one.digest.startswith(name)] if name else []
    if len(found) != 1:
        names = ", ".join(one.name for one in found or snapshots(folder)) or "none"
        raise DataError(
            f"{folder} has {len(found)} snapshots that begin with {name!r}: {names}."
            if found
            else f"{folder} has no snapshot {name!r}; it has: {names}.",
            hint="Give the whole name of one of them."
            if found
            else f"Name one of these, or make one of the present pictures: edgead dataset snapshot {folder}",
        )
    check_snapshot(found[0])
    return found[0]


def snapshots(folder: Path) -> list[Snapshot]:
    """Snapshots of a collection, by name."""
    return [read_snapshot(path) for path in snapshot_folders(folder)]


def snapshot_folders(folder: Path) -> list[Path]:
    """Folders of the snapshots of a collection, by name, whether or not they are whole."""
    found = sorted((folder / SNAPSHOTS).glob(f"*/{FILE}"))
    return [path.parent for path in found if not path.parent.name.startswith(".")]


def read_snapshot(folder: Path) -> Snapshot:
    """Read the list of a snapshot.

    Raises:
        DataError: If it does not have the digest that it states.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        pictures, part = content["pictures"], str(content["part"])
        digest = _digest(pictures)
        is_whole = digest == content["digest"] and part == Path(part).name
        n_good = sum(line["verdict"] != "defect" for line in pictures)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{FILE} cannot be read ({error})") from error
    if not is_whole:
        raise _damaged(folder, f"{FILE} does not have the digest that it states")
    return Snapshot(folder, digest, part, n_good, len(pictures) - n_good)


def check_snapshot(snapshot: Snapshot) -> None:
    """Compare the pictures and masks of a snapshot with its list.

    Raises:
        DataError: If one is missing, was added, or has changed.
    """
    stated = json.loads((snapshot.folder / FILE).read_text(encoding="utf-8"))["pictures"]
    root = snapshot.root
    expected = {
        f"{'test' if one['verdict'] == 'defect' else 'train'}/{one['folder']}/{one['file']}": one["digest"]
        for one in stated
    }
    expected |= {
        f"ground_truth/{one['folder']}/{Path(one['file']).stem}_mask.png": one["mask"]
        for one in stated
        if one["verdict"] == "defect" and one["mask"]
    }
    sides = ("train", "test", "ground_truth")
    found = {path.relative_to(root).as_posix(): path for side in sides for path in (root / side).glob("*/*")}
    for name in sorted(expected.keys() ^ found.keys()):
        raise _damaged(snapshot.folder, f"{name} {'is missing' if name in expected else 'does not belong to it'}")
    for name, path in sorted(found.items()):
        if picture_digest(path) != expected[name]:
            raise _damaged(snapshot.folder, f"{name} has changed")


def snapshot_of(root: Path) -> Snapshot | None:
    """The snapshot whose folder to train on this is; None for any other folder, also beside a file of the same name.

    Raises:
        DataError: If the snapshot does not have the digest that it states.
    """
    try:
        content = json.loads((root.parent / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (
        not isinstance(content, dict)
        or not {"digest", "pictures"} <= content.keys()
        or content.get("part") != root.name
    ):
        return None
    return read_snapshot(root.parent)


def write_tree(folder: Path, entries: Sequence[Entry], out: Path, *, link: bool = False) -> None:
    """Write pictures as `train/good`, `test/KIND` and `ground_truth/KIND`.

    Args:
        folder: Folder of the collection.
        entries: Entries of the pictures.
        out: Folder to write.
        link: Whether to make hard links where the disk has them, which change together with the collection's own files.

    Raises:
        StorageError: If the disk is full.
    """
    place = _link if link else _copy
    for entry in entries:
        source = folder / entry.path
        if entry.is_good:
            place(source, out / "train" / "good" / source.name)
            continue
        kind = kind_folder(entry)
        place(source, out / "test" / kind / source.name)
        if entry.mask:
            place(folder / entry.mask, out / "ground_truth" / kind / f"{source.stem}_mask.png")


def picture_digest(path: Path) -> str:
    """SHA-256 of a picture or mask, in hexadecimal; a file that cannot be read is an `EdgeadError`."""
    try:
        return file_digest(path)
    except OSError as error:
        raise storage_error(path, error) from error


def _line(folder: Path, entry: Entry) -> dict[str, str]:
    path = folder / entry.path
    if not path.is_file() or picture_digest(path) != entry.digest:
        raise DataError(
            f"{path} is {'missing' if not path.is_file() else 'not the picture that the index names'}.",
            hint=f"`edgead dataset check {folder}` lists everything; restore it, or remove its line from the index.",
        )
    mask = picture_digest(folder / entry.mask) if entry.mask else ""
    verdict = "defect" if entry.verdict == "defect" else "good"
    place = kind_folder(entry) if verdict == "defect" else "good"
    return {"digest": entry.digest, "verdict": verdict, "folder": place, "file": path.name, "mask": mask}


def _digest(pictures: Sequence[dict[str, str]]) -> str:
    lines = ("\0".join((one["verdict"], one["folder"], one["digest"], one["mask"])) + "\n" for one in pictures)
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def _link(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileExistsError:
            return
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, target)
    except OSError as error:
        raise storage_error(target, error) from error


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise storage_error(target, error) from error


def _damaged(folder: Path, why: str) -> DataError:
    return DataError(
        f"The snapshot {folder} is damaged: {why}.",
        hint="Remove its folder and make it again: edgead dataset snapshot DATASET",
    )
