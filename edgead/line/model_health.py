"""Health of a model in its first minutes: latency and alarms beside those of the model before, or beside a shadow's forecast."""

from __future__ import annotations

import logging
import math
import statistics
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgead.config.models import ModelHealthConfig
from edgead.contexts import OwnsNothing
from edgead.evaluation.bursts import Dispersion
from edgead.evaluation.forecast import CountForecast, forecast_count
from edgead.stream.consumers.consumer import Item
from edgead.stream.notices import ModelChanged
from edgead.stream.result import FrameResult, JudgedBy
from edgead.stream.shadow.report import ShadowReport
from edgead.stream.shadow.tally import HOUR_S, ShadowTally

_LOG = logging.getLogger(__name__)
# A change that is healthy by its alarms is rolled back by chance once in a thousand.
CONFIDENCE = 0.998
# Fewer alarms are looked at by people.
LEAST_ALARMS = 5
# Frames of which the median latency is taken.
LEAST_FRAMES = 200
# Share of the watch that every camera must have seen before too few alarms count.
_COMPLETE = 0.9


@dataclass(frozen=True)
class _Limits:
    """Limits for the first minutes of a model.

    Attributes:
        latency_ms: Median latency of the model before; None if too few frames were judged by it.
        alarms: Forecast of the alarms in these minutes; None if nothing is known.
        is_own: Whether the forecast is of this model, by a shadow; otherwise of the model before.
    """

    latency_ms: float | None
    alarms: CountForecast | None
    is_own: bool


@dataclass(frozen=True)
class HealthWatch:
    """First minutes of a model, so far.

    Attributes:
        bundle: Digest of the model.
        seconds, of_s: Watched time and time of the whole watch.
        alarms: Alarms in the watched time.
        most_alarms: Alarms in the whole watch beyond which the model before comes back; None = any number is allowed.
    """

    bundle: str
    seconds: float
    of_s: float
    alarms: int
    most_alarms: int | None


class ModelHealth(OwnsNothing):
    """A consumer that watches every model after it has taken over, until it is settled or breaks a limit.

    A model that a roll-back brings back is not watched, so that two models never take turns.

    Args:
        cameras: Names of the cameras.
        settings: Limits.
        shadow: Returns the report of a shadow, whose forecast takes precedence.
    """

    name = "model health"
    lossless = True

    def __init__(
        self,
        cameras: Sequence[str],
        settings: ModelHealthConfig,
        shadow: Callable[[], ShadowReport | None] = lambda: None,
    ) -> None:
        self._cameras = tuple(cameras)
        self._settings = settings
        self._shadow = shadow
        self._lock = threading.Lock()
        self._violation = ""
        self._unwatched: set[str] = set()
        self._judged_by: JudgedBy | None = None
        self._limits: _Limits | None = None
        self._restart()

    @property
    def is_watching(self) -> bool:
        """Whether the model that judges is in its first minutes."""
        return self._limits is not None

    @property
    def watch(self) -> HealthWatch | None:
        """The watch of the model that judges; None after it."""
        with self._lock:
            limits, judged_by = self._limits, self._judged_by
            if limits is None or judged_by is None:
                return None
            seconds = max((one.seconds for one in self._tally.cameras.values()), default=0.0)
            most = None if limits.alarms is None else max(limits.alarms.high, LEAST_ALARMS - 1)
            return HealthWatch(judged_by.bundle, seconds, self._settings.watch_s, self._n_alarms, most)

    @property
    def violation(self) -> str:
        """Limit that the model breaks, in words; empty for a healthy one."""
        return self._violation

    def spare(self, digest: str) -> None:
        """Do not watch a model: people have activated it again after it was rolled back."""
        with self._lock:
            self._unwatched.add(digest)

    def settle(self) -> None:
        """End the watch."""
        with self._lock:
            self._limits, self._violation = None, ""

    def wants(self, item: Item) -> bool:
        return not item.is_repeat if isinstance(item, FrameResult) else isinstance(item, ModelChanged)

    def accept(self, item: Item) -> None:
        with self._lock:
            if isinstance(item, ModelChanged):
                self._changed(item)
            elif isinstance(item, FrameResult) and item.judged_by == self._judged_by:
                self._judged(item)
            elif isinstance(item, FrameResult) and self._judged_by is None:
                self._judged_by = item.judged_by
                self._judged(item)

    def _changed(self, notice: ModelChanged) -> None:
        after = notice.after
        is_watched = self._settings.watch_s > 0.0 and not notice.values.get("rollback")
        if after is not None and after.bundle in self._unwatched:
            self._unwatched.discard(after.bundle)
            is_watched = False
        limits = self._find_limits(after) if is_watched and after is not None else None
        self._judged_by, self._limits, self._violation = after, limits, ""
        self._restart()

    def _find_limits(self, after: JudgedBy) -> _Limits:
        report = self._shadow()
        found = None if report is None or report.shadow.bundle != after.bundle else report.forecast
        is_own = found is not None
        alarms = found or self._tally.forecast()
        if not self._settings.alarms:
            alarms = None
        if alarms is not None:
            # the best value alone: bursts that are only possible would hide a model that alarms too often
            seen = Dispersion(alarms.dispersion, alarms.coming_dispersion)
            alarms = forecast_count(
                alarms.n_seen, alarms.seen_h, self._settings.watch_s / HOUR_S, dispersions=[seen], confidence=CONFIDENCE
            )
        return _Limits(self._median(), alarms, is_own)

    def _restart(self) -> None:
        self._tally = ShadowTally(self._cameras, settle=0)
        self._latencies: deque[float] = deque(maxlen=4 * LEAST_FRAMES)
        self._seen: set[str] = set()
        self._n_frames = 0
        self._n_alarms = 0

    def _judged(self, result: FrameResult) -> None:
        begins = result.camera not in self._seen
        self._seen.add(result.camera)
        self._n_frames += 1
        self._tally.add(result.camera, result.time_s, result.zones, result.zones, begins=begins)
        self._latencies.append(result.latency_ms)
        self._n_alarms += sum(zone.event is not None and zone.event.kind == "opened" for zone in result.zones)
        if self._limits is None or self._violation:
            return
        # without pauses: a camera that is lost, or a clock that jumps, is no watch
        is_over = self._tally.cameras[result.camera].seconds >= self._settings.watch_s
        self._violation = self._broken(self._limits, is_over=is_over)
        if is_over and not self._violation:
            _LOG.info("the model is settled: %d alarms in its first %g s", self._n_alarms, self._settings.watch_s)
            self._limits = None

    def _broken(self, limits: _Limits, *, is_over: bool) -> str:
        alarms, minutes = limits.alarms, self._settings.watch_s / 60.0
        if alarms is not None:
            whose = "its shadow forecast" if limits.is_own else "the model before lets expect"
            if self._n_alarms > max(alarms.high, LEAST_ALARMS - 1):
                return (
                    f"{self._n_alarms} alarms within {minutes:g} minutes, where {whose} {alarms.low} to {alarms.high}"
                )
            if is_over and limits.is_own and self._n_alarms < alarms.low and self._is_complete():
                return f"{self._n_alarms} alarms in {minutes:g} minutes, where {whose} {alarms.low} to {alarms.high}"
        # once at a time: the median of this many frames changes slowly
        if limits.latency_ms is not None and self._n_frames % (LEAST_FRAMES // 4) == 0:
            median = self._median()
            limit_ms = limits.latency_ms * self._settings.max_latency_ratio
            if median is not None and median > limit_ms:
                return (
                    f"a median latency of {median:.3g} ms, where the model before had {limits.latency_ms:.3g} ms and "
                    f"{self._settings.max_latency_ratio:g} times as much is allowed"
                )
        return ""

    def _is_complete(self) -> bool:
        """Whether every camera was watched for about the whole time, so that few alarms mean something."""
        return all(one.seconds >= _COMPLETE * self._settings.watch_s for one in self._tally.cameras.values())

    def _median(self) -> float | None:
        found = statistics.median(self._latencies) if len(self._latencies) >= LEAST_FRAMES else math.nan
        return None if math.isnan(found) else found
