"""Limit of concurrent long-lived connections."""

from __future__ import annotations

import threading


class ConnectionLimit:
    """Counter of concurrent connections.

    Args:
        limit: Maximum number of connections.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        return self._taken

    def take(self) -> bool:
        """Take a place if one is free; `leave` frees it."""
        with self._lock:
            if self._taken >= self.limit:
                return False
            self._taken += 1
            return True

    def leave(self) -> None:
        with self._lock:
            self._taken -= 1
