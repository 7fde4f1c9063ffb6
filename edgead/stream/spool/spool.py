"""Spool of a running stream: exclusive to its process, with a memory buffer for disk failures."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edgead.errors import StorageError
from edgead.storage import exclusive, storage_error, write_json
from edgead.stream.control import Acknowledge
from edgead.stream.spool import reserve, retention
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.backlog import Backlog
from edgead.stream.spool.cursors import Cursors
from edgead.stream.spool.database import open_or_replace
from edgead.stream.spool.events import Event, StoredEvent, iso
from edgead.stream.spool.json_values import plain
from edgead.stream.spool.judgements import AlertGoneError, Opinion, judged
from edgead.stream.spool.listing import Wanted, merged_with_waiting
from edgead.stream.spool.media import MediaFolder, sync_folder
from edgead.stream.spool.options import SpoolHealth, SpoolOptions
from edgead.stream.spool.records import Change, acknowledged
from edgead.stream.spool.recovery import open_archive_of_stream, recover

_LOG = logging.getLogger(__name__)

LOCK = ".spool.lock"
_MAINTAIN_S = 5.0
_SAVE_AGE_S = 60.0


class Spool:
    """Folder of alerts, their files and events; a thread-safe context manager.

    `append` returns when the event is on disk. If the disk is full or fails, the event is buffered in memory in order,
    `append` returns 0, `health` and the log report it, and writing is retried every few seconds.

    The folder belongs to one process at a time. On opening, unfinished files are removed, a damaged database is moved
    aside, and alerts left open by a dead process are closed (`interrupted`), or held if they are latched.

    Raises:
        StorageError: From `__enter__`, if another process uses the folder, it cannot be written, or its database belongs
            to a newer edgead. From `__exit__`, if changes were lost.
    """

    def __init__(
        self,
        folder: Path,
        options: SpoolOptions,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._options = options
        self._limits = retention.Limits(
            options.evidence_mb, options.evidence_days, options.event_days, options.record_days
        )
        self._wall = wall
        self._monotonic = monotonic
        self._stack = ExitStack()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._unpolled: deque[Acknowledge] = deque()
        self._media = MediaFolder(folder, options.min_free_mb)
        self._is_export_late = False
        self._polled = self._last = 0
        self._unsaved = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                self._folder.parent.mkdir(parents=True, exist_ok=True)
                self._folder.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise storage_error(self._folder, error) from error
            hint = "Stop it, or give this stream another folder: --alerts DIR."
            stack.enter_context(exclusive(self._folder / LOCK, f"writes its alerts to {self._folder}", hint=hint))
            reserve.release(self._folder)
            self._database, _ = open_or_replace(self._folder, self._now())
            stack.callback(self._database.close)
            self._archive = open_archive_of_stream(self._folder, self._database, self._wall, self._monotonic)
            recover(self._folder, self._database, self._archive, self._now())
            self._backlog = Backlog(self._archive, self._options.memory_events)
            self._cursors = Cursors(self._database)
            self._last = self._archive.last_sequence()
            self._polled = self._archive.last_acknowledgement()
            self._archive.save_age(0.0)
            self._keeper = threading.Thread(target=self._maintain_regularly, name="edgead spool", daemon=True)
            self._keeper.start()
            stack.callback(self._shut_down)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if kind is None and self._unsaved:
            raise StorageError(self._unsaved, hint="Free some space and check the disk; then start the stream again.")

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def device(self) -> str:
        """Random id of this spool; a new database has a new one, because its sequence numbers restart."""
        return self._archive.device

    def is_from_another_machine(self, machine: str) -> bool:
        """Whether this spool was made on another machine than this one; False while one of them is unknown.

        Args:
            machine: Digest of this machine, stored in a spool that has none; empty if unknown.
        """
        made_on = self._archive.meta("machine")
        if not made_on and machine:
            self._archive.set_meta(machine=machine)
        return bool(machine and made_on and made_on != machine)

    # History

    def append(self, event: Event) -> int:
        """Write an event and its change of the alert's record.

        Returns:
            Sequence number of the event on disk, or 0 if it is buffered in memory.
        """
        return next(iter(self._write([Change(event)])), 0)

    def update(self, patch: AlertRecord) -> None:
        """Change the record of `patch.id` without an event."""
        self._write([Change(patch=patch)])

    def events(self, after: int = 0, limit: int = 100) -> list[StoredEvent]:
        """Events with a sequence number above `after`, ascending."""
        return self._archive.events(after, limit)

    def last_sequence(self) -> int:
        """Number of the latest event ever written, even if it has been removed."""
        return self._archive.last_sequence()

    def wait_for_events(self, after: int, timeout_s: float) -> bool:
        """Wait for an event with a number above `after`; False on timeout."""
        with self._changed:
            last = self._last
        # another process may have added an event without notifying this one, and the latest may have been removed
        if self._archive.has_events(after):
            return True
        with self._changed:
            return self._changed.wait_for(lambda: self._last > last, timeout_s)

    # Alerts

    def alerts(
        self,
        *,
        state: str | None = None,
        camera: str | None = None,
        judgement: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[AlertRecord]:
        """Records, the last to arrive first; filters as in `Archive.alerts`."""
        found = self._archive.alerts(state=state, camera=camera, judgement=judgement, before=before, limit=limit)
        with self._changed:
            waiting = dict(self._backlog.records)
        if not waiting:
            return found
        stored = self._archive.arrivals([*(one.id for one in found), *waiting, *([before] if before else [])])
        wanted = Wanted(state, camera, judgement, before)
        return merged_with_waiting(found, waiting, stored, wanted)[:limit]

    def alert(self, alert_id: str) -> AlertRecord | None:
        with self._changed:
            waiting = self._backlog.records.get(alert_id)
        return waiting or self._archive.alert(alert_id)

    def held_alerts(self) -> list[AlertRecord]:
        """Held alerts, oldest first; `records.restored_alert` revives those of an earlier process."""
        return self.alerts(state="held", limit=10000)[::-1]

    def acknowledge(self, alert_id: str, who: str, note: str = "") -> bool:
        """Acknowledge an alert durably; a held one closes. False if it is unknown or already acknowledged.

        The state machines are informed through `poll_acknowledgements`.
        """
        with self._changed:
            if self._backlog.flush():
                try:
                    is_new = self._archive.acknowledge(alert_id, who, note, self._now())
                    self._last = self._archive.last_sequence()
                    self._after_write([alert_id] if is_new else [])
                    return is_new
                except StorageError as error:
                    _LOG.error("%s The acknowledgement is buffered in memory.", error)
            record = self.alert(alert_id)
            if record is None or record.acknowledged_at is not None:
                return False
            self._write(acknowledged(record, who, note, iso(self._now())))
            self._unpolled.append(Acknowledge(alert_id, who))
            return True

    def judge(self, alert_id: str, opinion: Opinion, *, instead_of: int | None = 0) -> AlertRecord:
        """Store a person's judgement durably, as `Archive.judge` does; returns the record with it."""
        with self._changed:
            if self._backlog.flush():
                try:
                    judged_record = self._archive.judge(alert_id, opinion, instead_of=instead_of, now=self._now())
                    self._last = self._archive.last_sequence()
                    self._after_write([alert_id])
                    return judged_record
                except StorageError as error:
                    _LOG.error("%s The judgement is buffered in memory.", error)
            record = self.alert(alert_id)
            if record is None:
                raise AlertGoneError(alert_id)
            self._write(judged(record, opinion, instead_of, iso(self._now())))
            return self.alert(alert_id) or record

    def judgements(self) -> dict[tuple[str | None, str | None], int]:
        """Number of alerts on disk by camera and judgement, as `Archive.judgements` counts them."""
        return self._archive.judgements()

    def poll_acknowledgements(self) -> list[Acknowledge]:
        """Acknowledgements of all processes since the last call, for `Control`; some may be repeated."""
        with self._changed:
            heard = list(self._unpolled)
            self._unpolled.clear()
            try:
                rows = self._archive.acknowledgements(self._polled)
            except StorageError as error:
                _LOG.debug("Acknowledgements cannot be read: %s", error)
                rows = []
            if rows:
                self._polled = rows[-1][0]
        return heard + [Acknowledge(alert_id, who) for _, alert_id, who in rows]

    # Images and clips

    def write_media(self, name: str, content: bytes | Path) -> str | None:
        """Write an image or clip, synced; to be called before the record that names it is written.

        Args:
            name: File name, `<alert id>-<kind>.<suffix>`.
            content: Content, or a file of this folder to rename.

        Returns:
            None on success, otherwise the reason for the record's `pictures_missing`.
        """
        return self._media.write(name, content)

    def media(self, alert_id: str, kind: str) -> Path | None:
        """Path of an alert's `snapshot`, `heatmap`, `peak` or `clip`, if it exists."""
        record = self.alert(alert_id)
        name = None if record is None else record.pictures.get(kind)
        path = self._folder / name if name else None
        return path if path is not None and path.is_file() else None

    # Sinks

    @property
    def cursors(self) -> Cursors:
        """Delivery positions of the sinks."""
        return self._cursors

    def begin(self, sink: str, *, from_beginning: bool) -> int:
        """Register a sink; a new one starts with all retained events, or with the next one.

        Returns:
            Sequence number of the last confirmed event.
        """
        return self._cursors.begin(sink, after=0 if from_beginning else self._archive.last_sequence())

    def depths(self) -> dict[str, int]:
        """Number of undelivered events per sink; -1 if it cannot be read."""
        return self._cursors.depths()

    # Health

    def health(self) -> SpoolHealth:
        with self._changed:
            waiting, lost, failure = len(self._backlog), self._backlog.lost, self._backlog.failure
        details = [self._media.detail, failure, f"{lost} records lost" if lost else ""]
        return SpoolHealth(
            evidence_ok=self._media.is_ok,
            records_ok=not failure,
            free_mb=self._media.free_mb,
            detail="; ".join(text for text in details if text),
            waiting=waiting,
            lost=lost,
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), timezone.utc)

    def _write(self, changes: Sequence[Change]) -> list[int]:
        with self._changed:
            numbers = self._backlog.write(changes)
            self._last = max([self._last, *numbers])
            written = [change.alert.id for change in changes if change.alert is not None]
            self._after_write(dict.fromkeys(written) if not self._backlog.failure else [])
        return numbers

    def _after_write(self, alerts: Iterable[str]) -> None:
        self._changed.notify_all()
        for alert_id in alerts:
            self._export(alert_id)

    def _export(self, alert_id: str) -> None:
        try:
            self._archive.export(alert_id)
            sync_folder(self._folder)
        except StorageError as error:
            if not self._is_export_late:
                _LOG.error("%s The record is in the database; the file is written later.", error)
            self._is_export_late = True

    # Maintenance

    def maintain(self) -> None:
        """Run one round of maintenance: retry buffered changes and apply retention limits."""
        try:
            self._media.has_space()
            reserve.keep(self._folder)
            with self._changed:
                is_clear = self._backlog.flush()
                self._last = self._archive.last_sequence()
                self._changed.notify_all()
            if is_clear:
                self._remove_old()
            if self._archive.export_pending() == 0:
                self._is_export_late = False
            self._archive.save_age(_SAVE_AGE_S)
        except StorageError as error:
            # failed writes are logged where they happen; this is only a retry
            _LOG.debug("Maintenance failed: %s", error)

    def _remove_old(self) -> None:
        now_s, told = self._archive.age_s, self._cursors.told(self._last)
        with self._database.read() as connection:
            files = retention.removable_media(connection, self._limits, now_s, told)
            changes = retention.removals(connection, files)
        if files:
            # removed first, because a full disk could not store the change
            self._media.remove(files)
            _LOG.info("Removed %d images and clips of old alerts", len(files))
            self._write(changes)
        gone = retention.purge(self._database, self._limits, now_s, told)
        self._media.remove(f"{alert_id}.json" for alert_id in gone)

    def _maintain_regularly(self) -> None:
        while not self._stop.wait(_MAINTAIN_S):
            self.maintain()

    def _shut_down(self) -> None:
        self._stop.set()
        self._keeper.join()
        self.maintain()
        try:
            self._archive.save_age(0.0)
            self._archive.save_exported()
        except StorageError as error:
            _LOG.debug("%s", error)
        n_lost = self._backlog.lost + len(self._backlog)
        if n_lost:
            n_files = self._save_as_files() if len(self._backlog) else 0
            self._unsaved = f"Changes of alerts and events lost, because they could not be written: {n_lost}."
            if n_files:
                self._unsaved += (
                    f" The records of {n_files} alerts were written as files; the next stream imports them."
                )
            if self._backlog.failure:
                self._unsaved += f" {self._backlog.failure}"
            _LOG.error("%s", self._unsaved)

    def _save_as_files(self) -> int:
        """Write the records that the database does not take as files; returns their number."""
        n_files = 0
        for alert_id, record in self._backlog.records.items():
            try:
                write_json(self._folder / f"{alert_id}.json", plain(record.as_json()))
                n_files += 1
            except StorageError as error:
                _LOG.debug("%s", error)
        return n_files
