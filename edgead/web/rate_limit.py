"""Rate limit per address."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_KEPT = 4096


class RateLimit:
    """Token bucket per address; memory is bounded.

    Args:
        burst: Attempts allowed at once.
        per_s: Attempts per second in the long run.
        clock: Monotonic clock, in seconds.
    """

    def __init__(self, burst: int, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until the next attempt is allowed, 0 if it is; counts nothing."""
        with self._lock:
            left = self._left(address)
        return 0.0 if left >= 1.0 else (1.0 - left) / self._per_s

    def take(self, address: str) -> float:
        """Count an attempt; seconds to wait, or 0 if it is allowed."""
        with self._lock:
            left = self._left(address)
            allowed = left >= 1.0
            self._buckets[address] = (left - 1.0 if allowed else left, self._clock())
            self._buckets.move_to_end(address)
            while len(self._buckets) > _KEPT:
                self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._per_s

    def give_back(self, address: str) -> None:
        """Undo a counted attempt."""
        with self._lock:
            self._buckets[address] = (min(float(self._burst), self._left(address) + 1.0), self._clock())

    def _left(self, address: str) -> float:
        left, at_s = self._buckets.get(address, (float(self._burst), self._clock()))
        return min(float(self._burst), left + (self._clock() - at_s) * self._per_s)
