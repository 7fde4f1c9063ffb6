"""A limited number of places for what goes on for long."""

from __future__ import annotations

import threading


class ConnectionLimit:
    """Counts who is there.

    Args:
        limit: Places.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        return self._taken

    def take(self) -> bool:
        """Whether there was a free one; then it is to be left at the end."""
        with self._lock:
            if self._taken >= self.limit:
                return False
            self._taken += 1
            return True

    def leave(self) -> None:
        with self._lock:
            self._taken -= 1
