"""Sources, runners and consumers that do exactly what a test needs, and a clock that only moves when told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from edgead.heatmap import HeatmapScale
from edgead.imaging import Image
from edgead.manifest import ThresholdRecord
from edgead.prediction import Prediction
from edgead.runner import FakeRunner, Outputs
from edgead.stream.alerts import Alert, AlertEvent
from edgead.stream.camera import Camera
from edgead.stream.consumers.consumer import Item
from edgead.stream.frame import Frame
from edgead.stream.notices import Notice
from edgead.stream.pipeline import RunOptions
from edgead.stream.result import FrameResult, ZoneVerdict
from edgead.stream.scorer import Scorer
from edgead.stream.sources.source import Source, SourceOptions, SourceReport
from edgead.stream.zone_monitor import RuleOptions, ZoneMonitor
from edgead.stream.zones import ZoneShape

GOOD, BAD = 100, 250
INPUT_SIZE = (32, 32)
# FakeRunner scores brightness above mid-grey: GOOD gives 0, BAD 0.48.
THRESHOLD = 0.2
GOOD_SCORES = (0.0,) * 99
SCALE = HeatmapScale(0.05, THRESHOLD, 0.5)
RULES = RuleOptions(open_frames=2, window_frames=3, close_frames=2, close_ratio=0.5)
# how long a gate that nothing opens holds: longer than any limit that a test sets
GATE_S = 60.0
OPTIONS = RunOptions(queue_size=2, fallback_fps=10.0, grace_s=2.0)
# limits far longer than a busy machine stalls: a test of a limit sets its own
SOURCE_OPTIONS = SourceOptions(
    open_timeout_s=20.0, read_timeout_s=10.0, max_restarts=2, restart_window_s=60.0, folder_fps=2.0
)


def plain(value: int, size: tuple[int, int] = (48, 64)) -> Image:
    """A picture of one grey value."""
    return np.full((*size, 3), value, np.uint8)


def scorer(runner: FakeRunner | None = None) -> Scorer:
    return Scorer(runner or FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE)


def watch(options: RuleOptions = RULES, shape: ZoneShape | None = None) -> ZoneMonitor:
    """Good images score 0, so the closing level is half the threshold."""
    threshold = ThresholdRecord(
        value=THRESHOLD, false_alarm_rate=0.01, certified=True, interval=None, n_images=len(GOOD_SCORES)
    )
    return ZoneMonitor(shape or ZoneShape(), (2, 2), GOOD_SCORES, threshold, options)


def camera(source: Source, *watches: ZoneMonitor, name: str = "line") -> Camera:
    return Camera(name, source, watches or (watch(),), pixel_threshold=THRESHOLD)


def verdict(
    score: float, event: AlertEvent | None = None, *, zone: str = "picture", is_alert_open: bool = False
) -> ZoneVerdict:
    """A verdict on the whole picture with the alert that its event leaves behind."""
    alert = event.alert if event is not None else Alert(1, 0.0, 0, score, 0) if is_alert_open else None
    return ZoneVerdict(
        zone, score, THRESHOLD, 1.0, score > THRESHOLD,
        level=1 + (score - THRESHOLD) / THRESHOLD,
        alert=alert if is_alert_open else None,
        alert_id=None if alert is None else "20261122T101112Z-abc123",
        event=event,
    )  # fmt: skip


def result(
    value: int = GOOD,
    *,
    index: int = 0,
    time_s: float = 0.0,
    fps: float = 10.0,
    size: tuple[int, int] = (48, 64),
    event: AlertEvent | None = None,
    is_alert_open: bool = False,
) -> FrameResult:
    """A judged frame of one grey value."""
    image = plain(value, size)
    score = max(value / 255 - 0.5, 0.0)
    anomaly_map = np.full((2, 2), score, np.float32)
    prediction = Prediction(anomaly_map, score, THRESHOLD, THRESHOLD)
    frame = Frame(image, index, 0.0, "fake")
    return FrameResult(
        "line", frame, prediction, time_s, fps, fps, (verdict(score, event, is_alert_open=is_alert_open),)
    )


class ManualClock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class _Context:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class ListSource(_Context):
    """Frames of given brightness; `error` comes after them, `endless` repeats the last one without end."""

    name = "list"

    def __init__(
        self,
        values: Sequence[int],
        *,
        live: bool = False,
        fps: float | None = 10.0,
        error: Exception | None = None,
        endless: bool = False,
        before_frame: threading.Event | None = None,
        pace_s: float = 0.0,
        closed: threading.Event | None = None,
    ) -> None:
        self.live = self.paced = live
        self.fps = fps
        self.report = SourceReport()
        self.n_given = 0
        self.is_closed = False
        self._values = values
        self._error = error
        self._endless = endless
        self._before_frame = before_frame
        self._pace_s = pace_s
        self._closed = closed or threading.Event()

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        for index, value in enumerate(self._all()):
            if self._before_frame is not None:
                self._before_frame.wait(GATE_S)
            if stop.wait(self._pace_s):
                return
            self.n_given += 1
            yield Frame(plain(value), index, time.monotonic(), self.name)
        if self._error is not None:
            raise self._error

    def _all(self) -> Iterator[int]:
        yield from self._values
        while self._endless:
            yield self._values[-1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_closed = True
        self._closed.set()


class RaisingRunner(FakeRunner):
    """Fails at the given call; the first call is the warm-up."""

    def __init__(self, at_call: int, error: Exception) -> None:
        super().__init__(INPUT_SIZE)
        self._at_call = at_call
        self._error = error
        self._n_calls = 0

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        self._n_calls += 1
        if self._n_calls >= self._at_call:
            raise self._error
        return super().infer(batch)


class GatedRunner(FakeRunner):
    """Waits for `gate` in every call but the warm-up."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__(INPUT_SIZE)
        self.entered = threading.Event()
        self._gate = gate
        self._is_warm = False

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        if self._is_warm:
            self.entered.set()
            self._gate.wait(GATE_S)
        self._is_warm = True
        return super().infer(batch)


class CollectingConsumer(_Context):
    """Keeps what it gets; waits for `gate` before each, raises `error` at the result with the number `at`."""

    name = "collector"

    def __init__(
        self,
        *,
        lossless: bool = True,
        gate: threading.Event | None = None,
        error: Exception | None = None,
        at: int = 0,
        gate_s: float = GATE_S,
    ) -> None:
        self.lossless = lossless
        self.results: list[FrameResult] = []
        self.notices: list[Notice] = []
        self.entered = threading.Event()
        self.is_closed = False
        self._gate = gate
        self._gate_s = gate_s
        self._error = error
        self._at = at

    def wants(self, item: Item) -> bool:
        return True

    def accept(self, item: Item) -> None:
        if not isinstance(item, FrameResult):
            self.notices.append(item)
            return
        self.entered.set()
        if self._gate is not None:
            self._gate.wait(self._gate_s)
        if self._error is not None and len(self.results) == self._at:
            raise self._error
        self.results.append(item)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_closed = True
