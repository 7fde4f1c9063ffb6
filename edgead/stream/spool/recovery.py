"""Repair of a spool after a kill, a power cut or a damaged database."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from edgead.stream.spool import retention
from edgead.stream.spool.age import AgeClock
from edgead.stream.spool.archive import Archive
from edgead.stream.spool.database import Database
from edgead.stream.spool.events import iso
from edgead.stream.spool.media import clean_up
from edgead.stream.spool.records import interrupted
from edgead.stream.spool.repair import repair

_LOG = logging.getLogger(__name__)

_EVERY = 10_000


def open_archive_of_stream(
    folder: Path, database: Database, wall: Callable[[], float], monotonic: Callable[[], float]
) -> Archive:
    """Open the archive; a new database gets an id."""
    tables = Archive(folder, database)
    if not tables.device:
        tables.set_meta(device_id=uuid.uuid4().hex[:12])
    age = AgeClock(_seconds(tables, "lived_s") or 0.0, _seconds(tables, "seen_s"), wall, monotonic)
    return Archive(folder, database, age)


def _seconds(archive: Archive, key: str) -> float | None:
    """A saved time; None if there is none, or it is damaged."""
    try:
        value = float(archive.meta(key) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def recover(folder: Path, database: Database, archive: Archive, now: datetime) -> None:
    """Make files, records and states consistent after a process that did not exit normally, or damage."""
    repair(folder, database, archive, iso(now))
    with database.read() as connection:
        known = {alert_id for (alert_id,) in connection.execute("SELECT id FROM alerts")}
    removed = clean_up(folder, known)
    if removed:
        _LOG.warning("Removed %d unfinished files of a process that was killed", len(removed))
    with database.read() as connection:
        lost = retention.vanished(connection, frozenset(path.name for path in folder.iterdir()))
    if lost:
        _LOG.warning("%d images or clips of alerts were removed by another program", len(lost))
    left = archive.alerts(state="open", limit=_EVERY)[::-1]
    archive.write([*lost, *(interrupted(record, iso(now)) for record in left)])
    archive.export_pending(_EVERY)
