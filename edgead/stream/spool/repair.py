"""Repair of single damaged rows: each alert comes from its file or from what is left of it, and each loss is logged."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.archive import Archive, encode
from edgead.stream.spool.database import Database
from edgead.stream.spool.json_values import json_object
from edgead.stream.spool.media import recorded_alerts
from edgead.stream.spool.records import Change, alert_of_record_file

_LOG = logging.getLogger(__name__)
# The receiver of a dead letter that no sink has rejected.
DAMAGED = "(damaged)"


def repair(folder: Path, database: Database, archive: Archive, at: str) -> None:
    """Repair damaged alerts and events, and add alerts that only have a file.

    Args:
        folder: Folder of the spool.
        database: Its open database.
        archive: Its tables.
        at: Time for the log of damaged events, as `iso` writes it.
    """
    with database.read() as connection:
        alerts = _damaged_alerts(connection)
        events = _damaged_events(connection)
    with database.write() as connection:
        for alert_id in alerts:
            _rewrite(connection, archive, alert_id)
        for sequence, content in events:
            row = (DAMAGED, sequence, at, "The event was damaged and cannot be delivered.", encode(content))
            connection.execute("INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("DELETE FROM events WHERE sequence = ?", (sequence,))
    if alerts:
        _LOG.error("%d damaged alert records were repaired, as far as possible: %s", len(alerts), ", ".join(alerts[:5]))
    if events:
        _LOG.error("%d damaged events cannot be delivered; they are among the dead letters", len(events))
    with database.read() as connection:
        known = frozenset(alert_id for (alert_id,) in connection.execute("SELECT id FROM alerts"))
    found = recorded_alerts(folder, known)
    if found:
        archive.write([Change(patch=record) for record in found])
        _LOG.warning("%d alert records were imported from %s", len(found), folder)


def _damaged_alerts(connection: sqlite3.Connection) -> list[str]:
    """Ids of rows whose record is no record of that id, state, camera and judgement."""
    rows = connection.execute("SELECT record, id, state, camera, judgement FROM alerts")
    return [str(alert_id) for record, alert_id, *others in rows if _differs(record, alert_id, *others)]


def _differs(text: str, alert_id: str, state: str, camera: str | None, judgement: str | None) -> bool:
    content = json_object(text)
    if content is None or alert_of_record_file(f"{alert_id}.json") is None:
        return True
    stored = tuple(content.get(name) for name in ("id", "state", "camera", "judgement"))
    return stored != (alert_id, state, camera, judgement)


def _damaged_events(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    rows = connection.execute("SELECT sequence, content FROM events")
    return [(int(sequence), str(content)) for sequence, content in rows if json_object(content) is None]


def _rewrite(connection: sqlite3.Connection, archive: Archive, alert_id: str) -> None:
    """Store what can be read of an alert; the row of an impossible id is removed, and its file, if any, is imported."""
    if alert_of_record_file(f"{alert_id}.json") is None:
        _take_id_from_record(connection, alert_id)
        return
    record = archive.alert(alert_id)
    if record is not None:
        _store(connection, alert_id, record)


def _take_id_from_record(connection: sqlite3.Connection, alert_id: str) -> None:
    (text,) = connection.execute("SELECT record FROM alerts WHERE id = ?", (alert_id,)).fetchone()
    content = json_object(text) or {}
    known: Sequence[object] = connection.execute("SELECT 1 FROM alerts WHERE id = ?", (content.get("id"),)).fetchall()
    if alert_of_record_file(f"{content.get('id')}.json") is None or known:
        connection.execute("DELETE FROM alerts WHERE id = ?", (alert_id,))
    else:
        connection.execute("UPDATE alerts SET id = ?, is_exported = 0 WHERE id = ?", (content["id"], alert_id))


def _store(connection: sqlite3.Connection, alert_id: str, record: AlertRecord) -> None:
    connection.execute(
        "UPDATE alerts SET state = ?, camera = ?, judgement = ?, record = ?, is_exported = 0 WHERE id = ?",
        (record.state or "closed", record.camera, record.judgement, encode(record.as_json()), alert_id),
    )
