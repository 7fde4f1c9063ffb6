"""The newest frame of each burst: networks hold frames back and deliver several at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cv2.typing import MatLike

from edgead.stream.sources.capture import Capture, damage_of_last

_USUAL_S, _SMOOTHING = 0.04, 0.05
# Shares of the usual interval: a frame that comes earlier belongs to a burst; after a longer wait a burst is expected.
_EARLY, _GAP = 0.5, 1.5
_STEADY = 10
# While frames are owed, the next is awaited for as long as TCP may hold back a packet; in a stream with bursts, a moment.
_OWED_S, _MOMENT_S = 0.06, 0.01
# A burst without end is a stream.
_LONGEST_BURST_S = 1.0


@dataclass(frozen=True)
class _Read:
    """Outcome of one read of the inner capture, and how long the next frame may take to count as of the same burst."""

    found: bool
    image: MatLike | None
    damage: str
    quiet_s: float
    error: Exception | None = None


class NewestCapture:
    """A `Capture` of another one, which is read on a thread of its own, without the frames that a newer one follows at once.

    Args:
        capture: Open capture of a live stream; closed by the thread.
        on_skip: Callback for each frame that is left out.
    """

    def __init__(self, capture: Capture, on_skip: Callable[[], None]) -> None:
        self.damage = ""
        self._capture = capture
        self._on_skip = on_skip
        self._changed = threading.Condition()
        self._waiting: _Read | None = None
        self._is_released = False
        self._thread = threading.Thread(target=self._run, name="edgead newest frame", daemon=True)
        self._thread.start()

    def read(self) -> tuple[bool, MatLike]:
        with self._changed:
            while self._waiting is None:
                self._changed.wait()
            until_s = time.monotonic() + _LONGEST_BURST_S
            before = None
            while self._waiting is not before and self._waiting.quiet_s > 0 and time.monotonic() < until_s:
                before = self._waiting
                self._changed.wait_for(lambda before=before: self._waiting is not before, before.quiet_s)  # type: ignore[misc]
            newest = self._waiting
            if newest.error is None and newest.found:
                self._waiting = None
                self._changed.notify_all()
        if newest.error is not None:
            raise newest.error
        self.damage = newest.damage
        return newest.found, newest.image  # type: ignore[return-value]

    def get(self, property_id: int, /) -> float:
        return self._capture.get(property_id)

    def release(self) -> None:
        """Let the thread close the capture when its read returns."""
        with self._changed:
            self._is_released = True
            self._changed.notify_all()

    def _run(self) -> None:
        bursts = _Bursts()
        try:
            while not self._is_released:
                error: Exception | None = None
                found, image = False, None
                try:
                    found, image = self._capture.read()
                except Exception as caught:  # raised again where the frame is asked for
                    error = caught
                quiet_s = bursts.quiet_s(time.monotonic()) if found else 0.0
                self._put(_Read(found, image, damage_of_last(self._capture), quiet_s, error))
                if error is not None or not found:
                    return
        finally:
            self._capture.release()

    def _put(self, read: _Read) -> None:
        with self._changed:
            if self._waiting is not None:
                if read.error is not None or not read.found:
                    # the last frame of a stream is taken before its end
                    self._changed.wait_for(lambda: self._waiting is None or self._is_released)
                else:
                    self._on_skip()
            self._waiting = read
            self._changed.notify_all()


class _Bursts:
    """Expects the frames that a network owes after a gap, from the usual interval between frames."""

    def __init__(self) -> None:
        self._usual_s = _USUAL_S
        self._arrived_s: float | None = None
        self._n_owed = 0.0
        self._n_steady = 0

    def quiet_s(self, arrived_s: float) -> float:
        """Time without a further frame after which the frame that arrives now is the newest of its burst, in seconds."""
        before_s, self._arrived_s = self._arrived_s, arrived_s
        if before_s is None:
            return _MOMENT_S
        waited_s = arrived_s - before_s
        is_early = waited_s < _EARLY * self._usual_s
        self._n_steady = 0 if is_early else self._n_steady + 1
        if is_early or waited_s > _GAP * self._usual_s:
            self._n_owed = min(max(0.0, self._n_owed + waited_s / self._usual_s - 1), _LONGEST_BURST_S / self._usual_s)
        else:
            # a frame that came at its usual time had to be waited for: no other is held back
            self._n_owed = 0.0
        self._usual_s += _SMOOTHING * (waited_s - self._usual_s)
        if self._n_owed >= _EARLY:
            return _OWED_S
        return _MOMENT_S if self._n_steady < _STEADY else 0.0
