"""Counters and latencies of a running stream."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

# Percentiles are over the last frames, so that a stream of weeks needs no more memory than one of minutes.
_KEPT = 10_000
_RATE_WINDOW = 60
_SILENCE_S = 1.0


@dataclass(frozen=True)
class Latency:
    """Percentiles in ms over the last 10,000 frames."""

    p50: float
    p95: float


@dataclass(frozen=True)
class CameraStatus:
    """One camera of a running stream; the score is None before the first frame.

    Attributes:
        name: Name of the camera.
        source: Redacted name of the source.
        state: State of the source: `waiting` before the first frame, `running`, `missing` (it has not answered yet), `lost`,
            `resting`, `hung`, `failed` or `ended`.
        fault: Current camera fault, because of which frames are not judged; None if there is none.
        n_captured, n_processed, n_dropped, n_unjudged: Number of frames taken, judged, replaced by newer ones, and not
            judged because of a fault.
        n_alerts: Number of alerts opened.
        restarts: Number of reconnections.
        fps: Judged frames per second over the last 60.
        zone: Name of the zone that is nearest to its threshold, or furthest above it.
        score, threshold: Score and threshold of that zone, raw units.
        is_anomalous: Whether the last frame was anomalous.
        is_alert_open: Whether an alert is active.
        is_held: Whether an alert waits to be acknowledged.
        scores: Last score of each zone, raw units; empty before the first frame.
        is_steady: Whether frames come at a steady rate, so that silence is a symptom; False for a watched folder.
    """

    name: str
    source: str
    state: str
    fault: str | None
    n_captured: int
    n_processed: int
    n_dropped: int
    n_unjudged: int
    n_alerts: int
    restarts: int
    fps: float
    zone: str | None
    score: float | None
    threshold: float
    is_anomalous: bool
    is_alert_open: bool
    is_held: bool
    is_steady: bool = True
    scores: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class StreamStatus:
    """A running stream at one moment; `engine_ms` (per call) is None before the first frame."""

    elapsed_s: float
    engine_ms: float | None
    cameras: tuple[CameraStatus, ...]

    @property
    def n_frames(self) -> int:
        """Number of judged frames of all cameras."""
        return sum(camera.n_processed for camera in self.cameras)


@dataclass(frozen=True)
class CameraSummary:
    """Totals of one camera of a stream; see `StreamSummary` for the names they share."""

    name: str
    source: str
    failure: str | None
    n_captured: int
    n_processed: int
    n_dropped: int
    n_unjudged: int
    n_anomalous: int
    n_alerts: int
    broken: tuple[str, ...]
    missing_frames: int
    restarts: int
    fps: float
    end_to_end_ms: Latency | None
    delay_ms: Latency | None
    n_damaged: int = 0


@dataclass(frozen=True)
class StreamSummary:
    """Totals of a stream.

    Attributes:
        ended_by: Cause of the end: end of the sources, `max_frames`, or a stop from outside (a signal, a key in the
            window).
        n_captured, n_processed: Number of frames taken from the sources, and of frames judged.
        n_dropped: Number of live frames replaced by newer ones before the engine was free.
        n_unjudged: Number of frames not judged because of a camera fault: frozen, black, over-exposed, blurred, without the part or
            damaged.
        n_anomalous: Number of judged frames over the threshold.
        n_alerts: Number of alerts opened.
        n_frames_undrawn: Number of frames that a slow recorder or window missed.
        broken: Image files of a folder that could not be read.
        missing_frames: Number of frames that a video's header announces but the file lacks.
        restarts: Number of reconnections of live sources.
        elapsed_s: Duration of the stream.
        fps: Judged frames per second of all cameras, from the first to the last of them.
        engine_ms: Latency of an engine call, for the frames of all cameras; None when no frame was judged.
        end_to_end_ms: Processing time of a frame up to verdict, alert decision and hand-over to the consumers, without
            waiting; a frame judged together with others counts its share of the engine call.
        delay_ms: Latency from capture to verdict, including the wait for the engine.
        cameras: Totals of each camera.
        n_damaged: Number of frames that came damaged, for example by lost packets; most are not shown either.
        shadow: Report of the shadow; None without one.
    """

    ended_by: Literal["source", "max_frames", "stop"]
    n_captured: int
    n_processed: int
    n_dropped: int
    n_unjudged: int
    n_anomalous: int
    n_alerts: int
    n_frames_undrawn: int
    broken: tuple[str, ...]
    missing_frames: int
    restarts: int
    elapsed_s: float
    fps: float
    engine_ms: Latency | None
    end_to_end_ms: Latency | None
    delay_ms: Latency | None
    cameras: tuple[CameraSummary, ...]
    n_damaged: int = 0
    shadow: dict[str, Any] | None = None


class Series:
    """Most recent values of a duration in ms, written by one thread and read by others."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        with self._lock:
            self._values.append(value)

    def recent(self) -> float | None:
        """Median of the last 60 values; None before the first."""
        with self._lock:
            values = list(self._values)[-_RATE_WINDOW:]
        return float(np.median(values)) if values else None

    def latency(self) -> Latency | None:
        return latency_of([self])

    def values(self) -> list[float]:
        with self._lock:
            return list(self._values)


class Meter:
    """Counters and latencies of one camera, written by the inference thread and read by the main thread."""

    def __init__(self) -> None:
        self.end_to_end = Series()
        self.delay = Series()
        self._lock = threading.Lock()
        self._done_at: deque[float] = deque(maxlen=_RATE_WINDOW)
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.n_processed = 0
        self.n_anomalous = 0
        self.n_unjudged = 0

    def add(self, *, end_to_end_ms: float, delay_ms: float, is_anomalous: bool, now_s: float) -> None:
        self.end_to_end.add(end_to_end_ms)
        self.delay.add(delay_ms)
        with self._lock:
            if self.first_at is None:
                self.first_at = now_s
            self.last_at = now_s
            self._done_at.append(now_s)
            self.n_processed += 1
            self.n_anomalous += is_anomalous

    @property
    def current_fps(self) -> float:
        """Frames per second over the last 60 frames; 0 before the second frame."""
        return self.fps_at(None)

    def fps_at(self, now_s: float | None) -> float:
        """Frame rate as `current_fps` gives it, but falling once the last frame is over a second old at the monotonic `now_s`."""
        with self._lock:
            if not self._done_at:
                return 0.0
            end_s = self._done_at[-1] if now_s is None else max(self._done_at[-1], now_s - _SILENCE_S)
            return rate(len(self._done_at), end_s - self._done_at[0])

    @property
    def overall_fps(self) -> float:
        with self._lock:
            if self.first_at is None or self.last_at is None:
                return 0.0
            return rate(self.n_processed, self.last_at - self.first_at)


def rate(n: int, span_s: float) -> float:
    """Events per second, from n events whose first and last are `span_s` apart."""
    return (n - 1) / span_s if n > 1 and span_s > 0 else 0.0


def latency_of(series: list[Series]) -> Latency | None:
    """Percentiles over several series together."""
    values = [value for one in series for value in one.values()]
    if not values:
        return None
    p50, p95 = np.percentile(values, (50, 95))
    return Latency(float(p50), float(p95))
