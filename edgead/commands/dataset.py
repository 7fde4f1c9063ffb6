"""`edgead dataset`: collect judged pictures in one folder, freeze them as snapshots, and exchange them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgead.data.collection import (
    INDEX,
    MASKS,
    PICTURES,
    VERDICTS,
    Collection,
    Entry,
    Verdict,
    open_collection,
    read_entries,
)
from edgead.data.collection_formats import FORMATS, Format, entry_of, export_collection, is_empty_folder, mask_png_of
from edgead.data.folders import list_images
from edgead.data.layouts import find_dataset
from edgead.data.reader import inspect_image
from edgead.data.snapshots import (
    Snapshot,
    check_snapshot,
    find_snapshot,
    make_snapshot,
    picture_digest,
    read_snapshot,
    snapshot_folders,
    snapshots,
)
from edgead.errors import ConfigError, DataError
from edgead.progress import SILENT, Progress, tracked
from edgead.storage import scratch_folder


@dataclass(frozen=True)
class Added:
    """Result of adding pictures to a data set.

    Attributes:
        n_new: Pictures added.
        n_known: Pictures that were there already.
        n_judged: Pictures of these that were unjudged, and have a verdict now.
        conflicts: Pictures whose verdict, kind or mask there is another one; it was kept.
        broken: Files that cannot be read, with the reason.
    """

    n_new: int
    n_known: int
    n_judged: int
    conflicts: tuple[str, ...]
    broken: tuple[str, ...]


def add_pictures(
    folder: Path, source: Path, *, verdict: str | None = None, kind: str = "", progress: Progress = SILENT
) -> Added:
    """Add the pictures of a folder; a folder of `edgead collect` or of exported alerts brings its verdicts along.

    Args:
        folder: Folder of the data set; made if it is not there.
        source: Folder of pictures.
        verdict: Verdict of pictures that bring none; None = unjudged.
        kind: Kind of defect for that verdict.
        progress: Receiver of progress.

    Raises:
        ConfigError: If the verdict is unknown.
        DataError: If there are no pictures.
        StorageError: If the disk is full, or another process changes the data set.
    """
    if verdict is not None and verdict not in VERDICTS:
        raise ConfigError(f"A picture is judged as one of {', '.join(VERDICTS)}, got {verdict!r}.")
    given = next(one for one in VERDICTS if one == (verdict or "unjudged"))
    return _add(folder, tracked(_pictures(source, given, kind), "Adding pictures", progress))


def import_dataset(folder: Path, source: Path, progress: Progress = SILENT) -> Added:
    """Add a data set in any layout that `edgead eval` reads, with labels, kinds of defects and masks.

    Raises:
        DataError: If the layout is not recognised.
        StorageError: If the disk is full, or another process changes the data set.
    """
    found = find_dataset(source, need_train=False)
    samples = (*found.train, *found.test)
    pictures = [(one.path, entry_of(one), partial(mask_png_of, one)) for one in samples]
    return _add(folder, tracked(pictures, "Adding pictures", progress))


def export_dataset(folder: Path, out: Path, form: str, progress: Progress = SILENT) -> tuple[int, int]:
    """Write the judged pictures of a data set; the numbers of written and of left-out ones (unsure or unjudged).

    Raises:
        ConfigError: If the format is unknown, or `out` has something in it.
        DataError: If a picture cannot be read.
    """
    chosen: Format | None = next((one for one in FORMATS if one == form), None)
    if chosen is None:
        raise ConfigError(f"A data set is exported as one of {', '.join(FORMATS)}, got {form!r}.")
    if not is_empty_folder(out):
        raise ConfigError(f"{out} has something in it already.", hint="Give a new folder.")
    entries = list(read_entries(folder).values())
    with scratch_folder(out.absolute().parent, out.name) as scratch:
        n_written = export_collection(folder, entries, scratch, chosen, progress)
        if out.is_dir():
            out.rmdir()
        scratch.rename(out)
    return n_written, len(entries) - n_written


def take_snapshot(folder: Path, progress: Progress = SILENT) -> Snapshot:
    """Freeze the present judged pictures of a data set; the same content gives the same snapshot.

    Raises:
        DataError: If a picture is missing or has changed, or none was judged good.
    """
    with open_collection(folder) as collection:
        return make_snapshot(folder, collection.entries.values(), progress)


def snapshot_to_train(address: str, progress: Progress = SILENT) -> Snapshot:
    """The snapshot that `DIR` or `DIR@SNAPSHOT` names: for `DIR`, one of its present content.

    Raises:
        DataError: If there is none, or it is damaged.
    """
    folder, at, name = address.rpartition("@")
    # a folder's own name may have an @
    if at and not Path(address).exists():
        return find_snapshot(Path(folder), name)
    return take_snapshot(Path(address), progress)


def count_pictures(folder: Path) -> tuple[Counter[tuple[str, str]], list[Snapshot]]:
    """Number of pictures by verdict and kind, and the snapshots of a data set."""
    return Counter((one.verdict, one.kind) for one in read_entries(folder).values()), snapshots(folder)


def check_dataset(folder: Path, progress: Progress = SILENT) -> list[str]:
    """Everything that is wrong with a data set, one sentence each: pictures, masks, index and snapshots."""
    problems = []
    entries = read_entries(folder)
    for entry in tracked(list(entries.values()), "Pictures", progress):
        path = folder / entry.path
        if not path.is_file():
            problems.append(f"{entry.path} is missing.")
        elif picture_digest(path) != entry.digest:
            problems.append(f"{entry.path} is not the picture that the index names: it has changed.")
        if entry.mask and not (folder / entry.mask).is_file():
            problems.append(f"{entry.mask}, the mask of {entry.path}, is missing.")
        elif entry.mask_digest and picture_digest(folder / entry.mask) != entry.mask_digest:
            problems.append(f"{entry.mask}, the mask of {entry.path}, has changed.")
    named = {name for entry in entries.values() for name in (entry.path, entry.mask)}
    for part in (PICTURES, MASKS):
        for path in list_images(folder / part):
            if (name := path.relative_to(folder).as_posix()) not in named:
                problems.append(f"{name} is not in the index: `edgead dataset add` adds it.")
    for path in tracked(snapshot_folders(folder), "Snapshots", progress):
        try:
            check_snapshot(read_snapshot(path))
        except DataError as error:
            problems.append(error.message)
    return problems


Picture = tuple[Path, Entry, Callable[[], bytes | None]]


def _pictures(source: Path, verdict: Verdict, kind: str) -> list[Picture]:
    if (source / INDEX).is_file():
        found: list[Picture] = []
        for entry in read_entries(source).values():
            given = replace(entry, verdict=verdict, kind=kind) if entry.verdict == "unjudged" else entry
            found.append((source / entry.path, given, partial(_mask_of, source, entry)))
        return found
    images = list_images(source) if source.is_dir() else []
    if not images:
        raise DataError(f"There are no images in {source}.", hint="Give a folder of PNG, JPEG, BMP or TIFF files.")
    return [
        (path, Entry("", "", verdict=verdict, kind=kind, source=path.relative_to(source).as_posix()), lambda: None)
        for path in images
    ]


def _mask_of(folder: Path, entry: Entry) -> bytes | None:
    return (folder / entry.mask).read_bytes() if entry.mask and (folder / entry.mask).is_file() else None


def _add(folder: Path, pictures: Iterable[Picture]) -> Added:
    n_new = n_known = n_judged = 0
    changed: dict[str, Entry] = {}
    conflicts: list[str] = []
    broken = []
    with open_collection(folder, create=True) as collection:
        try:
            for path, entry, read_mask_png in pictures:
                try:
                    digest = inspect_image(path).digest
                    content, mask = path.read_bytes(), read_mask_png()
                except (DataError, OSError) as error:
                    broken.append(error.message if isinstance(error, DataError) else f"{path}: {error.strerror}.")
                    continue
                known = changed.get(digest) or collection.entries.get(digest)
                if known is None:
                    n_new += collection.add(content, path.suffix, entry, mask)
                    continue
                n_known += 1
                now = _joined(collection, known, entry, mask, path, conflicts)
                n_judged += now.verdict != known.verdict
                if now != known:
                    changed[digest] = now
        finally:
            # whatever ends it, what was found so far is kept
            if changed:
                collection.change(list(changed.values()))
    return Added(n_new, n_known, n_judged, tuple(conflicts), tuple(broken))


def _joined(
    collection: Collection, known: Entry, other: Entry, mask: bytes | None, path: Path, conflicts: list[str]
) -> Entry:
    """Entry of a known picture with what another one adds; what both say in different ways is named and kept."""
    now = known
    if other.verdict not in ("unjudged", known.verdict):
        if known.verdict != "unjudged":
            conflicts.append(f"{path} is {known.verdict} in the data set, and {other.verdict} there")
            return known
        now = replace(
            known, verdict=other.verdict, kind=other.kind, note=other.note, judged_by=other.judged_by,
            judged_at=other.judged_at,
        )  # fmt: skip
    if other.verdict == now.verdict and other.kind and other.kind != now.kind:
        if now.kind:
            conflicts.append(f"{path} has the kind {now.kind!r} in the data set, and {other.kind!r} there")
        else:
            now = replace(now, kind=other.kind)
    if mask is not None:
        if not now.mask:
            now = collection.with_mask(now, mask)
        elif picture_digest(collection.folder / now.mask) != hashlib.sha256(mask).hexdigest():
            conflicts.append(f"{path} has another mask in the data set than there")
    return now
