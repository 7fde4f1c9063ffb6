"""Pauses of a busy machine, measured beside a test, so that a limit in real time is one of the time that the program had."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from typing_extensions import Self

STEP_S = 0.01
# shorter ones are ordinary: the scheduler's, and those of other threads of this process
SHORTEST_S = 0.05


class Stalls:
    """A thread that asks to be woken every 10 ms and notes by how much it is woken too late."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls")

    def lost_s(self, since_s: float = 0.0, until_s: float = float("inf")) -> float:
        """Seconds that pauses took from a program between two moments of `time.monotonic`; pauses under 50 ms do not count."""
        shares = (min(end_s, until_s) - max(end_s - late_s, since_s) for end_s, late_s in list(self._found))
        return sum(share for share in shares if share > 0)

    def _watch(self) -> None:
        before_s = time.monotonic()
        while not self._stop.wait(STEP_S):
            now_s = time.monotonic()
            if (late_s := now_s - before_s - STEP_S) > SHORTEST_S:
                self._found.append((now_s, late_s))
            before_s = now_s

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
