"""SQLite database with one writer at a time, concurrent readers and synced transactions."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from edgead.errors import StorageError
from edgead.stream.spool.layout import has_unknown, layout_of, layouts, missing_from, version_of

_LOG = logging.getLogger(__name__)

DATABASE = "spool.sqlite"
_BUSY_S = 5.0
_COMPANIONS = ("", "-wal", "-shm")

# One migration script per schema version, never changed once released: version n needs the scripts after the n-th. Each
# must change a table or a column: the version number in the file's header may be damaged.
_SCHEMA = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT, stored_s REAL NOT NULL, content TEXT NOT NULL
    );
    CREATE INDEX events_alert ON events (alert_id);
    CREATE TABLE alerts (
        id TEXT PRIMARY KEY, state TEXT NOT NULL, camera TEXT, record TEXT NOT NULL, stored_s REAL NOT NULL,
        is_exported INTEGER NOT NULL
    );
    CREATE INDEX alerts_state ON alerts (state, id);
    CREATE INDEX alerts_not_exported ON alerts (is_exported) WHERE NOT is_exported;
    CREATE TABLE evidence (
        number INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL, kind TEXT NOT NULL, file TEXT NOT NULL,
        size_bytes INTEGER NOT NULL, stored_s REAL NOT NULL, UNIQUE (alert_id, kind)
    );
    CREATE INDEX evidence_file ON evidence (file);
    CREATE TABLE acknowledgements (
        number INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL, who TEXT NOT NULL, note TEXT NOT NULL
    );
    CREATE TABLE sinks (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
    CREATE TABLE dead_letters (
        sink TEXT NOT NULL, sequence INTEGER NOT NULL, at TEXT NOT NULL, reason TEXT NOT NULL, content TEXT NOT NULL,
        PRIMARY KEY (sink, sequence)
    );
    """,
    """
    ALTER TABLE alerts ADD COLUMN judgement TEXT;
    CREATE INDEX alerts_judgement ON alerts (judgement, camera);
    """,
)


class Database:
    """An intact database file of a known schema.

    Thread-safe. Several processes may open the same file; writers wait for each other.

    Raises:
        StorageError: If the file cannot be opened, is damaged, or belongs to a newer edgead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle_readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._is_closed = False
        with _translated(path):
            self._writer = _connect(path)
            try:
                _prepare(self._writer, path)
            except BaseException:
                self._writer.close()
                raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction: on disk when the block ends, rolled back if it raises.

        Raises:
            StorageError: If the disk is full or cannot be written.
        """
        with self._lock, _translated(self._path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # SQLite rolls back by itself if the disk is full
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for queries, never blocked by the writer."""
        with _translated(self._path):
            if self._is_closed:
                raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
            try:
                connection = self._idle_readers.get_nowait()
            except queue.Empty:
                connection = _connect(self._path)
            try:
                yield connection
            finally:
                self._idle_readers.put(connection)
                if self._is_closed:
                    self._close_readers()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._close_readers()
            self._writer.close()

    def _close_readers(self) -> None:
        while True:
            try:
                self._idle_readers.get_nowait().close()
            except queue.Empty:
                return


_MOVED = "`edgead stream` moves it aside and creates a new one."


class DamagedError(StorageError):
    """A damaged database file."""


def open_or_replace(folder: Path, now: datetime) -> tuple[Database, Path | None]:
    """Open the folder's database; move a damaged one aside and create a new one.

    Returns:
        The database, and the path of the damaged one, if any.

    Raises:
        StorageError: If the database cannot be opened for another reason.
    """
    path = folder / DATABASE
    try:
        return Database(path), None
    except DamagedError as error:
        aside = _move_aside(path, now)
        _LOG.error(
            "%s The file is kept as %s and a new one is created; alerts are restored from their .json files, undelivered "
            "events are lost unless they can be recovered from the old file.",
            error.message,
            aside,
        )
        return Database(path), aside


def _move_aside(path: Path, now: datetime) -> Path:
    stamp = now.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for companion in _COMPANIONS:
        old = path.with_name(path.name + companion)
        if old.exists():
            old.rename(aside.with_name(aside.name + companion))
    return aside


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    # a flipped bit makes one text unreadable, not every query of its table
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection, path)
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise DamagedError(f"{path} is damaged: {problem}.", hint=_MOVED)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        _LOG.warning(
            "%s does not support write-ahead logging (mode %s): readers and writers block each other", path, mode
        )
    connection.execute("PRAGMA journal_size_limit = 16777216")
    for number, script in enumerate(_SCHEMA[version:], start=version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
        except sqlite3.OperationalError:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            # another process may have brought the file up to date meanwhile
            if missing_from(layout_of(connection), layouts(_SCHEMA)[number]):
                raise


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Schema version; a number in the header that contradicts the tables is corrected.

    Raises:
        StorageError: If the database belongs to a newer edgead.
        DamagedError: If tables or columns are missing.
    """
    (stated,) = connection.execute("PRAGMA user_version").fetchone()
    found, known = layout_of(connection), layouts(_SCHEMA)
    if 0 <= stated < len(known) and not missing_from(found, known[stated]) and (stated or not found):
        is_last = stated + 1 == len(known)
        if is_last or missing_from(found, known[stated + 1]):
            return int(stated)
    version = version_of(found, known)
    if version:
        _LOG.warning(
            "%s states schema %d, but has the tables of schema %d: its header was damaged", path, stated, version
        )
        connection.execute(f"PRAGMA user_version = {version}")
        return version
    if stated > len(_SCHEMA) and has_unknown(found, known[-1]):
        raise StorageError(
            f"{path} was written by a newer edgead: its schema is {stated}, this version knows up to {len(_SCHEMA)}.",
            hint="Use that version, or another alert folder.",
        )
    missing = missing_from(found, known[-1])
    raise DamagedError(f"{path} is damaged: {missing or 'its tables are of no known version'}.", hint=_MOVED)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        full = "full" in text
        raise StorageError(
            f"{'The disk is full' if full else 'Database error'}: {path} could not be used: {text}.",
            hint=f"Free some space on the disk of {path.parent}."
            if full
            else f"Check permissions, free space and health of the disk of {path.parent}.",
        ) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise StorageError(f"{path} could not be used: {error}.") from error
        raise DamagedError(f"{path} is damaged: {error}.", hint=_MOVED) from error
