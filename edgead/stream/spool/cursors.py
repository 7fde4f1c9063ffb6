"""Delivery positions of the sinks, and dead letters."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from typing import Any

from edgead.errors import StorageError
from edgead.stream.spool.archive import encode
from edgead.stream.spool.database import Database
from edgead.stream.spool.events import StoredEvent, iso


class Cursors:
    """Positions of the sinks in the event history; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._confirmed: dict[str, int] = {}

    def begin(self, sink: str, *, after: int) -> int:
        """Register a sink.

        Args:
            sink: Name of the sink, the same at every start.
            after: Sequence number after which an unknown sink starts.

        Returns:
            Sequence number of the last confirmed event.
        """
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO sinks VALUES (?, ?)", (sink, after))
            (sequence,) = connection.execute("SELECT sequence FROM sinks WHERE name = ?", (sink,)).fetchone()
        self._note(sink, int(sequence))
        return int(sequence)

    def advance(self, sink: str, sequence: int) -> None:
        """Record that a sink has confirmed all events up to a number; kept in memory while the disk fails."""
        self._note(sink, sequence)
        with self._database.write() as connection:
            connection.execute("UPDATE sinks SET sequence = MAX(sequence, ?) WHERE name = ?", (sequence, sink))

    def set_aside(self, sink: str, event: StoredEvent, reason: str) -> None:
        """Move an event that a sink rejects to the dead letters, and advance the sink."""
        with self._database.write() as connection:
            row = (sink, event.sequence, iso(datetime.now(timezone.utc)), reason, encode(event.payload))
            connection.execute("INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("UPDATE sinks SET sequence = MAX(sequence, ?) WHERE name = ?", (event.sequence, sink))
        self._note(sink, event.sequence)

    def told(self, last: int) -> int:
        """Last event confirmed by all sinks; `last` if there are no sinks."""
        with self._lock:
            return min(self._confirmed.values(), default=last)

    def depths(self) -> dict[str, int]:
        """Number of undelivered events per sink; -1 if it cannot be read."""
        with self._lock:
            confirmed = dict(self._confirmed)
        return {sink: self._depth(sequence) for sink, sequence in confirmed.items()}

    def dead_letters(self, sink: str | None = None) -> list[dict[str, Any]]:
        """Dead letters, oldest first: `sink`, `sequence`, `at`, `reason`, `payload` (JSON text)."""
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
