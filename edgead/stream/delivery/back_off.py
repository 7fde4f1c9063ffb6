"""Exponential back-off with jitter."""

from __future__ import annotations

import random

FIRST_S = 1.0
# A receiver may ask for more time than our own longest pause, up to this limit.
MAX_ASKED_S = 3600.0


class BackOff:
    """Pauses that double up to a limit, each shortened at random to between half and all of it.

    Args:
        max_s: Longest pause, in seconds.
        first_s: First pause, in seconds.
    """

    def __init__(self, max_s: float, first_s: float = FIRST_S) -> None:
        self._max_s = max_s
        self._first_s = min(first_s, max_s)
        self._n_failures = 0

    def next_s(self, asked_s: float | None = None) -> float:
        """Pause after another failure; at least the time that the receiver asked for."""
        # beyond 2^32 the limit is long reached
        whole_s = min(self._first_s * 2.0 ** min(self._n_failures, 32), self._max_s)
        self._n_failures += 1
        pause_s = whole_s * random.uniform(0.5, 1.0)
        return max(pause_s, min(asked_s or 0.0, MAX_ASKED_S))

    def reset(self) -> None:
        """Start over after a success."""
        self._n_failures = 0
