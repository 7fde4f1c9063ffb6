"""Retention: removal of old images, clips, events and records.

- Images and clips are removed by age (of the spool's own clock) once their alert is closed and every sink has confirmed
  its events, and for space if they exceed the limit together: first those of delivered alerts, then the others. Files of
  open and held alerts are never removed: there is at most one such alert per zone.
- Events are removed by age once every sink of this stream has confirmed them.
- Records are removed by age only if `record_days` is set.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from edgead.stream.spool.age import DAY_S
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.database import Database
from edgead.stream.spool.records import Change

_LOG = logging.getLogger(__name__)

# Removed per round, so that appending never waits long.
BATCH = 200

_FILES = """
    SELECT file, MAX(size_bytes), MAX(evidence.stored_s), MAX(EXISTS (
        SELECT 1 FROM events WHERE events.alert_id = evidence.alert_id AND events.sequence > :told
    )) AS is_untold
    FROM evidence JOIN alerts ON alerts.id = evidence.alert_id
    GROUP BY file HAVING NOT MAX(alerts.state IN ('open', 'held')) ORDER BY is_untold, MIN(number)
"""


@dataclass(frozen=True)
class Limits:
    """Retention limits.

    Attributes:
        evidence_mb: Maximum size of all images and clips together.
        evidence_days: Maximum age of images and clips.
        event_days: Maximum age of events that every sink has confirmed.
        record_days: Maximum age of alert records; None keeps them.
    """

    evidence_mb: float
    evidence_days: float
    event_days: float
    record_days: float | None


def removable_media(connection: sqlite3.Connection, limits: Limits, now_s: float, told: int) -> list[str]:
    """Files to remove now, at most `BATCH`.

    Args:
        connection: Database connection for queries.
        limits: Retention limits.
        now_s: Age of the spool, in seconds.
        told: Last event confirmed by all sinks.
    """
    total, first_s = connection.execute(
        "SELECT COALESCE(SUM(size), 0), COALESCE(MIN(stored_s), :now_s) FROM "
        "(SELECT MAX(size_bytes) AS size, MAX(stored_s) AS stored_s FROM evidence GROUP BY file)",
        {"now_s": now_s},
    ).fetchone()
    excess = total - limits.evidence_mb * 1e6
    oldest_s = now_s - limits.evidence_days * DAY_S
    if excess <= 0 and first_s >= oldest_s:
        return []
    files: list[str] = []
    for file, size_bytes, stored_s, is_untold in connection.execute(_FILES, {"told": told}):
        if len(files) == BATCH:
            break
        if excess > 0 or (stored_s < oldest_s and not is_untold):
            files.append(file)
            excess -= size_bytes
    return files


def removals(connection: sqlite3.Connection, files: Sequence[str]) -> list[Change]:
    """Changes that remove these files from all records."""
    changes = []
    for file in files:
        for alert_id, kind in connection.execute("SELECT alert_id, kind FROM evidence WHERE file = ?", (file,)):
            changes.append(Change(patch=without(alert_id, kind, "retention")))
    return changes


def without(alert_id: str, kind: str, reason: str) -> AlertRecord:
    """Change of a record whose file is removed."""
    return AlertRecord(id=alert_id, pictures={kind: None}, pictures_missing={kind: reason})


def purge(database: Database, limits: Limits, now_s: float, told: int) -> list[str]:
    """Remove old events, and old records if `record_days` is set.

    Returns:
        Ids of alerts whose record was removed.
    """
    with database.read() as connection:
        event_s = now_s - limits.event_days * DAY_S
        query = "SELECT sequence FROM events WHERE stored_s < ? AND sequence <= ? ORDER BY sequence LIMIT ?"
        events = connection.execute(query, (event_s, told, BATCH)).fetchall()
        records: list[tuple[str]] = []
        if limits.record_days is not None:
            record_s = now_s - limits.record_days * DAY_S
            query = (
                "SELECT id FROM alerts WHERE stored_s < ? AND state = 'closed' AND NOT EXISTS "
                "(SELECT 1 FROM evidence WHERE alert_id = id) LIMIT ?"
            )
            records = connection.execute(query, (record_s, BATCH)).fetchall()
    if events or records:
        with database.write() as connection:
            connection.executemany("DELETE FROM events WHERE sequence = ?", events)
            connection.executemany("DELETE FROM alerts WHERE id = ?", records)
        _LOG.info("Removed %d old events and %d old records", len(events), len(records))
    return [alert_id for (alert_id,) in records]


def vanished(connection: sqlite3.Connection, present: frozenset[str]) -> list[Change]:
    """Changes that remove files deleted by other programs from all records."""
    rows = connection.execute("SELECT alert_id, kind, file FROM evidence").fetchall()
    return [Change(patch=without(alert_id, kind, "vanished")) for alert_id, kind, file in rows if file not in present]
