"""Age of live frames when they come out of a capture, whose buffer may hold old ones."""

from __future__ import annotations

import math
from collections import deque

# FFmpeg probes up to five seconds of a stream when it opens it, and delivers those frames afterwards.
_SETTLE_S = 5.0
_SETTLED_BY = 2
# A clock may claim steps up to 2.5 times as long as they are.
_SETTLED_SHARE = 0.4
_USUAL_FPS = 25.0
_SMOOTHING = 0.1


class FrameClock:
    """Ages of the frames of one connection.

    Frames that arrive faster than they were captured were waiting in a buffer. If the stream has frame times, the age
    is the delay above that of frames that had to be waited for (`_Delay`). Some streams have no times (MJPEG over
    HTTP), and some libraries restart them after a gap; so the frames after a pause are suspect as well, until a frame
    has to be waited for: then the buffer is empty.

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
        self._delay = _Delay()
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
            least_s = self._interval_s / 4 if step_s is None else step_s * _SETTLED_SHARE
            self._n_awaited = self._n_awaited + 1 if waited_s >= least_s > 0 else 0
            self._is_settled = self._n_awaited >= _SETTLED_BY or arrived_s - self._first_s > _SETTLE_S
            return 0.0 if self._is_settled else math.inf
        late_s = 0.0 if step_s is None else self._delay.add(waited_s, step_s)
        self._suspect(waited_s)
        return max(late_s, self._suspect_s)

    def excuse_pause(self) -> None:
        """Say that damaged frames came since the last one, so that the pause before the next is no reason for doubt."""
        self._was_pause = True

    @property
    def is_awaited(self) -> bool:
        """Whether frames come no faster than the camera captures them: then no buffer holds any."""
        return self._delay.is_awaited

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


class _Delay:
    """Delay of frames by their stream's clock, which may run at another rate than ours.

    The clock of a camera can be wrong by half a percent, and one that counts frames by wrong by a quarter: it says 25 a
    second and sends 20 in the dark. So the rate of the camera's clock is estimated, and what counts is the delay above
    the smallest since the last few frames that had to be waited for. Only a buffer makes frames come faster than that.
    """

    _N_AWAITED = 5
    _N_WAITS = 9
    # Share of the usual interval; frames of a backlog that drains come faster.
    _AWAITED = 0.9
    _STALL, _SHORTEST_STALL_S = 4.0, 0.25
    _LONGEST_STEP = 10.0
    _MEMORY_S, _PRIOR_S = 10.0, 0.1

    def __init__(self) -> None:
        self._delay_s = 0.0
        # smallest delay from each of the last awaited frames to the next
        self._least_s = deque([0.0], maxlen=self._N_AWAITED)
        self._waits_s: deque[float] = deque(maxlen=self._N_WAITS)
        self._n_since_stall = self._N_AWAITED
        self._host_s = self._stream_s = self._PRIOR_S
        self.is_awaited = True

    @property
    def _rate(self) -> float:
        """Seconds of our clock for one second of the stream's."""
        return self._host_s / self._stream_s

    def add(self, waited_s: float, step_s: float) -> float:
        """Age of the next frame in seconds, from the times since the previous one by our clock and the stream's."""
        self._waits_s.append(waited_s)
        usual_s = sorted(self._waits_s)[len(self._waits_s) // 2]
        if waited_s > max(self._SHORTEST_STALL_S, self._STALL * usual_s, self._STALL * self._rate * step_s):
            self._n_since_stall = 0
        expected_s = self._rate * step_s if step_s > 0 else usual_s
        if step_s > 0:
            self._delay_s += waited_s - expected_s
        self.is_awaited = waited_s >= self._AWAITED * expected_s > 0
        if self.is_awaited:
            self._n_since_stall += 1
            self._least_s.append(self._delay_s)
        self._least_s[-1] = min(self._least_s[-1], self._delay_s)
        age_s = self._delay_s - min(self._least_s)
        if step_s > 0 and (age_s == 0 or self._n_since_stall >= self._N_AWAITED):
            # a clock that was set forward says nothing about its rate
            if step_s < self._LONGEST_STEP * max(waited_s, usual_s):
                self._learn(waited_s, step_s)
        return age_s

    def _learn(self, waited_s: float, step_s: float) -> None:
        kept = math.exp(-waited_s / self._MEMORY_S)
        self._host_s = kept * self._host_s + waited_s
        self._stream_s = kept * self._stream_s + step_s
