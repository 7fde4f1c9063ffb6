"""Measurements behind alarm rates: frame rate, correlation of frames, alerts per exceeding frame.

All frames are assumed to be good. Defects among them raise the levels of watched stretches, and count as exceeding
frames and alerts.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.stream.alarms.blocks import BlockSums, Floats, count_interval, dispersion
from edgead.stream.alarms.shadow import ShadowAlert
from edgead.stream.alerts import AlertRules

SHARES = (0.1, 0.05, 0.02, 0.01, 0.005)
STRETCH_S = 10.0
# A level is used to measure bursts once at least this many frames have exceeded it, and while at most this share does:
# beyond it bursts merge.
MIN_EXCEEDING = 500
MAX_SHARE = 0.2
_MAX_BLOCKS = 32
# At 25 frames/s: blocks of up to 1.5 h, two days in all.
_MAX_BLOCK_FRAMES = 2**17
_MIN_BLOCKS = 8
_KEPT_STRETCHES = 8640
_PAUSE = 10.0
_ONE_SIDED, _TWO_SIDED = 1.645, 1.96
_N_SUMS = 4
# Of ranks in 0..1: below it is rounding.
_LEAST_VARIANCE = 1e-9


@dataclass(frozen=True)
class LevelReport:
    """Measurements at one level, a quantile of the good scores.

    Attributes:
        level: Score in raw units.
        nominal_share: Share of the held-out images above the level.
        share: Share of the stream's frames above the level.
        share_interval: 95 % interval of `share` that counts clusters of frames, not frames.
        is_unlike: Whether that interval and the one of `nominal_share` are disjoint: the stream's frames differ from
            the held-out images, and promises made from those do not hold here.
        n_exceeding: Number of frames above the level.
        n_alerts: Number of alerts that the rule would have opened at the level.
        alerts_per_exceedance: Upper 95 % bound of alerts per exceeding frame if bursts were rare enough not to merge;
            at most 1/N; None if too few or too many frames exceed the level.
    """

    level: float
    nominal_share: float
    share: float
    share_interval: tuple[float, float]
    is_unlike: bool
    n_exceeding: int
    n_alerts: int
    alerts_per_exceedance: float | None


@dataclass(frozen=True)
class AlarmReport:
    """Measurements of a stream's frames over at most the last two days.

    Attributes:
        n_frames: Number of frames measured.
        fps: Frames per second, excluding pauses; None while too few frames are measured.
        rank_correlation: Correlation of consecutive frames' ranks among the good scores, -1 to 1.
        looks_per_hour: Number of independent frames per hour that would give the mean rank with the same precision.
        levels: Reports by level, lowest first.
    """

    n_frames: int
    fps: float | None
    rank_correlation: float | None
    looks_per_hour: float | None
    levels: tuple[LevelReport, ...]

    @property
    def bursts(self) -> LevelReport | None:
        """Report of the highest level with measured bursts; its `alerts_per_exceedance` and `share` tighten a bound."""
        usable = [level for level in self.levels if level.alerts_per_exceedance is not None]
        return usable[-1] if usable else None


class AlarmMeter:
    """Measures a stream frame by frame, in bounded memory; `add` and the readers may be on different threads.

    Args:
        good_scores: Scores of held-out good images, at least 1.
        rules: The stream's alert rule; its threshold does not matter.
        stretch_s: Length of a watched stretch, in seconds.
    """

    def __init__(self, good_scores: Sequence[float], rules: AlertRules, *, stretch_s: float = STRETCH_S) -> None:
        self._lock = threading.Lock()
        self._good = sorted(good_scores)
        n = len(self._good)
        self._shares = [share for share in SHARES if (n + 1) * share >= 1.0]
        self._levels = [self._good[n - math.floor((n + 1) * share)] for share in self._shares]
        self._shadows = [ShadowAlert(level, rules) for level in self._levels]
        self._open_frames = rules.open_frames
        self._blocks = BlockSums(_N_SUMS + 3 * len(self._levels), max_blocks=_MAX_BLOCKS, max_frames=_MAX_BLOCK_FRAMES)
        self._window: deque[float] = deque(maxlen=rules.window_frames)
        self._stretches: deque[float] = deque(maxlen=_KEPT_STRETCHES)
        self.stretch_s = stretch_s
        self._watched_s = 0.0
        self._stretch_level = -math.inf
        self._last_s: float | None = None
        self._last_rank = 0.5
        self._interval_s = 0.0

    def add(self, score: float, time_s: float) -> None:
        """Add the next frame.

        Args:
            score: Score in raw units, finite.
            time_s: Time on the source's own time line, in seconds; must not go back.
        """
        with self._lock:
            elapsed_s = self._elapsed(time_s)
            self._watch(score, elapsed_s)
            rank = bisect.bisect(self._good, score) / len(self._good)
            values = [elapsed_s, rank, rank * rank, rank * self._last_rank]
            self._last_rank = rank
            for shadow in self._shadows:
                seen = shadow.add(score)
                values += (seen.is_anomalous, seen.has_opened, seen.is_open)
            self._blocks.add(np.array(values))

    def stretch_levels(self) -> list[float]:
        """Level of each watched stretch below which a threshold would have raised an alert in it.

        At most the last 8,640 (a day at 10 s each), oldest first; input of `evaluation.alarm_rate.promise_from_watch`.
        """
        with self._lock:
            return list(self._stretches)

    def report(self) -> AlarmReport:
        """Measurements so far."""
        with self._lock:
            sums, block_frames = self._blocks.sums, self._blocks.block_frames
        n = len(sums) * block_frames
        if len(sums) < _MIN_BLOCKS:
            return AlarmReport(n, None, None, None, ())
        seconds, ranks, squares, products = sums[:, :_N_SUMS].sum(axis=0)
        fps = n / float(seconds) if seconds > 0.0 else None
        variance = float(squares / n - (ranks / n) ** 2)
        correlation = looks = None
        if variance > _LEAST_VARIANCE:
            correlation = float(products / n - (ranks / n) ** 2) / variance
            inflation = max(1.0, block_frames * float((sums[:, 1] / block_frames).var(ddof=1)) / variance)
            looks = None if fps is None else 3600.0 * fps / inflation
        levels = tuple(
            self._level_report(self._levels[i], self._shares[i], sums[:, _N_SUMS + 3 * i : _N_SUMS + 3 * i + 3], n)
            for i in range(len(self._levels))
        )
        return AlarmReport(n, fps, correlation, looks, levels)

    def _elapsed(self, time_s: float) -> float:
        if self._last_s is None:
            self._last_s = time_s
            return 0.0
        elapsed_s, self._last_s = time_s - self._last_s, time_s
        if self._interval_s == 0.0:
            self._interval_s = elapsed_s
        # A pause counts as one typical frame interval, which follows a real change of the frame rate with some delay.
        counted_s = elapsed_s if elapsed_s <= _PAUSE * self._interval_s else self._interval_s
        self._interval_s += 0.05 * (min(elapsed_s, _PAUSE * self._interval_s) - self._interval_s)
        return counted_s

    def _watch(self, score: float, elapsed_s: float) -> None:
        self._window.append(score)
        self._watched_s += elapsed_s
        if score > self._stretch_level and len(self._window) >= self._open_frames:
            self._stretch_level = max(self._stretch_level, min(score, sorted(self._window)[-self._open_frames]))
        if self._watched_s >= self.stretch_s and self._stretch_level > -math.inf:
            self._stretches.append(self._stretch_level)
            self._watched_s, self._stretch_level = 0.0, -math.inf

    def _level_report(self, level: float, nominal: float, sums: Floats, n: int) -> LevelReport:
        exceeding, alerts, open_frames = (float(total) for total in sums.sum(axis=0))
        spread = dispersion(exceeding, sums[:, 0] - sums[:, 0].mean())
        low, high = (end / n for end in count_interval(exceeding, spread, _TWO_SIDED))
        n_good = len(self._good)
        nominal_low, nominal_high = (end / n_good for end in count_interval(nominal * n_good, 1.0, _TWO_SIDED))
        q = None
        if exceeding >= MIN_EXCEEDING and exceeding <= MAX_SHARE * n:
            spread = dispersion(alerts, sums[:, 1] - alerts / exceeding * sums[:, 0])
            # Bursts that start while an alert is open are not counted: the same share as of frames with an open alert.
            seen = 1.0 - open_frames / n
            q = min(
                1.0 / self._open_frames, count_interval(alerts, spread, _ONE_SIDED)[1] / exceeding / max(seen, 1e-9)
            )
        return LevelReport(
            level=level,
            nominal_share=nominal,
            share=exceeding / n,
            share_interval=(low, min(1.0, high)),
            is_unlike=high < nominal_low or low > nominal_high,
            n_exceeding=int(exceeding),
            n_alerts=int(alerts),
            alerts_per_exceedance=q,
        )
