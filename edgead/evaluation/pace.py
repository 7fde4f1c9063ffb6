"""Alarms per hour from the rate of exceeding frames: a bound for any stream, or with measured bursts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

# A threshold below the median good score is useless, however many alarms are allowed.
LARGEST_RATE = 0.5
# The rate stays above 0 for any allowed number of alarms.
SMALLEST_RATE = 1e-300
HOUR_S = 3600.0

Basis = Literal["any stream", "measured bursts", "watched line"]


@dataclass(frozen=True)
class MeasuredBursts:
    """Grouping of exceeding frames into alerts, measured on a running stream (`stream/alarms/alarm_meter.py`).

    Attributes:
        alerts_per_exceedance: Upper bound of q, the alerts per exceeding frame, in (0, 1].
        share: Share of frames above the level at which q was measured, in (0, 0.5).
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
    """Frame rate and alert rule of a stream: conversion between rate per frame and alarms per hour.

    Attributes:
        fps: Judged frames per second while the stream runs, above 0.
        open_frames: Number of anomalous frames that open an alert (N).
        bursts: Measured grouping of exceeding frames; None assumes the worst case, bursts of exactly N.
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
        """Upper bound of alarms per hour if good frames exceed the threshold at `rate`, in [0, 1]."""
        if rate <= 0.0:
            return 0.0
        q = 1.0 / self.open_frames if self.bursts is None else min(1.0 / self.open_frames, self.bursts.at(rate))
        return HOUR_S * self.fps * rate * q

    def rate(self, alarms_per_hour: float) -> float:
        """Largest rate per frame, at most 0.5, that keeps `alarms_per_hour`."""
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
