"""Pictures and clips on disk: written whole before the record that names them, and never the last bit of space."""

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
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.records import (
    alert_of_file,
    alert_of_record_file,
    completed,
    is_temporary,
)

_LOG = logging.getLogger(__name__)

# Evidence goes on when there is this much more space than where it stopped, so that it does not flicker.
_RESUME = 1.1


class MediaFolder:
    """Writes evidence as long as enough of the disk is free; says once when that changes.

    Args:
        folder: Of the spool.
        min_free_mb: Below so much free space nothing is written: the rest is for the records.
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
        """Why no evidence is kept; empty while it is."""
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
        """Write a file whole, or give one of this folder its name; both synced.

        Returns:
            None, or why it is not there: `disk_full` or `failed`.
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
        """Look at the free space; whether evidence may be written."""
        needed_mb = self._min_free_mb * (_RESUME if self._is_low else 1.0)
        self._set(self.free_mb < needed_mb, self._failure)
        return not self._is_low

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def _set(self, is_low: bool, failure: str) -> None:
        was_ok = self.is_ok
        # a failed write counts until one succeeds: a quota shows no lack of space
        self._is_low, self._failure = is_low, failure
        if self.is_ok and not was_ok:
            _LOG.warning("Pictures and clips of alerts are kept again in %s", self._folder)
        if was_ok and not self.is_ok:
            _LOG.error("No pictures and clips are kept in %s: %s. Records of alerts go on.", self._folder, self.detail)


def is_full(error: StorageError) -> bool:
    """Whether an error of `edgead.storage` is about space."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def clean_up(folder: Path, known: Set[str]) -> list[str]:
    """Remove what a killed process left behind: unfinished writes, and evidence that no record names.

    Args:
        folder: Of the spool; only files that the spool itself can have written are touched.
        known: Alerts that have a record.

    Returns:
        Names of the files that were removed.
    """
    removed = []
    for path in sorted(folder.iterdir()):
        evidence = alert_of_file(path.name)
        if is_temporary(path) or (evidence is not None and evidence[0] not in known):
            with suppress(OSError):
                path.unlink()
                removed.append(path.name)
    return removed


def recorded_alerts(folder: Path) -> list[AlertRecord]:
    """Every record that is there as a file, in order; what cannot be read is left alone and named in the log."""
    records = []
    for path in sorted(folder.iterdir()):
        alert_id = alert_of_record_file(path.name)
        if alert_id is None:
            continue
        try:
            record = completed(json.loads(path.read_text(encoding="utf-8")))
            if record.id != alert_id:
                raise ValueError(f"its id is {record.id!r}")
            # files are served and removed by name: only names that the spool gives count
            names = {kind: name if alert_of_file(str(name)) else None for kind, name in record.pictures.items()}
            record = record.merged(AlertRecord.stored({"id": alert_id, "pictures": names}))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.warning("%s is no record of an alert (%s) and is left alone", path, error)
            continue
        records.append(record)
    return records


def sync_folder(folder: Path) -> None:
    """Make renames durable: one survives a power cut only once its folder is synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(folder, error) from error
