"""Hand-over between threads: newest wins for live sources, back-pressure for everything else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

# Closing wakes every waiting thread at once; the limit only bounds the delay after a lost wake-up.
_WAIT_S = 0.1


class Slot(Generic[T]):
    """A bounded queue that can always be closed, so that neither side waits for a dead partner.

    Args:
        capacity: Maximum number of items in the queue.
        newest_wins: When full, a new item replaces the oldest one, which is counted in `dropped`;
            otherwise the producer waits for space.
        changed: Condition shared by the slots that one thread reads with `take_each`.
    """

    def __init__(self, capacity: int, *, newest_wins: bool, changed: threading.Condition | None = None) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._newest_wins = newest_wins
        self._closed = False
        self.changed = changed or threading.Condition()
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Add an item; False when the slot is closed and the item was not added."""
        with self.changed:
            while len(self._items) >= self._capacity and not self._closed:
                if self._newest_wins:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self.changed.wait(_WAIT_S)
            if self._closed:
                return False
            self._items.append(item)
            self.changed.notify_all()
            return True

    def take(self) -> T | None:
        """Wait for the next item; None when the slot is closed and empty."""
        with self.changed:
            while not self._items and not self._closed:
                self.changed.wait(_WAIT_S)
            if not self._items:
                return None
            item = self._items.popleft()
            self.changed.notify_all()
            return item

    def close(self) -> None:
        """Accept no more items; those inside can still be taken."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def abandon(self) -> None:
        """Close and discard the items inside."""
        with self.changed:
            self._items.clear()
        self.close()

    @property
    def is_finished(self) -> bool:
        """Whether the slot is closed and empty."""
        return self._closed and not self._items

    @property
    def depth(self) -> int:
        """Number of waiting items."""
        return len(self._items)

    def _pop(self) -> T | None:
        return self._items.popleft() if self._items else None


def take_each(slots: Sequence[Slot[T]], *, timeout_s: float = _WAIT_S) -> list[tuple[int, T]]:
    """Take at most one item from each slot, with the slot's number; waits up to `timeout_s` until one has any.

    An empty slot never blocks the others. The slots must share one condition.
    """
    changed = slots[0].changed
    with changed:
        if not any(slot.depth for slot in slots) and not all(slot.is_finished for slot in slots):
            changed.wait(timeout_s)
        taken = [(index, item) for index, slot in enumerate(slots) if (item := slot._pop()) is not None]
        if taken:
            changed.notify_all()
        return taken
