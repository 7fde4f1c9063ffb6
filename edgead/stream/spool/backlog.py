"""Buffer of changes: written at once, or kept in memory in order while the disk fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from edgead.errors import StorageError
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.archive import Archive
from edgead.stream.spool.records import Change

_LOG = logging.getLogger(__name__)

_BATCH = 500


class Backlog:
    """Writes changes to the archive and buffers those that cannot be written. Not thread-safe.

    Args:
        archive: Archive to write to.
        limit: Maximum number of buffered changes; beyond it the oldest are lost and counted.
    """

    def __init__(self, archive: Archive, limit: int) -> None:
        self._archive = archive
        self._limit = limit
        self._waiting: deque[Change] = deque()
        self._records: dict[str, AlertRecord] = {}
        self.lost = 0
        self.failure = ""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def records(self) -> dict[str, AlertRecord]:
        """Records with buffered changes applied, by alert id."""
        return self._records

    def write(self, changes: Sequence[Change]) -> list[int]:
        """Write changes after the buffered ones.

        Returns:
            Sequence numbers of the events in the changes; empty if they are buffered.
        """
        if self.flush():
            try:
                return self._archive.write(changes)
            except StorageError as error:
                self._note(error)
        self._keep(changes)
        return []

    def flush(self) -> bool:
        """Try to write buffered changes; whether the buffer is empty now."""
        # start with one change: while the disk is full, an attempt should be cheap
        size = 1
        while self._waiting:
            batch = list(islice(self._waiting, size))
            size = min(2 * size, _BATCH)
            try:
                self._archive.write(batch)
            except StorageError as error:
                self._note(error)
                return False
            for _ in batch:
                self._waiting.popleft()
        if self.failure:
            _LOG.warning("Alert records are written again; %d were lost meanwhile", self.lost)
            self.failure = ""
            self._records.clear()
        return True

    def _note(self, error: StorageError) -> None:
        if not self.failure:
            _LOG.error(
                "%s Alert records are buffered in memory and are lost if this process ends. %s", error, error.hint
            )
        self.failure = error.message

    def _keep(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.alert is not None:
                alert_id = change.alert.id
                self._records[alert_id] = self._known(alert_id).merged(change.alert)
            self._waiting.append(change)
        while len(self._waiting) > self._limit:
            if not self.lost:
                _LOG.error("More than %d alert records are buffered: the oldest are lost from now on", self._limit)
            self._waiting.popleft()
            self.lost += 1

    def _known(self, alert_id: str) -> AlertRecord:
        if alert_id in self._records:
            return self._records[alert_id]
        try:
            found = self._archive.alert(alert_id)
        except StorageError:
            found = None
        return found or AlertRecord(id=alert_id)
