"""Counts of what a shadow would have changed, and the forecast of its alarms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from edgead.evaluation.bursts import dispersions
from edgead.evaluation.forecast import CountForecast, forecast_count
from edgead.stream.alarms.blocks import BlockSums, Floats, dispersion
from edgead.stream.result import ZoneVerdict

HOUR_S = 3600.0
# Blocks of the observed time: enough to see that alarms come in bursts, long enough to hold a burst.
_MAX_BLOCKS, _MAX_BLOCK_FRAMES = 32, 2**20
_SCALES, _LEAST_BLOCKS = 3, 8
# Least observed time of a forecast for an hour.
LEAST_S = 60.0
# A longer pause than this many frame intervals is no time of the stream.
_PAUSE = 10.0


@dataclass
class CameraTally:
    """Counts of one camera.

    Attributes:
        judged: Frames judged by both models.
        both, only_active, only_shadow: Frames that both, or one of them alone, call anomalous.
        seconds: Time in which alerts were counted.
        alerts, alerts_active: Alerts that the shadow would have opened, and that the active model opened, in this time.
    """

    judged: int = 0
    both: int = 0
    only_active: int = 0
    only_shadow: int = 0
    seconds: float = 0.0
    alerts: int = 0
    alerts_active: int = 0
    # place in the stretch, and times of the last frame and of the last one that counted
    _n: int = field(default=0, repr=False)
    _last_s: float | None = field(default=None, repr=False)
    _counted_s: float | None = field(default=None, repr=False)
    _interval_s: float = field(default=0.0, repr=False)


class ShadowTally:
    """Compares the verdicts of two models frame by frame, in bounded memory.

    Alerts count only after the first frames of a stretch, when both state machines have forgotten what came before: an
    alert that began before the stretch is open by then.

    Args:
        cameras: Names of the cameras.
        settle: Number of frames at the beginning of a stretch in which no alert counts.
    """

    def __init__(self, cameras: tuple[str, ...], settle: int) -> None:
        self.cameras = {name: CameraTally() for name in cameras}
        self._settle = settle
        # alerts, counted seconds, passed seconds
        self._blocks = BlockSums(3, max_blocks=_MAX_BLOCKS, max_frames=_MAX_BLOCK_FRAMES)

    def add(
        self,
        camera: str,
        time_s: float,
        active: tuple[ZoneVerdict, ...],
        shadow: tuple[ZoneVerdict, ...],
        *,
        begins: bool,
    ) -> str:
        """Add a frame that both models have judged.

        Args:
            camera: Name of the camera.
            time_s: Time on the source's own time line, in seconds.
            active, shadow: Verdicts of both models.
            begins: Whether a stretch begins with this frame.

        Returns:
            `same`, `only_active` or `only_shadow`: who calls the frame anomalous.
        """
        tally = self.cameras[camera]
        interval_s = self._interval(tally, time_s, begins=begins)
        tally._n = 1 if begins else tally._n + 1
        tally.judged += 1
        is_active, is_shadow = (any(zone.is_anomalous for zone in zones) for zones in (active, shadow))
        tally.both += is_active and is_shadow
        if tally._n > self._settle:
            opened = _opened(shadow)
            tally.alerts += opened
            tally.alerts_active += _opened(active)
            tally.seconds += interval_s
            passed_s = interval_s if tally._counted_s is None else max(interval_s, time_s - tally._counted_s)
            tally._counted_s = time_s
            self._blocks.add(np.array([opened, interval_s, passed_s]))
        if is_active == is_shadow:
            return "same"
        if is_active:
            tally.only_active += 1
            return "only_active"
        tally.only_shadow += 1
        return "only_shadow"

    def forecast(self, hours: float = 1.0, confidence: float = 0.95) -> CountForecast | None:
        """Alarms of all cameras in the coming hours; None if a camera was watched for less than a minute.

        It holds if the coming hours are like the observed ones. Bursts widen it as far as they were seen, and while few alarms leave
        open whether they come in bursts, as far as that is possible.
        """
        tallies = list(self.cameras.values())
        if any(tally.seconds < LEAST_S for tally in tallies):
            return None
        n = sum(tally.alerts for tally in tallies)
        rate = sum(tally.alerts / tally.seconds for tally in tallies)
        seconds = n / rate if n else min(tally.seconds for tally in tallies)
        events, watched_s, passed_s = self._blocks.sums.T
        share = min(1.0, float(watched_s.sum() / passed_s.sum())) if passed_s.sum() > 0.0 else 1.0
        possible = dispersions(events, watched_s, share)
        found = forecast_count(n, seconds / HOUR_S, hours, dispersions=possible, confidence=confidence)
        seen = block_dispersion(events, watched_s)
        # a share of the frames thins the bursts that all of them will show
        return replace(found, dispersion=seen, coming_dispersion=1.0 + (seen - 1.0) / share)

    def _interval(self, tally: CameraTally, time_s: float, *, begins: bool) -> float:
        before_s, tally._last_s = tally._last_s, time_s
        if begins or before_s is None:
            return 0.0
        # a clock of a source that jumps back, or ahead, is no time of the stream
        elapsed_s = max(0.0, time_s - before_s)
        if tally._interval_s == 0.0:
            tally._interval_s = elapsed_s
        counted_s = min(elapsed_s, _PAUSE * tally._interval_s)
        tally._interval_s += 0.05 * (counted_s - tally._interval_s)
        return counted_s if elapsed_s <= _PAUSE * tally._interval_s else tally._interval_s


def block_dispersion(events: Floats, seconds: Floats) -> float:
    """Variance of the events per block over that of independent events, at least 1.

    The largest of three lengths of the blocks, as longer ones hold longer bursts. With few blocks the estimate is made
    larger by about the square of Student's quantile over the normal one.

    Args:
        events, seconds: Number of events and length of each block, both `(B,)`.
    """
    largest = 1.0
    for _ in range(_SCALES):
        n_blocks, total = len(events), float(events.sum())
        if n_blocks < _LEAST_BLOCKS or total == 0.0 or not seconds.sum() > 0.0:
            break
        found = dispersion(total, events - total / float(seconds.sum()) * seconds)
        if found > 1.0:
            largest = max(largest, found * (1.0 + 2.8 / n_blocks))
        even = n_blocks % 2
        events, seconds = (values[even::2] + values[even + 1 :: 2] for values in (events, seconds))
    return largest


def _opened(zones: tuple[ZoneVerdict, ...]) -> int:
    return sum(zone.event is not None and zone.event.kind == "opened" for zone in zones)
