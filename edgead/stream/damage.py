"""Camera fault of damaged frames: those that lack lost packets."""

from __future__ import annotations

from collections import deque

KIND = "damaged"
# One lost packet damages a second or two of frames, and is no fault of the camera.
_WINDOW_S, _OPEN_S, _CLOSE_S = 10.0, 2.0, 5.0
# Longest time that one frame stands for.
_LONGEST_S = 1.0


class DamageMonitor:
    """Watches how long the frames of one camera are damaged, and calls it a fault if that is often.

    A damaged frame is never judged, fault or not; whole frames between damaged ones are.
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._damaged: deque[tuple[float, float]] = deque()
        self._damaged_until_s = 0.0
        self._fault: str | None = None

    def observe(self, time_s: float, damage: str) -> str | None:
        """Take the next frame.

        Args:
            time_s: Capture time, monotonic.
            damage: Reason why the frame is damaged; empty for a whole one.

        Returns:
            The current fault in words; None while there is none.
        """
        spent_s = 0.0 if self._last_s is None else min(max(time_s - self._last_s, 0.0), _LONGEST_S)
        self._last_s = time_s
        if damage:
            self._damaged.append((time_s, spent_s))
            self._damaged_until_s = time_s
        while self._damaged and time_s - self._damaged[0][0] > _WINDOW_S:
            self._damaged.popleft()
        if self._fault is None and sum(spent for _, spent in self._damaged) >= _OPEN_S:
            self._fault = f"The picture is damaged: {damage or 'packets are lost'}. Only whole frames are judged."
        elif self._fault is not None and time_s - self._damaged_until_s > _CLOSE_S:
            self._fault = None
            self._damaged.clear()
        return self._fault
