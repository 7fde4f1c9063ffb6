"""Sink that writes events to a file: one JSON object per line, synced, each exactly once."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from edgead.config.sinks import JsonlSettings
from edgead.contexts import OwnsNothing
from edgead.errors import StorageError
from edgead.storage import storage_error
from edgead.stream.delivery.sink import DeliveryError
from edgead.stream.spool.events import StoredEvent
from edgead.stream.spool.media import sync_folder

_START = b'{"schema_version": '
# Longer than any line: the search for the last line reads no further back.
_TAIL_BYTES = 4 << 20


class JsonlSink(OwnsNothing):
    """Appends to a file and syncs it; a full file becomes `FILE.1`, the previous one `FILE.2` and so on.

    After a kill the last line may be torn: the beginning of an event is removed, other text gets a line end. Events that
    are already in the file are not written again.
    """

    def __init__(self, settings: JsonlSettings) -> None:
        self._path = settings.path
        self._max_bytes = int(settings.max_mb * 1e6)
        self._keep = settings.keep

    def keep_alive(self) -> None:
        """Do nothing: the file is open only while it is written."""

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            last = self._last_key()
            keys = [event.key for event in events]
            new = events[keys.index(last) + 1 :] if last in keys else events
            if new:
                self._rotate()
                self._append(b"".join(_line(event) for event in new))
        except OSError as error:
            raise DeliveryError(storage_error(self._path, error).message) from error
        except StorageError as error:
            raise DeliveryError(error.message) from error

    def _append(self, lines: bytes) -> None:
        with self._path.open("ab") as file:
            size = file.seek(0, os.SEEK_END)
            try:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self._path, size)
                raise
        if size == 0:
            sync_folder(self._path.parent)

    def _rotate(self) -> None:
        if not self._path.exists() or self._path.stat().st_size < self._max_bytes:
            return
        for number in range(self._keep, 0, -1):
            old = self._old(number - 1) if number > 1 else self._path
            if old.exists():
                old.replace(self._old(number))
        if not self._keep:
            self._path.unlink()
        sync_folder(self._path.parent)

    def _old(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _last_key(self) -> str | None:
        """Key of the last event in this or the previous file; repairs a torn line."""
        for path in (self._path, self._old(1)):
            if not path.exists() or path.stat().st_size == 0:
                continue
            with path.open("r+b") as file:
                line = _last_line(file)
            if line is not None:
                return _key(line)
        return None


def _line(event: StoredEvent) -> bytes:
    # ASCII avoids questions of encoding, byte order marks and Unicode line separators
    return json.dumps(event.payload, allow_nan=False).encode() + b"\n"


def _last_line(file: BinaryIO) -> bytes | None:
    """The last complete line; text after it is removed or completed."""
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read()
    whole, _, torn = tail.rpartition(b"\n")
    if torn:
        if _key(torn) is None and (torn.startswith(_START) or _START.startswith(torn)):
            file.truncate(start + len(tail) - len(torn))
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
            whole = tail
        file.flush()
        os.fsync(file.fileno())
    return whole.rpartition(b"\n")[2] or None


def _key(line: bytes) -> str | None:
    try:
        return str(json.loads(line)["key"])
    except (ValueError, KeyError, TypeError):
        return None
