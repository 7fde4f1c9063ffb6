"""New events of the store, read once for all listeners."""

from __future__ import annotations

import logging
from collections import deque

from edgead.stream.spool.events import EventPayload
from edgead.web.running_stream import AlertStore

_LOG = logging.getLogger(__name__)

POLL_S = 0.4
_BLOCK = 500
_SEARCHED = 10_000
_CHANGES = 200
_RECENT = 500


class EventFeed:
    """Follows the event history; `poll` runs on one thread at a time, everything else is thread-safe.

    Args:
        store: Store of the events.
    """

    def __init__(self, store: AlertStore) -> None:
        self._store = store
        self._changes: deque[EventPayload] = deque(maxlen=_CHANGES)
        self._recent: deque[tuple[int, EventPayload]] = deque(maxlen=_RECENT)
        self._is_failing = False
        self.sequence = 0

    def open(self) -> None:
        """Find the end of the history and the threshold changes before it."""
        self.sequence = self._store.last_sequence()
        after = max(0, self.sequence - _SEARCHED)
        while after < self.sequence:
            events = self._store.events(after, _BLOCK)
            if not events:
                break
            for event in events:
                if event.sequence <= self.sequence:
                    self._note_change(event.payload)
            after = events[-1].sequence

    def poll(self) -> None:
        """Read new events; a failing store is retried at the next call."""
        try:
            for event in self._store.events(self.sequence, _BLOCK):
                self._note_change(event.payload)
                self._recent.append((event.sequence, event.payload))
                self.sequence = event.sequence
            self._is_failing = False
        except Exception:
            if not self._is_failing:
                _LOG.exception("The event history cannot be read; retrying")
            self._is_failing = True

    def since(self, sequence: int) -> list[EventPayload]:
        """Events after a number, ascending, at most 500; older ones are read from the store."""
        if sequence >= self.sequence:
            return []
        recent = list(self._recent)
        if recent and recent[0][0] <= sequence + 1:
            return [payload for number, payload in recent if number > sequence]
        return [event.payload for event in self._store.events(sequence, _BLOCK)]

    @property
    def changes(self) -> list[EventPayload]:
        """Threshold changes, newest first, at most 200."""
        return list(self._changes)[::-1]

    def _note_change(self, payload: EventPayload) -> None:
        if payload["kind"] == "threshold_changed":
            self._changes.append(payload)
