"""Login sessions, in memory, with expiry."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Session:
    name: str
    started_s: float
    used_s: float


class Sessions:
    """Sessions by random key; only hashes of the keys are stored.

    Args:
        idle_s: Seconds without a request after which a session ends.
        max_s: Maximum lifetime of a session, in seconds.
        limit: Maximum number of sessions; beyond it the least recently used one ends.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        idle_s: float = 2 * 3600.0,
        max_s: float = 12 * 3600.0,
        limit: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_s = max_s
        self._idle_s = idle_s
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    def start(self, name: str) -> str:
        """Start a session and return its key."""
        key, now_s = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._forget_old(now_s)
            if len(self._sessions) >= self._limit:
                oldest = min(self._sessions, key=lambda one: self._sessions[one].used_s)
                del self._sessions[oldest]
            self._sessions[_hash(key)] = _Session(name, now_s, now_s)
        return key

    def name_of(self, key: str) -> str | None:
        """User of a session, or None if it has ended. Counts as use."""
        now_s = self._clock()
        with self._lock:
            self._forget_old(now_s)
            session = self._sessions.get(_hash(key))
            if session is None:
                return None
            session.used_s = now_s
            return session.name

    def is_alive(self, key: str) -> bool:
        """Whether a session exists. Does not count as use."""
        return self.id_of(key) is not None

    def id_of(self, key: str) -> str | None:
        """Identifier of a session that does not grant access, or None. Does not count as use."""
        number = _hash(key)
        with self._lock:
            self._forget_old(self._clock())
            return number if number in self._sessions else None

    def end(self, key: str) -> None:
        with self._lock:
            self._sessions.pop(_hash(key), None)

    def _forget_old(self, now_s: float) -> None:
        over = [
            key
            for key, session in self._sessions.items()
            if now_s - session.used_s > self._idle_s or now_s - session.started_s > self.max_s
        ]
        for key in over:
            del self._sessions[key]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
