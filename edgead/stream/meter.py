"""Counting and timing a running stream."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

# Percentiles are over the last frames, so that a stream of weeks needs no more memory than one of minutes.
_KEPT = 10_000
_RATE_WINDOW = 60


@dataclass(frozen=True)
class Latency:
    """Percentiles in ms over the last 10,000 frames."""

    p50: float
    p95: float


@dataclass(frozen=True)
class StreamStatus:
    """A running stream at one moment; `score` and the latencies are None before the first frame."""

    source: str
    elapsed_s: float
    n_frames: int
    n_dropped: int
    n_alerts: int
    fps: float
    engine_ms: float | None
    score: float | None
    threshold: float
    is_alert_open: bool


@dataclass(frozen=True)
class StreamSummary:
    """What a stream did.

    Attributes:
        ended_by: The end of the source, `max_frames`, or a stop from outside (a signal, a key in the window).
        n_captured, n_processed: Frames taken from the source and frames judged.
        n_dropped: Frames of a live source that a newer one replaced before the engine was free.
        n_anomalous: Judged frames over the threshold.
        n_alerts: Alerts opened.
        n_pictures_dropped: Pictures that the recorder or the window missed because they were too slow.
        broken: Pictures of a folder that could not be read, by file.
        missing_frames: Frames that a video's header promises and its content does not hold.
        restarts: Reconnections of a live source.
        elapsed_s: From start to end.
        fps: Judged frames per second, from the first to the last of them.
        engine_ms: The engine alone; None when no frame was judged.
        end_to_end_ms: All work on a frame up to verdict, alert decision and hand-over to the sinks, without waiting.
        delay_ms: From capture to verdict, including the wait for the engine.
    """

    ended_by: Literal["source", "max_frames", "stop"]
    n_captured: int
    n_processed: int
    n_dropped: int
    n_anomalous: int
    n_alerts: int
    n_pictures_dropped: int
    broken: tuple[str, ...]
    missing_frames: int
    restarts: int
    elapsed_s: float
    fps: float
    engine_ms: Latency | None
    end_to_end_ms: Latency | None
    delay_ms: Latency | None


class Meter:
    """Counters and latencies, written by the inference thread and read by the main thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: deque[float] = deque(maxlen=_KEPT)
        self._end_to_end: deque[float] = deque(maxlen=_KEPT)
        self._delay: deque[float] = deque(maxlen=_KEPT)
        self._done_at: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._first_at = 0.0
        self.n_processed = 0
        self.n_anomalous = 0

    def add(self, *, engine_ms: float, end_to_end_ms: float, delay_ms: float, is_anomalous: bool, now_s: float) -> None:
        with self._lock:
            if self.n_processed == 0:
                self._first_at = now_s
            self._engine.append(engine_ms)
            self._end_to_end.append(end_to_end_ms)
            self._delay.append(delay_ms)
            self._done_at.append(now_s)
            self.n_processed += 1
            self.n_anomalous += is_anomalous

    @property
    def current_fps(self) -> float:
        """Frames per second over the last 60 frames; 0 before the second frame."""
        with self._lock:
            return _rate(len(self._done_at), self._done_at[-1] - self._done_at[0]) if self._done_at else 0.0

    @property
    def overall_fps(self) -> float:
        with self._lock:
            return _rate(self.n_processed, self._done_at[-1] - self._first_at) if self._done_at else 0.0

    @property
    def recent_engine_ms(self) -> float | None:
        with self._lock:
            return float(np.median(list(self._engine)[-_RATE_WINDOW:])) if self._engine else None

    def latencies(self) -> tuple[Latency | None, Latency | None, Latency | None]:
        """Engine, end to end and delay."""
        with self._lock:
            return _latency(self._engine), _latency(self._end_to_end), _latency(self._delay)


def _rate(n: int, span_s: float) -> float:
    return (n - 1) / span_s if n > 1 and span_s > 0 else 0.0


def _latency(values: deque[float]) -> Latency | None:
    if not values:
        return None
    p50, p95 = np.percentile(list(values), (50, 95))
    return Latency(float(p50), float(p95))
