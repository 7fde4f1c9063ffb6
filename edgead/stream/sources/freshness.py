"""Age of live frames when they come out of a capture, whose buffer may hold old ones."""

from __future__ import annotations

import math

# FFmpeg probes up to five seconds of a stream when it opens it, and delivers those frames afterwards.
_SETTLE_S = 5.0
_SETTLED_BY = 2
_USUAL_FPS = 25.0
# Camera clocks differ from ours by some 50 ppm; apparent lag is forgiven faster than that.
_FORGIVEN = 1e-3
_SMOOTHING = 0.1


class FrameClock:
    """Ages of the frames of one connection.

    Frames that arrive faster than they were captured were waiting in a buffer. If the stream has frame times, the age
    is the accumulated delay that has not been caught up since. Some streams have no times (MJPEG over HTTP), and some
    libraries restart them after a gap; so the frames after a pause are suspect as well, until a frame has to be waited
    for: then the buffer is empty.

    Args:
        fps: Frame rate of the capture, if known.
        longest_pause_s: Frames after a longer pause are suspect.
    """

    def __init__(self, fps: float | None, longest_pause_s: float) -> None:
        self._interval_s = 1 / (fps or _USUAL_FPS)
        self._longest_pause_s = longest_pause_s
        self._first_s: float | None = None
        self._arrived_s = 0.0
        self._stream_s: float | None = None
        self._is_settled = False
        self._n_awaited = 0
        self._was_pause = False
        self._late_s = 0.0
        self._suspect_s = 0.0

    def age_s(self, arrived_s: float, stream_s: float | None) -> float:
        """Age of a frame in seconds.

        Args:
            arrived_s: Arrival time, monotonic.
            stream_s: Time of the frame in the stream; None if the stream has no times.

        Returns:
            0 for a frame that arrives when it is captured; infinity until the buffer that filled while connecting has
            been emptied.
        """
        waited_s, step_s = arrived_s - self._arrived_s, self._step_s(stream_s)
        self._arrived_s = arrived_s
        if self._first_s is None:
            self._first_s = arrived_s
            return math.inf
        if not self._is_settled:
            # a quarter: half of a guessed interval is still too long for a camera twice as fast
            least_s = self._interval_s / 4 if step_s is None else step_s / 2
            self._n_awaited = self._n_awaited + 1 if waited_s >= least_s > 0 else 0
            self._is_settled = self._n_awaited >= _SETTLED_BY or arrived_s - self._first_s > _SETTLE_S
            return 0.0 if self._is_settled else math.inf
        if step_s is not None and step_s > 0:
            self._late_s = max(0.0, self._late_s + waited_s * (1 - _FORGIVEN) - step_s)
        self._suspect(waited_s)
        return max(self._late_s, self._suspect_s)

    def _step_s(self, stream_s: float | None) -> float | None:
        """Time since the previous frame according to the stream; None without stream times, at most 0 if unknown."""
        before_s, self._stream_s = self._stream_s, stream_s
        if stream_s is None:
            return None
        return 0.0 if before_s is None else stream_s - before_s

    def _suspect(self, waited_s: float) -> None:
        is_pause = waited_s > max(self._longest_pause_s, 3 * self._interval_s)
        is_first = is_pause and not self._was_pause
        self._was_pause = is_pause
        if is_first:
            self._suspect_s = waited_s - self._interval_s
        elif waited_s >= self._interval_s / 2:
            self._suspect_s = 0.0
        else:
            self._suspect_s = max(0.0, self._suspect_s + waited_s - self._interval_s)
        if self._suspect_s == 0.0:
            self._interval_s += _SMOOTHING * (waited_s - self._interval_s)
