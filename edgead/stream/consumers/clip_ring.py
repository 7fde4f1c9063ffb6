"""Ring buffer of a camera's last seconds, as small JPEGs in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class ClipFrame:
    """A small JPEG with its time on the source's time line, in seconds."""

    time_s: float
    jpeg: bytes


class ClipRing:
    """Frames within a time span and a memory limit.

    Args:
        span_s: Maximum age of a frame relative to the newest, in seconds.
        memory_mb: Maximum size of all JPEGs together.
    """

    def __init__(self, span_s: float, memory_mb: float) -> None:
        self._span_s = span_s
        self._limit = int(memory_mb * 1e6)
        self._frames: deque[ClipFrame] = deque()
        self.n_bytes = 0

    @property
    def newest_s(self) -> float | None:
        return self._frames[-1].time_s if self._frames else None

    def add(self, frame: ClipFrame) -> None:
        """Add the newest frame and drop frames beyond the limits."""
        if self._frames and frame.time_s < self._frames[-1].time_s:
            self._frames.clear()
            self.n_bytes = 0
        self._frames.append(frame)
        self.n_bytes += len(frame.jpeg)
        while self.n_bytes > self._limit or self._frames[0].time_s < frame.time_s - self._span_s:
            self.n_bytes -= len(self._frames.popleft().jpeg)
            if not self._frames:
                return

    def cut(self, first_s: float, last_s: float) -> list[ClipFrame]:
        """Frames from `first_s` to `last_s`, oldest first."""
        return [frame for frame in self._frames if first_s <= frame.time_s <= last_s]
