"""Alerts, events and acknowledgements of a folder, for the stream's process and for others."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgead.errors import StorageError
from edgead.storage import write_json
from edgead.stream.spool.age import AgeClock
from edgead.stream.spool.alert_record import STATES, AlertRecord
from edgead.stream.spool.database import DATABASE, Database
from edgead.stream.spool.events import Event, StoredEvent, iso, stored_event
from edgead.stream.spool.json_values import json_object, plain
from edgead.stream.spool.judgements import FILTERS, JUDGED, UNJUDGED, AlertGoneError, Opinion, judged
from edgead.stream.spool.media import UNREADABLE, read_record
from edgead.stream.spool.records import Change, acknowledged, remains


class Archive:
    """Tables of a spool. Every change is one transaction, on disk when the method returns.

    Args:
        folder: Folder of the database, the record files and the media files.
        database: Open database; the caller closes it.
        age: Age clock of the stream's process; other processes use the last saved age.

    Raises:
        StorageError: From every method, if the disk cannot be read or written.
    """

    def __init__(self, folder: Path, database: Database, age: AgeClock | None = None) -> None:
        self._folder = folder
        self._database = database
        self._age = age
        self._saved_s = 0.0
        self._exported: list[tuple[str, str]] = []
        self.device = self.meta("device_id") or ""

    def meta(self, key: str) -> str | None:
        with self._database.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, **values: str) -> None:
        with self._database.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    @property
    def age_s(self) -> float:
        """Age of the spool, in seconds."""
        if self._age is not None:
            return self._age()
        try:
            return float(self.meta("lived_s") or 0.0)
        except ValueError:  # a damaged row; the stream's process saves it again
            return 0.0

    def save_age(self, every_s: float) -> None:
        """Save the age for the next process, unless that was done less than `every_s` seconds ago."""
        if self._age is None or 0 < self._age() - self._saved_s < every_s:
            return
        self._saved_s = self._age()
        self.set_meta(lived_s=repr(self._saved_s), seen_s=repr(self._age.wall()))

    def write(self, changes: Iterable[Change]) -> list[int]:
        """Apply changes in order, all or none.

        Returns:
            Sequence numbers of the events in the changes.
        """
        age_s = self.age_s
        with self._database.write() as connection:
            self._mark_exported(connection)
            return [number for change in changes for number in _apply(connection, self._folder, change, age_s)]

    def acknowledge(self, alert_id: str, who: str, note: str, now: datetime | None = None) -> bool:
        """Acknowledge an alert; False if it is unknown or already acknowledged."""
        age_s = self.age_s
        with self._database.write() as connection:
            record = _record(connection, self._folder, alert_id)
            if record is None or record.acknowledged_at is not None:
                return False
            for change in acknowledged(record, who, note, iso(now or datetime.now(timezone.utc))):
                _apply(connection, self._folder, change, age_s)
        return True

    def judge(
        self, alert_id: str, opinion: Opinion, *, instead_of: int | None = 0, now: datetime | None = None
    ) -> AlertRecord:
        """Store a person's judgement of an alert; returns the record with it.

        Args:
            alert_id: Id of the alert.
            opinion: What the person says.
            instead_of: Number of judgements that the person has seen; None replaces whatever is there.
            now: Time of the judgement; None = by the clock.

        Raises:
            AlertGoneError: If the alert does not exist.
            JudgedBeforeError: If it has been judged since.
        """
        age_s = self.age_s
        with self._database.write() as connection:
            record = _record(connection, self._folder, alert_id)
            if record is None:
                raise AlertGoneError(alert_id)
            for change in judged(record, opinion, instead_of, iso(now or datetime.now(timezone.utc))):
                _apply(connection, self._folder, change, age_s)
            return _record(connection, self._folder, alert_id) or record

    def judgements(self) -> dict[tuple[str | None, str | None], int]:
        """Number of alerts by camera and judgement; the judgement is None for unjudged ones."""
        with self._database.read() as connection:
            query = "SELECT camera, judgement, COUNT(*) FROM alerts GROUP BY judgement, camera"
            return {(camera, judgement): number for camera, judgement, number in connection.execute(query)}

    def acknowledgements(self, after: int) -> list[tuple[int, str, str]]:
        """Number, alert id and user of every acknowledgement with a number above `after`."""
        with self._database.read() as connection:
            query = "SELECT number, alert_id, who FROM acknowledgements WHERE number > ? ORDER BY number"
            return connection.execute(query, (after,)).fetchall()

    def last_acknowledgement(self) -> int:
        with self._database.read() as connection:
            return int(connection.execute("SELECT COALESCE(MAX(number), 0) FROM acknowledgements").fetchone()[0])

    def events(self, after: int = 0, limit: int = 100) -> list[StoredEvent]:
        """Events with a sequence number above `after`, ascending."""
        found: list[StoredEvent] = []
        while len(found) < limit:
            with self._database.read() as connection:
                query = "SELECT sequence, content FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
                rows = connection.execute(query, (after, limit - len(found))).fetchall()
            if not rows:
                break
            after = int(rows[-1][0])
            # a damaged event is left out: `recover` reports it at the next start
            contents = ((sequence, json_object(content)) for sequence, content in rows)
            found += [stored_event(self.device, sequence, one) for sequence, one in contents if one is not None]
        return found

    def has_events(self, after: int) -> bool:
        """Whether there is an event with a sequence number above `after`."""
        with self._database.read() as connection:
            query = "SELECT EXISTS (SELECT 1 FROM events WHERE sequence > ?)"
            return bool(connection.execute(query, (after,)).fetchone()[0])

    def last_sequence(self) -> int:
        """Number of the latest event ever written, even if it has been removed."""
        with self._database.read() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        return 0 if row is None else int(row[0])

    def alerts(
        self,
        *,
        state: str | None = None,
        camera: str | None = None,
        judgement: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[AlertRecord]:
        """Records, the last to arrive first.

        Their ids do not say this: a clock that was wrong for an hour has dated alerts years ahead, and these would stay on
        top for as long.

        Args:
            state: Only alerts that are `open`, `held` or `closed`.
            camera: Only alerts of this camera.
            judgement: Only alerts of this judgement, or the `judged` or `unjudged` ones.
            before: Only alerts that arrived before this one, for the next page; when it is gone, those with a lower id.
            limit: Maximum number of records.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)} (got {state!r})")
        if judgement is not None and judgement not in FILTERS:
            raise ValueError(f"judgement must be one of {', '.join(FILTERS)} (got {judgement!r})")
        end = None if before is None else self._arrival_of(before)
        wanted = {"state = ?": state, "camera = ?": camera, "rowid < ?": end}
        conditions = {term: value for term, value in wanted.items() if value is not None}
        terms = list(conditions)
        if judgement in (JUDGED, UNJUDGED):
            terms.append(f"judgement IS {'NOT ' if judgement == JUDGED else ''}NULL")
        elif judgement is not None:
            conditions["judgement = ?"] = judgement
            terms.append("judgement = ?")
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        with self._database.read() as connection:
            # numbers first, because sorting the records themselves would read all of them
            numbers = f"SELECT rowid FROM alerts {where} ORDER BY rowid DESC LIMIT ?"
            query = f"SELECT id, record, state, camera FROM alerts WHERE rowid IN ({numbers}) ORDER BY rowid DESC"
            rows = connection.execute(query, (*conditions.values(), limit)).fetchall()
        return [_read(self._folder, *row) for row in rows]

    def _arrival_of(self, alert_id: str) -> int:
        known = self.arrivals([alert_id])
        if known:
            return known[alert_id]
        with self._database.read() as connection:
            (last,) = connection.execute("SELECT MAX(rowid) FROM alerts WHERE id < ?", (alert_id,)).fetchone()
        return int(last or 0) + 1

    def arrivals(self, alert_ids: Sequence[str]) -> dict[str, int]:
        """Numbers in the order of arrival of those alerts that are on disk."""
        marks = ", ".join("?" * len(alert_ids))
        with self._database.read() as connection:
            return dict(connection.execute(f"SELECT id, rowid FROM alerts WHERE id IN ({marks})", list(alert_ids)))

    def alert(self, alert_id: str) -> AlertRecord | None:
        with self._database.read() as connection:
            return _record(connection, self._folder, alert_id)

    def media(self, alert_id: str, kind: str) -> Path | None:
        """Path of an alert's image or clip, if it exists."""
        record = self.alert(alert_id)
        name = None if record is None else record.pictures.get(kind)
        if name is None:
            return None
        path = self._folder / name
        return path if path.is_file() else None

    def export(self, alert_id: str) -> None:
        """Write the record from the database to its file, `<id>.json`."""
        text, current = None, self._record_text(alert_id)
        # another process may change the record meanwhile: the last writer must have read last
        while current is not None and current != text:
            text = current
            if (content := json_object(text)) is None:
                return  # the file may be what is left of the record
            write_json(self._folder / f"{alert_id}.json", content)
            current = self._record_text(alert_id)
        if text is not None:
            self._exported.append((alert_id, text))

    def export_pending(self, limit: int = 100) -> int:
        """Write record files that a killed process or a full disk left unwritten; returns their number."""
        done = {alert_id for alert_id, _ in self._exported}
        with self._database.read() as connection:
            rows = connection.execute("SELECT id FROM alerts WHERE NOT is_exported ORDER BY id").fetchall()
        pending = [alert_id for (alert_id,) in rows if alert_id not in done][:limit]
        for alert_id in pending:
            self.export(alert_id)
        return len(pending)

    def save_exported(self) -> None:
        """Mark written files as up to date, so that the next process does not write them again."""
        if self._exported:
            with self._database.write() as connection:
                self._mark_exported(connection)

    def _mark_exported(self, connection: sqlite3.Connection) -> None:
        done, self._exported = self._exported, []
        connection.executemany("UPDATE alerts SET is_exported = 1 WHERE id = ? AND record = ?", done)

    def _record_text(self, alert_id: str) -> str | None:
        with self._database.read() as connection:
            row = connection.execute("SELECT record FROM alerts WHERE id = ?", (alert_id,)).fetchone()
        return None if row is None else str(row[0])


def open_archive(folder: Path) -> tuple[Archive, Database]:
    """Open the folder of a stream, which may be running in another process; the caller closes the database.

    Raises:
        StorageError: If the folder has no database, or it cannot be read.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise StorageError(
            f"{folder} holds no alerts: it has no {DATABASE}.",
            hint="Pass the folder that `edgead stream --alerts DIR` writes to.",
        )
    database = Database(path)
    return Archive(folder, database), database


def encode(value: Any) -> str:
    """JSON for the database, in ASCII, which avoids questions of encoding."""
    return json.dumps(plain(value), allow_nan=False, separators=(",", ":"))


def _record(connection: sqlite3.Connection, folder: Path, alert_id: str) -> AlertRecord | None:
    query = "SELECT id, record, state, camera FROM alerts WHERE id = ?"
    row = connection.execute(query, (alert_id,)).fetchone()
    return None if row is None else _read(folder, *row)


def _read(folder: Path, alert_id: str, text: str, state: str, camera: str | None) -> AlertRecord:
    """The record of a row; if it is damaged, that of its file, or else what the row itself says."""
    content = json_object(text)
    if content is not None and content.get("id") == alert_id:
        return AlertRecord.stored(content)
    try:
        return read_record(folder / f"{alert_id}.json")
    except UNREADABLE:
        return remains(alert_id, state, camera)


def _apply(connection: sqlite3.Connection, folder: Path, change: Change, age_s: float) -> Sequence[int]:
    record = None
    if change.alert is not None:
        known = _record(connection, folder, change.alert.id)
        record = (known or AlertRecord(id=change.alert.id)).merged(change.alert)
        if record.state is not None:  # otherwise the record has been removed meanwhile
            _save_record(connection, folder, record, age_s)
    if change.acknowledgement is not None:
        query = "INSERT INTO acknowledgements (alert_id, who, note) VALUES (?, ?, ?)"
        connection.execute(query, tuple(plain(list(change.acknowledgement))))
    if change.event is None:
        return ()
    return (_add_event(connection, change.event, record, age_s),)


def _add_event(connection: sqlite3.Connection, event: Event, record: AlertRecord | None, age_s: float) -> int:
    content = {
        "kind": event.kind, "at": event.at, "camera": event.camera, "zone": event.zone,
        "alert": None if record is None else record.as_json(),
        "detail": event.detail, "values": event.values,
    }  # fmt: skip
    cursor = connection.execute(
        "INSERT INTO events (alert_id, stored_s, content) VALUES (?, ?, ?)",
        (None if record is None else record.id, age_s, encode(content)),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _save_record(connection: sqlite3.Connection, folder: Path, record: AlertRecord, age_s: float) -> None:
    connection.execute(
        "INSERT INTO alerts (id, state, camera, judgement, record, stored_s, is_exported) VALUES (?, ?, ?, ?, ?, ?, 0) "
        "ON CONFLICT (id) DO UPDATE SET state = excluded.state, camera = excluded.camera, judgement = excluded.judgement, "
        "record = excluded.record, is_exported = 0",
        (record.id, record.state, record.camera, record.judgement, encode(record.as_json()), age_s),
    )
    names = {kind: name for kind, name in record.pictures.items() if name is not None}
    for (kind,) in connection.execute("SELECT kind FROM evidence WHERE alert_id = ?", (record.id,)).fetchall():
        if kind not in names:
            connection.execute("DELETE FROM evidence WHERE alert_id = ? AND kind = ?", (record.id, kind))
    for kind, name in names.items():
        size = _size(folder / name)
        connection.execute(
            "INSERT INTO evidence (alert_id, kind, file, size_bytes, stored_s) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (alert_id, kind) DO UPDATE SET file = excluded.file, size_bytes = excluded.size_bytes",
            (record.id, kind, name, size, age_s),
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
