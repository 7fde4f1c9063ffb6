"""Images and clips on disk: written whole before the record that names them, with a reserve of free space."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path

from edgead.errors import StorageError
from edgead.storage import atomic_path, storage_error
from edgead.stream.spool.alert_record import STATES, AlertRecord
from edgead.stream.spool.records import (
    alert_of_file,
    alert_of_record_file,
    completed,
    is_temporary,
)

_LOG = logging.getLogger(__name__)

# Writing resumes at this multiple of the minimum free space (hysteresis).
_RESUME = 1.1


class MediaFolder:
    """Writes images and clips while enough of the disk is free; logs each change once.

    Args:
        folder: Folder of the spool.
        min_free_mb: Free space reserved for records; below it no images and clips are written.
    """

    def __init__(self, folder: Path, min_free_mb: float) -> None:
        self._folder = folder
        self._min_free_mb = min_free_mb
        self._is_low = False
        self._failure = ""

    @property
    def is_ok(self) -> bool:
        return not self._is_low and not self._failure

    @property
    def detail(self) -> str:
        """Reason why no files are written; empty while they are."""
        if self._failure:
            return self._failure
        return f"less than {self._min_free_mb:g} MB are free" if self._is_low else ""

    @property
    def free_mb(self) -> float:
        try:
            return shutil.disk_usage(self._folder).free / 1e6
        except OSError:
            return 0.0

    def write(self, name: str, content: bytes | Path) -> str | None:
        """Write a file atomically, or rename a file of this folder; both synced.

        Returns:
            None on success, otherwise the reason: `disk_full` or `failed`.
        """
        if not self.has_space():
            return "disk_full"
        try:
            with atomic_path(self._folder / name) as temporary:
                if isinstance(content, Path):
                    content.replace(temporary)
                else:
                    temporary.write_bytes(content)
            sync_folder(self._folder)
        except StorageError as error:
            self._set(self._is_low, error.message)
            return "disk_full" if is_full(error) else "failed"
        self._set(self._is_low, "")
        return None

    def has_space(self) -> bool:
        """Check the free space; whether files may be written."""
        needed_mb = self._min_free_mb * (_RESUME if self._is_low else 1.0)
        self._set(self.free_mb < needed_mb, self._failure)
        return not self._is_low

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def _set(self, is_low: bool, failure: str) -> None:
        was_ok = self.is_ok
        # a failed write counts until one succeeds, because free space does not show a quota
        self._is_low, self._failure = is_low, failure
        if self.is_ok and not was_ok:
            _LOG.warning("Images and clips of alerts are written to %s again", self._folder)
        if was_ok and not self.is_ok:
            _LOG.error(
                "No images and clips are written to %s: %s. Alert records are still written.", self._folder, self.detail
            )


def is_full(error: StorageError) -> bool:
    """Whether an error of `edgead.storage` means a full disk."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def clean_up(folder: Path, known: Set[str]) -> list[str]:
    """Remove leftovers of a killed process: unfinished writes, and files without a record.

    Args:
        folder: Folder of the spool; only files with names of the spool are removed.
        known: Ids of alerts that have a record.

    Returns:
        Names of the removed files.
    """
    removed = []
    for path in sorted(folder.iterdir()):
        media = alert_of_file(path.name)
        if is_temporary(path) or (media is not None and media[0] not in known):
            with suppress(OSError):
                path.unlink()
                removed.append(path.name)
    return removed


def recorded_alerts(folder: Path, known: Set[str] = frozenset()) -> list[AlertRecord]:
    """Records of all `.json` files but those of `known` alerts, in order; unreadable files are logged and left unchanged."""
    records = []
    for path in sorted(folder.iterdir()):
        alert_id = alert_of_record_file(path.name)
        if alert_id is None or alert_id in known:
            continue
        try:
            records.append(read_record(path))
        except UNREADABLE as error:
            _LOG.warning("%s is not an alert record (%s) and is left unchanged", path, error)
    return records


UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def read_record(path: Path) -> AlertRecord:
    """Read the record of an alert from its file.

    Raises:
        Exception: One of `UNREADABLE`, if there is no record of that alert in it.
    """
    alert_id = alert_of_record_file(path.name)
    record = completed(json.loads(path.read_text(encoding="utf-8")))
    if record.id != alert_id:
        raise ValueError(f"its id is {record.id!r}")
    if record.state not in STATES:
        raise ValueError(f"its state is {record.state!r}")
    # files are served and removed by name: accept only names that the spool itself gives
    names = {kind: name if alert_of_file(str(name)) else None for kind, name in record.pictures.items()}
    return record.merged(AlertRecord.stored({"id": alert_id, "pictures": names}))


def sync_folder(folder: Path) -> None:
    """Sync a folder: a rename survives a power cut only after that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(folder, error) from error
