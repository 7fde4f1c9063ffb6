"""Fault of frames in which the part of an aligning bundle is not found."""

from __future__ import annotations

KIND = "part-not-found"
MESSAGE = (
    "The part is not found: the picture shows none, another one, or one that lies outside the range of the alignment."
)
_FEW_FRAMES = 3
_OPEN_S = 2.0


class PartMonitor:
    """Watches for how long the part is not found, and calls it a fault if that lasts.

    A frame without the part is never judged, fault or not: between two parts a conveyor shows none.

    Args:
        waits: Whether it must last, as for a camera; each file of a folder counts at once.
    """

    def __init__(self, *, waits: bool) -> None:
        self._few_frames, self._open_s = (_FEW_FRAMES, _OPEN_S) if waits else (1, 0.0)
        self._since_s: float | None = None
        self._n_frames = 0

    def observe(self, time_s: float, *, lacks_part: bool) -> str | None:
        """Take the next frame.

        Args:
            time_s: Capture time, monotonic.
            lacks_part: Whether the part was not found in it.

        Returns:
            The current fault in words; None while there is none.
        """
        if not lacks_part:
            self._since_s, self._n_frames = None, 0
            return None
        self._since_s = time_s if self._since_s is None else self._since_s
        self._n_frames += 1
        lasts = self._n_frames >= self._few_frames and time_s - self._since_s >= self._open_s
        return MESSAGE if lasts else None
