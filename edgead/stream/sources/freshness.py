"""How old a live frame is when it comes out of a capture: buffers hand over the past as if it were now."""

from __future__ import annotations

import math

# FFmpeg looks at up to five seconds of a stream when it opens it, and hands them over afterwards.
_SETTLE_S = 5.0
_SETTLED_BY = 2
_USUAL_FPS = 25.0
# Clocks of cameras differ from ours by some 50 ppm; what a frame seems to lag is forgiven faster than that.
_FORGIVEN = 1e-3
_SMOOTHING = 0.1


class FrameClock:
    """The ages of the frames of one connection.

    Frames that come faster than they were captured were waiting in a buffer. Where the stream tells the time of each
    frame, the age is what has come too late so far and was not caught up since. As some streams tell nothing (MJPEG over
    HTTP) and some libraries start counting anew after a gap, a pause makes what follows suspect as well, until a frame
    has to be waited for: then the buffer is empty.

    Args:
        fps: Of the capture, if it says.
        longest_pause_s: What comes after a longer pause may be old.
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
        """How long ago a frame was captured, in seconds.

        Args:
            arrived_s: When it came, monotonic.
            stream_s: Its time in the stream; None where streams have none.

        Returns:
            0 for a frame that comes when it is captured; infinity as long as the buffer that had filled while the
            connection was made has not been emptied.
        """
        waited_s, step_s = arrived_s - self._arrived_s, self._step_s(stream_s)
        self._arrived_s = arrived_s
        if self._first_s is None:
            self._first_s = arrived_s
            return math.inf
        if not self._is_settled:
            # half of a guess is still too much for a camera that is twice as fast
            least_s = self._interval_s / 4 if step_s is None else step_s / 2
            self._n_awaited = self._n_awaited + 1 if waited_s >= least_s > 0 else 0
            self._is_settled = self._n_awaited >= _SETTLED_BY or arrived_s - self._first_s > _SETTLE_S
            return 0.0 if self._is_settled else math.inf
        if step_s is not None and step_s > 0:
            self._late_s = max(0.0, self._late_s + waited_s * (1 - _FORGIVEN) - step_s)
        self._suspect(waited_s)
        return max(self._late_s, self._suspect_s)

    def _step_s(self, stream_s: float | None) -> float | None:
        """How much later than the one before a frame was captured, by the stream; at most 0 if it does not say."""
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
