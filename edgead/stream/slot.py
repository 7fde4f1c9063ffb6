"""The hand-over between two threads: newest wins for live sources, back-pressure for everything else."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

# Closing wakes every waiter at once; the limit only bounds the damage of a wake-up that got lost.
_WAIT_S = 0.1


class Slot(Generic[T]):
    """A bounded queue that can always be closed, so that neither side can wait for a partner that died.

    Args:
        capacity: Number of items that it holds.
        newest_wins: When full, a new item replaces the oldest one, which is counted in `dropped`;
            otherwise the producer waits for space.
    """

    def __init__(self, capacity: int, *, newest_wins: bool) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._newest_wins = newest_wins
        self._closed = False
        self._changed = threading.Condition()
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Hand an item over; False when the slot is closed, and the item is not taken."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._closed:
                if self._newest_wins:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait(_WAIT_S)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self) -> T | None:
        """Wait for the next item; None when the slot is closed and empty."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait(_WAIT_S)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Take nothing more; what is inside can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Close and throw away what is inside."""
        with self._changed:
            self._items.clear()
        self.close()
