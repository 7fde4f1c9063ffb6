"""Retry budget and back-off for lost connections."""

from __future__ import annotations

from collections import deque

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 10.0


class RestartBudget:
    """Capped exponential back-off with at most `max_restarts` in any `window_s` seconds."""

    def __init__(self, max_restarts: int, window_s: float) -> None:
        self._max_restarts = max_restarts
        self._window_s = window_s
        self._attempts: deque[float] = deque()

    def next_delay(self, now_s: float) -> float | None:
        """Count one restart at `now_s` (monotonic) and return the delay before it in s; None if the budget is spent."""
        while self._attempts and now_s - self._attempts[0] >= self._window_s:
            self._attempts.popleft()
        if len(self._attempts) >= self._max_restarts:
            return None
        delay_s = min(FIRST_DELAY_S * 2.0 ** len(self._attempts), MAX_DELAY_S)
        self._attempts.append(now_s)
        return delay_s

    def rest_s(self, now_s: float) -> float:
        """Seconds from `now_s` until the window allows a restart again; infinite if `max_restarts` is 0."""
        if self._max_restarts == 0:
            return float("inf")
        if len(self._attempts) < self._max_restarts:
            return 0.0
        return max(0.0, self._attempts[0] + self._window_s - now_s)
