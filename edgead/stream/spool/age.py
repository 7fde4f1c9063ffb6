"""Age of stored data, independent of changes of the wall clock."""

from __future__ import annotations

from collections.abc import Callable

DAY_S = 86400.0
# Longest pause counted: a wall clock that is wrong by years must not expire everything at once.
MAX_PAUSE_S = 7 * DAY_S


class AgeClock:
    """Age of the spool in seconds.

    Within a process it follows the monotonic clock, so that changes of the wall clock have no effect. The pause between
    two processes is measured by the wall clock and limited to 0 to `MAX_PAUSE_S`.

    Args:
        lived_s: Age saved by the last process, in seconds.
        seen_s: Wall clock at that time, in seconds since 1970; None for a new spool.
        wall: Wall clock.
        monotonic: Monotonic clock.
    """

    def __init__(
        self, lived_s: float, seen_s: float | None, wall: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        pause_s = 0.0 if seen_s is None else min(max(wall() - seen_s, 0.0), MAX_PAUSE_S)
        self.wall = wall
        self._monotonic = monotonic
        self._base_s = lived_s + pause_s - monotonic()

    def __call__(self) -> float:
        """Age in seconds."""
        return self._base_s + self._monotonic()
