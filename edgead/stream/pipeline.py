"""The threads of a stream: one captures, one judges, one per sink delivers; the caller's thread watches over them."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgead.errors import EdgeadError
from edgead.stream.alerts import AlertEvent, AlertRules, AlertState, finish, step
from edgead.stream.detector import Detector, PreparedFrame
from edgead.stream.meter import Meter, StreamStatus, StreamSummary
from edgead.stream.result import Result
from edgead.stream.sinks.sink import Sink
from edgead.stream.slot import Slot
from edgead.stream.sources.source import Source

_WATCH_S = 0.1
# Pictures that a live source's recorder or window may lag behind before the oldest is dropped.
_PICTURE_QUEUE = 8


@dataclass(frozen=True)
class RunOptions:
    """How far a stream may go.

    Attributes:
        queue_size: Frames that a source which can wait may read ahead, and results that a sink may lag behind it.
        fallback_fps: Frame rate of the time line when the source does not know its own.
        max_frames: End after so many judged frames.
        grace_s: How long a thread may show no progress after the stop before it is given up.
    """

    queue_size: int
    fallback_fps: float
    max_frames: int | None = None
    grace_s: float = 10.0


def run_stream(
    source: Source,
    detector: Detector,
    rules: AlertRules,
    sinks: Sequence[Sink],
    options: RunOptions,
    *,
    stop: threading.Event,
    on_status: Callable[[StreamStatus], None] | None = None,
) -> StreamSummary:
    """Run until the source ends, `max_frames` are judged, `stop` is set or something fails.

    The source is opened and closed on the capture thread, each sink on its own, and the runner is used on the inference
    thread. `on_status` is called about ten times a second on the caller's thread, which stays free for signals.

    Args:
        source: Not yet opened.
        detector: Its runner must be open.
        rules: When to open and close alerts.
        sinks: Not yet opened.
        options: Queue sizes and limits.
        stop: Ends the stream from outside; set when this function returns.
        on_status: Gets the state of the running stream.

    Raises:
        Exception: The first failure of any stage, after all the others have been stopped and the sinks have written
            what they had been given.
    """
    run = _Run(source, detector, rules, sinks, options, stop)
    run.start()
    try:
        while run.is_judging and not stop.is_set():
            run.wait(_WATCH_S)
            if on_status is not None:
                on_status(run.status())
        run.wind_down()
    finally:
        run.abandon()
    if run.failure is not None:
        raise run.failure
    return run.summary()


class _Outlet:
    """A sink with its queue."""

    def __init__(self, sink: Sink, slot: Slot[Result]) -> None:
        self.sink = sink
        self.slot = slot
        self.n_delivered = 0
        self.thread: threading.Thread | None = None


class _Run:
    def __init__(
        self,
        source: Source,
        detector: Detector,
        rules: AlertRules,
        sinks: Sequence[Sink],
        options: RunOptions,
        stop: threading.Event,
    ) -> None:
        self.failure: Exception | None = None
        self._failure_lock = threading.Lock()
        self._source = source
        self._detector = detector
        self._rules = rules
        self._options = options
        self._stop = stop
        self._meter = Meter()
        self._n_captured = 0
        self._alerts = AlertState()
        self._last: Result | None = None
        self._started_s = time.monotonic()
        self._first_captured_s: float | None = None
        self._ended_by: Literal["source", "max_frames", "stop"] = "source"
        self._frames: Slot[PreparedFrame] = Slot(1 if source.live else options.queue_size, newest_wins=source.live)
        self._outlets = [_Outlet(sink, self._outlet_slot(sink)) for sink in sinks]
        self._capture = _thread("capture", self._capture_all)
        self._inference = _thread("inference", self._infer)

    def _outlet_slot(self, sink: Sink) -> Slot[Result]:
        drops = self._source.live and not sink.lossless
        return Slot(_PICTURE_QUEUE if drops else self._options.queue_size, newest_wins=drops)

    # On the caller's thread

    def start(self) -> None:
        for outlet in self._outlets:
            outlet.thread = _thread(outlet.sink.name, functools.partial(self._deliver, outlet))
            outlet.thread.start()
        self._inference.start()
        self._capture.start()

    @property
    def is_judging(self) -> bool:
        return self._inference.is_alive()

    def wait(self, timeout_s: float) -> None:
        self._inference.join(timeout_s)

    def wind_down(self) -> None:
        """Stop in the order of the flow, so that every sink still gets and writes what was judged."""
        if self._stop.is_set():
            self._frames.abandon()
        self._join(self._inference, "inference", lambda: self._meter.n_processed)
        for outlet in self._outlets:
            outlet.slot.close()
        for outlet in self._outlets:
            assert outlet.thread is not None
            self._join(outlet.thread, outlet.sink.name, functools.partial(getattr, outlet, "n_delivered"))
        self._stop.set()
        self._frames.abandon()
        # A driver or socket that still blocks loses nothing any more: its own time limit ends it.
        self._capture.join(self._options.grace_s)

    def abandon(self) -> None:
        """Wake everything that may still wait."""
        self._stop.set()
        self._frames.abandon()
        for outlet in self._outlets:
            outlet.slot.abandon()

    def status(self) -> StreamStatus:
        last = self._last
        return StreamStatus(
            source=self._source.name,
            elapsed_s=time.monotonic() - self._started_s,
            n_frames=self._meter.n_processed,
            n_dropped=self._frames.dropped,
            n_alerts=self._alerts.n_alerts,
            fps=self._meter.current_fps,
            engine_ms=self._meter.recent_engine_ms,
            score=None if last is None else last.prediction.pred_score,
            threshold=self._rules.threshold,
            is_alert_open=self._alerts.alert is not None,
        )

    def summary(self) -> StreamSummary:
        engine, end_to_end, delay = self._meter.latencies()
        report = self._source.report
        return StreamSummary(
            ended_by=self._ended_by,
            n_captured=self._n_captured,
            n_processed=self._meter.n_processed,
            n_dropped=self._frames.dropped,
            n_anomalous=self._meter.n_anomalous,
            n_alerts=self._alerts.n_alerts,
            n_pictures_dropped=sum(outlet.slot.dropped for outlet in self._outlets),
            broken=tuple(report.broken),
            missing_frames=report.missing_frames,
            restarts=report.restarts,
            elapsed_s=time.monotonic() - self._started_s,
            fps=self._meter.overall_fps,
            engine_ms=engine,
            end_to_end_ms=end_to_end,
            delay_ms=delay,
        )

    def _join(self, thread: threading.Thread, name: str, progress: Callable[[], int]) -> None:
        seen, since_s = progress(), time.monotonic()
        while thread.is_alive():
            thread.join(_WATCH_S)
            if progress() != seen:
                seen, since_s = progress(), time.monotonic()
            elif time.monotonic() - since_s > self._options.grace_s:
                self._fail(
                    EdgeadError(
                        f"The {name} hangs: it did nothing for {self._options.grace_s:g} s while the stream was ending.",
                        hint="Its last output may be missing. Check the disk, the screen or the accelerator it uses.",
                    )
                )
                return

    # On the worker threads

    def _fail(self, error: Exception) -> None:
        with self._failure_lock:
            if self.failure is None:
                self.failure = error
        self._stop.set()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._fail(error)

    def _capture_all(self) -> None:
        self._guard(self._read_source)
        self._frames.close()

    def _read_source(self) -> None:
        limit = None if self._source.live else self._options.max_frames
        with self._source as source:
            for frame in itertools.islice(source.frames(self._stop), limit):
                self._n_captured += 1
                if not self._frames.put(self._detector.prepare(frame)):
                    return

    def _infer(self) -> None:
        self._guard(self._judge_all)
        self._guard(self._close_alert)
        for outlet in self._outlets:
            outlet.slot.close()

    def _judge_all(self) -> None:
        self._detector.warm_up()
        while not self._stop.is_set() and (prepared := self._frames.take()) is not None:
            self._judge(prepared)
            if self._meter.n_processed == self._options.max_frames:
                self._ended_by = "max_frames"
                return
        if self._stop.is_set():
            self._ended_by = "stop"

    def _judge(self, prepared: PreparedFrame) -> None:
        start = time.perf_counter()
        detection = self._detector.detect(prepared)
        frame, prediction = detection.frame, detection.prediction
        time_s = self._time_line(prepared)
        self._alerts, event = step(
            self._rules, self._alerts, prediction.pred_score, frame_index=frame.index, time_s=time_s
        )
        now_s = time.monotonic()
        self._meter.add(
            engine_ms=detection.engine_ms,
            end_to_end_ms=prepared.prepare_ms + (time.perf_counter() - start) * 1e3,
            delay_ms=(now_s - frame.captured_at_s) * 1e3,
            is_anomalous=prediction.pred_label,
            now_s=now_s,
        )
        result = Result(
            frame=frame,
            prediction=prediction,
            time_s=time_s,
            source_fps=self._source.fps or self._options.fallback_fps,
            measured_fps=self._meter.current_fps,
            is_alert_open=self._alerts.alert is not None,
            event=event,
        )
        self._last = result
        self._hand_out(result)

    def _time_line(self, prepared: PreparedFrame) -> float:
        # Files run as fast as they can; their alerts must not depend on how fast that is.
        frame = prepared.frame
        if not self._source.live:
            return frame.index / (self._source.fps or self._options.fallback_fps)
        if self._first_captured_s is None:
            self._first_captured_s = frame.captured_at_s
        return frame.captured_at_s - self._first_captured_s

    def _close_alert(self) -> None:
        last = self._last
        if last is None:
            return
        self._alerts, event = finish(self._alerts, time_s=last.time_s)
        if event is not None:
            self._hand_out(_repeat(last, event))

    def _hand_out(self, result: Result) -> None:
        for outlet in self._outlets:
            if outlet.sink.wants(result):
                outlet.slot.put(result)

    def _deliver(self, outlet: _Outlet) -> None:
        self._guard(lambda: self._feed(outlet))
        outlet.slot.abandon()

    def _feed(self, outlet: _Outlet) -> None:
        with outlet.sink as sink:
            while (result := outlet.slot.take()) is not None:
                sink.accept(result)
                outlet.n_delivered += 1


def _repeat(last: Result, event: AlertEvent) -> Result:
    return Result(
        frame=last.frame,
        prediction=last.prediction,
        time_s=last.time_s,
        source_fps=last.source_fps,
        measured_fps=last.measured_fps,
        is_alert_open=False,
        event=event,
        is_repeat=True,
    )


def _thread(name: str, work: Callable[[], None]) -> threading.Thread:
    # Daemons: a thread that hangs in a driver must not keep the process alive after everybody has given up on it.
    return threading.Thread(target=work, name=f"edgead {name}", daemon=True)
