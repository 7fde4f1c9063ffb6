"""What of the spool may go: evidence first and oldest first, delivered events by age, records only when told so.

- Evidence goes for its age (in the spool's own time) once its alert is over and every sink has been told of it, and for
  space when all evidence together is above the limit: then told alerts' first, then those of alerts that a sink still
  has to be told of. Evidence of an alert that goes on or is held never goes: there is at most one such alert per zone.
- Events go for their age once every sink of this stream has confirmed them. What a sink has still to get stays.
- Records go for their age only where `record_days` is set.
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

# So much at once; the rest at the next round, so that appending never waits long.
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
    """How much is kept.

    Attributes:
        evidence_mb: Of all pictures and clips together.
        evidence_days: Oldest picture or clip.
        event_days: Oldest event that every sink has.
        record_days: Oldest record of an alert; None keeps them.
    """

    evidence_mb: float
    evidence_days: float
    event_days: float
    record_days: float | None


def removable_media(connection: sqlite3.Connection, limits: Limits, now_s: float, told: int) -> list[str]:
    """Files to remove now, at most `BATCH`.

    Args:
        connection: For queries.
        limits: How much is kept.
        now_s: The spool's own time.
        told: Every sink has confirmed events up to this one.
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
    """The changes after which no record names these files."""
    changes = []
    for file in files:
        for alert_id, kind in connection.execute("SELECT alert_id, kind FROM evidence WHERE file = ?", (file,)):
            changes.append(Change(patch=without(alert_id, kind, "retention")))
    return changes


def without(alert_id: str, kind: str, reason: str) -> AlertRecord:
    """What changes in a record when a piece of its evidence goes."""
    return AlertRecord(id=alert_id, pictures={kind: None}, pictures_missing={kind: reason})


def purge(database: Database, limits: Limits, now_s: float, told: int) -> list[str]:
    """Remove events, and where it is wanted records, that are old enough.

    Returns:
        Alerts whose record is gone; their `.json` may go too.
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
    """The changes after which no record names a file that somebody else has removed."""
    rows = connection.execute("SELECT alert_id, kind, file FROM evidence").fetchall()
    return [Change(patch=without(alert_id, kind, "vanished")) for alert_id, kind, file in rows if file not in present]
