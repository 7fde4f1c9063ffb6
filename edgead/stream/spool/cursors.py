"""How far each sink has got, and what it refused."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import Any

from edgead.errors import StorageError
from edgead.stream.spool.archive import encode
from edgead.stream.spool.database import Database
from edgead.stream.spool.events import StoredEvent, iso


class Cursors:
    """The places of the sinks in the history; safe to use from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._confirmed: dict[str, int] = {}

    def begin(self, sink: str, *, after: int) -> int:
        """Take part in the delivery.

        Args:
            sink: Name, the same at every start.
            after: A sink that is not known yet begins behind this event.

        Returns:
            The last event that it has confirmed.
        """
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO sinks VALUES (?, ?)", (sink, after))
            (sequence,) = connection.execute("SELECT sequence FROM sinks WHERE name = ?", (sink,)).fetchone()
        self._note(sink, int(sequence))
        return int(sequence)

    def advance(self, sink: str, sequence: int) -> None:
        """Note that a sink has confirmed everything up to an event. While the disk takes nothing, memory knows."""
        self._note(sink, sequence)
        with self._database.write() as connection:
            connection.execute("UPDATE sinks SET sequence = MAX(sequence, ?) WHERE name = ?", (sequence, sink))

    def set_aside(self, sink: str, event: StoredEvent, reason: str) -> None:
        """Keep an event that a sink refuses among the dead letters, for people, and go on behind it."""
        with self._database.write() as connection:
            row = (sink, event.sequence, iso(datetime.now(timezone.utc)), reason, encode(event.payload))
            connection.execute("INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("UPDATE sinks SET sequence = MAX(sequence, ?) WHERE name = ?", (event.sequence, sink))
        self._note(sink, event.sequence)

    def told(self, last: int) -> int:
        """Every sink has confirmed the events up to this one; `last` where there are no sinks."""
        with self._lock:
            return min(self._confirmed.values(), default=last)

    def depths(self) -> dict[str, int]:
        """Events that each sink has still to get; -1 when the disk does not say."""
        with self._lock:
            confirmed = dict(self._confirmed)
        return {sink: self._depth(sequence) for sink, sequence in confirmed.items()}

    def dead_letters(self, sink: str | None = None) -> list[dict[str, Any]]:
        """What was set aside: `sink`, `sequence`, `at`, `reason`, `payload` (JSON text); oldest first."""
        with self._database.read() as connection:
            query = (
                "SELECT sink, sequence, at, reason, content FROM dead_letters WHERE ? IS NULL OR sink = ? ORDER BY at"
            )
            rows = connection.execute(query, (sink, sink)).fetchall()
        return [dict(zip(("sink", "sequence", "at", "reason", "payload"), row, strict=True)) for row in rows]

    def _note(self, sink: str, sequence: int) -> None:
        with self._lock:
            self._confirmed[sink] = sequence

    def _depth(self, after: int) -> int:
        try:
            with self._database.read() as connection:
                query = "SELECT COUNT(*) FROM events WHERE sequence > ?"
                return int(connection.execute(query, (after,)).fetchone()[0])
        except StorageError:
            return -1
