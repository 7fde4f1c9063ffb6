"""A folder of pictures with an index that says of each where it is from and what people found: collected, judged, exported."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from edgead.errors import DataError, StorageError
from edgead.storage import exclusive, storage_error, write_bytes

INDEX = "index.jsonl"
LOCK = ".collection.lock"
PICTURES = "pictures"
MASKS = "masks"
_DIGITS = 16

Verdict = Literal["good", "defect", "false-alarm", "unsure", "unjudged"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Entry:
    """One picture of a collection: a line of its index.

    Attributes:
        path: Path of the picture below the folder, with forward slashes.
        digest: SHA-256 of its file, hexadecimal.
        verdict: Judgement of a person; `unjudged` before there is one.
        kind: Kind of defect or of false alarm; may be empty.
        note: Free text; may be empty.
        source: Where the picture came from, without secrets.
        camera: Name of the camera; may be empty.
        time: When it was taken, UTC, ISO 8601; empty if unknown.
        score, threshold: Score of a model and its threshold, raw units; None if none has judged it.
        bundle: Digest of that model's bundle; may be empty.
        alert: Id of the alert that it belongs to; may be empty.
        mask: Path of a mask of its defects below the folder; may be empty.
        mask_digest: SHA-256 of the mask's file, hexadecimal; empty without a mask, or in an index of an earlier version.
        judged_by: Name of the person who judged it on the dashboard; may be empty.
        judged_at: When, UTC, ISO 8601; may be empty.
    """

    path: str
    digest: str
    verdict: Verdict = "unjudged"
    kind: str = ""
    note: str = ""
    source: str = ""
    camera: str = ""
    time: str = ""
    score: float | None = None
    threshold: float | None = None
    bundle: str = ""
    alert: str = ""
    mask: str = ""
    mask_digest: str = ""
    judged_by: str = ""
    judged_at: str = ""

    @property
    def is_good(self) -> bool:
        """Whether a person has found the part good: also where a model had raised a false alarm."""
        return self.verdict in ("good", "false-alarm")


_KEYS = frozenset(field.name for field in fields(Entry))
_NUMBERS = frozenset(("score", "threshold"))


class Collection:
    """Pictures and index of a folder, open in this process alone.

    A picture is written under a temporary name and renamed before its line of the index is, so that the index never names
    half a picture. Every content is there once: the name of a picture is made of its digest.

    Attributes:
        folder: The folder.
        entries: Entries by digest, in the order of the index.
    """

    def __init__(self, folder: Path, entries: dict[str, Entry]) -> None:
        self.folder = folder
        self.entries = entries

    @property
    def n_bytes(self) -> int:
        """Size of all pictures that the index names."""
        return sum(_size(self.folder / entry.path) for entry in self.entries.values())

    def add(self, content: bytes, suffix: str, entry: Entry, mask_png: bytes | None = None) -> bool:
        """Add a picture; False if its content is there already.

        Args:
            content: File of the picture.
            suffix: Suffix of its name, such as `.png`.
            entry: What the index says; path, digest, mask and its digest are filled in.
            mask_png: PNG of the mask of its defects; None = no mask.

        Raises:
            StorageError: If the disk is full or the folder cannot be written.
        """
        digest = hashlib.sha256(content).hexdigest()
        if digest in self.entries:
            return False
        path = f"{PICTURES}/{digest[:_DIGITS]}{suffix.lower()}"
        write_bytes(self.folder / path, content)
        added = replace(entry, path=path, digest=digest, mask="", mask_digest="")
        self._append(added if mask_png is None else self.with_mask(added, mask_png))
        return True

    def with_mask(self, entry: Entry, mask_png: bytes) -> Entry:
        """Write a mask of a picture's defects; the entry that names it is not in the index yet.

        Raises:
            StorageError: If the disk is full or the folder cannot be written.
        """
        mask = f"{MASKS}/{entry.digest[:_DIGITS]}.png"
        write_bytes(self.folder / mask, mask_png)
        return replace(entry, mask=mask, mask_digest=hashlib.sha256(mask_png).hexdigest())

    def change(self, changed: Sequence[Entry]) -> None:
        """Replace entries that have the digests of these, all or none."""
        self.entries |= {entry.digest: entry for entry in changed}
        text = "".join(line_of(entry) for entry in self.entries.values())
        write_bytes(self.folder / INDEX, text.encode("utf-8"))

    def _append(self, entry: Entry) -> None:
        index = self.folder / INDEX
        try:
            with index.open("ab") as file:
                start = file.tell()
                try:
                    file.write(line_of(entry).encode("utf-8"))
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    # a full disk takes half a line, and the next one would be glued to it
                    with suppress(OSError):
                        os.ftruncate(file.fileno(), start)
                    raise
        except OSError as error:
            raise storage_error(index, error) from error
        self.entries[entry.digest] = entry


@contextmanager
def open_collection(folder: Path, *, create: bool = False) -> Iterator[Collection]:
    """Open a folder for changes; a line torn by a kill is removed from the end of its index.

    Args:
        folder: The folder.
        create: Whether to make it if it is not there.

    Raises:
        DataError: If it is no collection, or its index is damaged.
        StorageError: If another process has it open, or it cannot be written.
    """
    if not create and not (folder / INDEX).is_file():
        raise no_collection(folder)
    if create and folder.exists() and not folder.is_dir():
        raise DataError(
            f"{folder} is no folder.",
            hint="Give a new folder, or one that `edgead collect` or `edgead dataset add` made.",
        )
    with exclusive(folder / LOCK, f"changes {folder}", hint="Wait until it has finished, or use another folder."):
        index = folder / INDEX
        if not index.exists():
            write_bytes(index, b"")
        else:
            _repair(index)
        yield Collection(folder, read_entries(folder))


def read_entries(folder: Path) -> dict[str, Entry]:
    """Entries of a folder by digest, in the order of the index.

    Raises:
        DataError: If the folder is no collection, or a line of its index cannot be read.
    """
    index = folder / INDEX
    try:
        text = index.read_bytes()
    except FileNotFoundError:
        raise no_collection(folder) from None
    except OSError as error:
        raise storage_error(index, error) from error
    lines = text.split(b"\n")
    # the last part is empty, a whole line of an editor that ends without a line break, or one that is being written
    if not _is_entry(lines[-1]):
        lines.pop()
    return {entry.digest: entry for entry in (_entry(line, index, n) for n, line in enumerate(lines, start=1))}


def require_room(folder: Path, taken: int, more: int, max_mb: float, what: str) -> None:
    """Check that pictures of a running stream keep to their share of the disk.

    Args:
        folder: Folder of the pictures.
        taken: Bytes that they take.
        more: Bytes to add.
        max_mb: Size of all of them that is allowed.
        what: Name of the pictures for the message.

    Raises:
        StorageError: If they would take more.
    """
    if taken + more > max_mb * 1e6:
        raise StorageError(
            f"{folder} has {taken / 1e6:.0f} MB of {what}, and {max_mb:.0f} MB are allowed.",
            hint="Add them to a data set (`edgead dataset add`), and move the folder away.",
        )


def no_collection(folder: Path) -> DataError:
    return DataError(
        f"{folder} has no {INDEX}.",
        hint="Give a folder that `edgead collect`, `edgead dataset add` or `edgead alerts export --pictures` made.",
    )


def line_of(entry: Entry) -> str:
    """Line of the index, with the keys that say something."""
    values = {field.name: getattr(entry, field.name) for field in fields(Entry)}
    kept = {key: value for key, value in values.items() if value not in ("", None)}
    return json.dumps(kept, ensure_ascii=True, allow_nan=False) + "\n"


def _parse(line: bytes) -> Entry | None:
    """Entry of a line; None if it is none."""
    try:
        values: dict[str, Any] = json.loads(line)
        entry = Entry(**{key: value for key, value in values.items() if key in _KEYS})
    except (ValueError, TypeError, AttributeError):
        return None
    for key in _KEYS:
        value = getattr(entry, key)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (value is None or is_number if key in _NUMBERS else isinstance(value, str)):
            return None
    is_fine = entry.verdict in VERDICTS and _is_inside(entry.path) and (not entry.mask or _is_inside(entry.mask))
    return entry if is_fine else None


def _is_entry(line: bytes) -> bool:
    return _parse(line) is not None


def _entry(line: bytes, index: Path, number: int) -> Entry:
    entry = _parse(line)
    if entry is None:
        seen = line[:100].decode("utf-8", "replace")
        raise DataError(
            f"Line {number} of {index} is no entry: {seen!r}.",
            hint=f"An entry is a JSON object with path, digest and verdict ({', '.join(VERDICTS)}). Repair or remove the line.",
        )
    return entry


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path


def _repair(index: Path) -> None:
    content = index.read_bytes()
    if content and not content.endswith(b"\n"):
        start = content.rfind(b"\n") + 1
        write_bytes(index, content + b"\n" if _is_entry(content[start:]) else content[:start])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
