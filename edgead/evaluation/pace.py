"""How exceeding frames become alarms per hour: the bound that holds on any stream, and the measured one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

# Nobody wants a threshold below the median good score, however many alarms are allowed.
LARGEST_RATE = 0.5
# However few alarms are wanted, the rate for them stays above 0.
SMALLEST_RATE = 1e-300
HOUR_S = 3600.0

Basis = Literal["any stream", "measured bursts", "watched line"]


@dataclass(frozen=True)
class MeasuredBursts:
    """How exceeding frames gather into alerts, measured on a running stream (`stream.alarm_meter`).

    Attributes:
        alerts_per_exceedance: Upper bound of q, in (0, 1].
        share: Share of frames that exceeded the level where it was measured, in (0, 0.5).
    """

    alerts_per_exceedance: float
    share: float

    def at(self, rate: float) -> float:
        """Alerts per exceeding frame at a level that good frames exceed at `rate`."""
        if rate >= self.share:
            return self.alerts_per_exceedance
        normal = NormalDist()
        return self.alerts_per_exceedance * (normal.inv_cdf(rate) / normal.inv_cdf(self.share)) ** 2


@dataclass(frozen=True)
class Pace:
    """How exceeding frames become alarms per hour.

    Attributes:
        fps: Judged frames per second while the stream runs, above 0.
        open_frames: Anomalous frames that open an alert (N).
        bursts: What is known of their grouping; None: nothing, so the worst case of bursts of exactly N.
    """

    fps: float
    open_frames: int
    bursts: MeasuredBursts | None = None

    def __post_init__(self) -> None:
        if not (self.fps > 0.0 and math.isfinite(self.fps)):
            raise ValueError(f"fps must be above 0 and finite (got {self.fps})")
        if self.open_frames < 1:
            raise ValueError(f"open_frames must be at least 1 (got {self.open_frames})")

    @property
    def basis(self) -> Basis:
        return "any stream" if self.bursts is None else "measured bursts"

    def alarms_per_hour(self, rate: float) -> float:
        """At most so many alarms in an hour when good frames exceed the threshold at `rate`, in [0, 1]."""
        if rate <= 0.0:
            return 0.0
        q = 1.0 / self.open_frames if self.bursts is None else min(1.0 / self.open_frames, self.bursts.at(rate))
        return HOUR_S * self.fps * rate * q

    def rate(self, alarms_per_hour: float) -> float:
        """The rate per frame, at most 0.5, that keeps `alarms_per_hour`."""
        bound = max(SMALLEST_RATE, min(LARGEST_RATE, alarms_per_hour * self.open_frames / (HOUR_S * self.fps)))
        if self.bursts is None or bound == LARGEST_RATE:
            return bound
        low, high = math.log(bound), math.log(LARGEST_RATE)
        for _ in range(60):
            middle = (low + high) / 2
            if self.alarms_per_hour(math.exp(middle)) <= alarms_per_hour:
                low = middle
            else:
                high = middle
        return math.exp(low)
