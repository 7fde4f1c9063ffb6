"""Current state and recent history of a running stream, for the dashboard and the REST API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.contexts import OwnsNothing
from edgead.stream.consumers.consumer import Item
from edgead.stream.monitoring.camera_history import AlertSpan, ChangedThreshold, WatchedCamera
from edgead.stream.monitoring.histogram import HistogramView
from edgead.stream.monitoring.meter import CameraStatus, Latency, StreamStatus
from edgead.stream.monitoring.score_history import ScorePoint, points
from edgead.stream.notices import ModelChanged, NotJudged
from edgead.stream.result import FrameResult

POINTS = 600


@dataclass(frozen=True)
class CameraView:
    """One camera at one moment.

    Attributes:
        name: Name of the camera.
        status: Counters and state; None before the first update.
        result: Last judged frame.
        unjudged: Last frame that was not judged, if it is newer than `result`.
        fault, fault_kind: Current camera fault, as a sentence for people and a name for machines.
        last_error: Last error message of the source.
        unlike: Sentence about frames that are unlike the training images, since that was found.
        delay_ms: Latency from capture to verdict over the last 600 judged frames; None before the first.
        judged_age_s: Seconds since the last verdict.
        n_zone_alerts: Number of alerts opened, by zone.
        changes: Last threshold change of each zone that has one.
        end_to_end_s: Histogram of the latency from capture to verdict, in seconds.
        levels: Histogram of the score levels of judged frames, by zone: 0 ordinary, 1 the threshold.
    """

    name: str
    status: CameraStatus | None
    result: FrameResult | None
    unjudged: NotJudged | None
    fault: str | None
    fault_kind: str | None
    last_error: str | None
    unlike: str | None
    delay_ms: Latency | None
    judged_age_s: float | None
    n_zone_alerts: Mapping[str, int]
    changes: Mapping[str, ChangedThreshold]
    end_to_end_s: HistogramView
    levels: Mapping[str, HistogramView]


@dataclass(frozen=True)
class ZoneHistory:
    """Scores and alerts of a zone over a period, oldest first."""

    points: list[ScorePoint]
    alerts: list[AlertSpan]


@dataclass(frozen=True)
class FrameScores:
    """Scores of single frames of a zone, oldest first.

    Attributes:
        times_s: Monotonic times `(n,)`.
        scores: Scores `(n,)`, raw units.
        breaks_s: Monotonic times of outages and faults.
        seconds: Time that they cover: at most the time asked for, less where frames are kept for less; 0 without any.
    """

    times_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    breaks_s: Sequence[float]
    seconds: float


class Monitor(OwnsNothing):
    """A consumer that keeps results in memory; every method may be called from any thread.

    Frames are kept undrawn; `LivePictures` draws them.

    Args:
        zones: Names of the zones, by camera; items of other cameras and zones are ignored.
        clock: Monotonic seconds.
    """

    name = "monitor"
    lossless = False

    def __init__(self, zones: Mapping[str, Sequence[str]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cameras = {name: WatchedCamera(names) for name, names in zones.items()}
        self._clock = clock
        self._lock = threading.Lock()
        self._status: StreamStatus | None = None
        self._by_name: Mapping[str, CameraStatus] = {}
        self._updated_s: float | None = None
        self.started_s = clock()

    # As a consumer

    def wants(self, item: Item) -> bool:
        return True

    def accept(self, item: Item) -> None:
        now_s = self._clock()
        if isinstance(item, ModelChanged):
            with self._lock:
                for one in self._cameras.values():
                    one.notice(item, now_s)
            return
        camera = self._cameras.get(item.camera)
        if camera is None:
            return
        with self._lock:
            if isinstance(item, FrameResult):
                camera.take(item, now_s)
            else:
                camera.notice(item, now_s)

    def update(self, status: StreamStatus) -> None:
        """Store the stream's status; called a few times a second."""
        by_name = {camera.name: camera for camera in status.cameras}
        with self._lock:
            self._status, self._by_name, self._updated_s = status, by_name, self._clock()

    # For readers

    @property
    def cameras(self) -> list[str]:
        return list(self._cameras)

    @property
    def status(self) -> StreamStatus | None:
        return self._status

    @property
    def silent_s(self) -> float:
        """Seconds since the last status, or since the start."""
        with self._lock:
            heard_s = self.started_s if self._updated_s is None else self._updated_s
        return max(0.0, self._clock() - heard_s)

    def camera(self, name: str) -> CameraView | None:
        """Current view of a camera; None for an unknown name."""
        camera = self._cameras.get(name)
        if camera is None:
            return None
        with self._lock:
            status, delays = self._by_name.get(name), camera.delays()
            return CameraView(
                name=name,
                status=status,
                result=camera.result,
                unjudged=camera.unjudged,
                fault=camera.fault,
                fault_kind=camera.fault_kind,
                last_error=camera.last_error,
                unlike=camera.unlike,
                delay_ms=delays(),
                judged_age_s=None if camera.judged_s is None else max(0.0, self._clock() - camera.judged_s),
                n_zone_alerts=dict(camera.n_zone_alerts),
                changes=dict(camera.changes),
                end_to_end_s=camera.end_to_end_s.view(),
                levels={zone: histogram.view() for zone, histogram in camera.levels.items()},
            )

    def newest(self, name: str) -> FrameResult | NotJudged | None:
        """Newest frame of a camera: a result, or a notice with a frame that was not judged."""
        camera = self._cameras.get(name)
        if camera is None:
            return None
        with self._lock:
            return camera.unjudged or camera.result

    def history(self, camera: str, zone: str, seconds: float) -> ZoneHistory | None:
        """History of a zone over the last `seconds`, in at most 600 points; None for an unknown zone."""
        watched = self._cameras.get(camera)
        if watched is None or zone not in watched.scores:
            return None
        now_s = self._clock()
        with self._lock:
            samples = watched.scores[zone].samples(now_s, seconds)
            spans = watched.spans(zone, now_s, seconds)
        return ZoneHistory(points(samples(), now_s, seconds, POINTS), spans)

    def frames(self, camera: str, zone: str, seconds: float) -> FrameScores | None:
        """Scores of the single frames of the last `seconds` that the present model judged; None for an unknown zone.

        Only the last 18,000 of a zone are kept.
        """
        watched = self._cameras.get(camera)
        if watched is None or zone not in watched.scores:
            return None
        now_s = self._clock()
        with self._lock:
            times_s, scores = watched.scores[zone].each()
            breaks_s, since_s = list(watched.breaks_s), watched.model_since_s
        own = times_s > since_s
        times_s, scores = times_s[own], scores[own]
        age_s = now_s - float(times_s[0]) if times_s.size else 0.0
        inside = times_s >= now_s - seconds
        return FrameScores(times_s[inside], scores[inside], breaks_s, min(age_s, seconds))

    @property
    def history_bytes(self) -> int:
        """Memory of all score histories, in bytes."""
        return sum(scores.nbytes for camera in self._cameras.values() for scores in camera.scores.values())
