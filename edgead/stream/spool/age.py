"""How old things in the spool are, by a clock that nobody can set."""

from __future__ import annotations

from collections.abc import Callable

DAY_S = 86400.0
# Longer pauses count as this: a wall clock that was wrong by years at the last stop must not make everything old at once.
MAX_PAUSE_S = 7 * DAY_S


class AgeClock:
    """The spool's own time: seconds that it has lived.

    While a process runs it follows the monotonic clock, so that setting the wall clock changes nothing. The time between
    two processes is taken from the wall clock, as 0 to `MAX_PAUSE_S`: a clock set back counts as no time, one set years
    forward as a week.

    Args:
        lived_s: Time lived when the last process saved it.
        seen_s: The wall clock then, in seconds since 1970; None for a new spool.
        wall: The wall clock.
        monotonic: A clock that only goes forward.
    """

    def __init__(
        self, lived_s: float, seen_s: float | None, wall: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        pause_s = 0.0 if seen_s is None else min(max(wall() - seen_s, 0.0), MAX_PAUSE_S)
        self.wall = wall
        self._monotonic = monotonic
        self._base_s = lived_s + pause_s - monotonic()

    def __call__(self) -> float:
        """Seconds that the spool has lived."""
        return self._base_s + self._monotonic()
