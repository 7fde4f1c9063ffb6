"""Several cameras on one engine: frames stay separate, and one camera's failure leaves the others running."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.errors import EngineError, SourceError
from edgead.imaging import Image
from edgead.runner import FakeRunner, Outputs
from edgead.stream.camera import FrameCheck
from edgead.stream.control import Acknowledge, Control, SetThreshold
from edgead.stream.feed import CameraFeed
from edgead.stream.frame import Frame
from edgead.stream.monitoring.meter import StreamStatus
from edgead.stream.notices import FaultBegan, FaultEnded, ThresholdChanged, UnjudgedFrame, sentence
from edgead.stream.pipeline import run_stream
from edgead.stream.result import FrameResult
from edgead.stream.sources.source import Phase, SourceState
from edgead.stream.zone_monitor import alert_name

from .fakes import (
    BAD,
    GATE_S,
    GOOD,
    INPUT_SIZE,
    OPTIONS,
    RULES,
    THRESHOLD,
    CollectingConsumer,
    GatedRunner,
    ListSource,
    camera,
    scorer,
    watch,
)


@pytest.fixture(autouse=True)
def _no_thread_survives() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("edgead")] == []


def of(consumer: CollectingConsumer, name: str) -> list[FrameResult]:
    return [result for result in consumer.results if result.camera == name and not result.is_repeat]


def kinds(results: list[FrameResult]) -> list[tuple[int, str]]:
    return [(r.frame.index, zone.event.kind) for r in results for zone in r.zones if zone.event is not None]


class BatchRunner(FakeRunner):
    """Keeps the sizes of its batches and the class biases it got."""

    def __init__(self) -> None:
        super().__init__(INPUT_SIZE)
        self.sizes: list[int] = []
        self.biases: list[NDArray[np.float32] | None] = []

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        self.sizes.append(len(batch))
        self.biases.append(class_bias)
        return super().infer(batch)


def test_every_camera_has_its_own_frames_scores_and_alerts() -> None:
    """Frames of three files are judged in order, each by its own rules, with the numbers of the single streams."""
    values = {"a": [GOOD] * 5 + [BAD] * 4 + [GOOD] * 6, "b": [BAD] * 6, "c": [GOOD] * 20}
    together = CollectingConsumer()
    summary = run_stream(
        [camera(ListSource(each), name=name) for name, each in values.items()],
        scorer(), [together], OPTIONS, stop=threading.Event(),
    )  # fmt: skip
    for name, each in values.items():
        alone = CollectingConsumer()
        run_stream([camera(ListSource(each), name=name)], scorer(), [alone], OPTIONS, stop=threading.Event())
        assert [r.frame.index for r in of(together, name)] == list(range(len(each)))
        assert [r.prediction.pred_score for r in of(together, name)] == [
            r.prediction.pred_score for r in of(alone, name)
        ]
        assert kinds(of(together, name)) == kinds(of(alone, name))
    assert [(one.name, one.n_processed, one.n_alerts) for one in summary.cameras] == [
        ("a", 15, 1), ("b", 6, 1), ("c", 20, 0)
    ]  # fmt: skip
    assert summary.n_processed == 41


def test_cameras_that_wait_share_a_batch() -> None:
    """While the engine is busy the newest frames of all cameras gather, and the next call takes them together."""
    gate = threading.Event()

    class Runner(GatedRunner):
        sizes: list[int] = []  # noqa: RUF012

        def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
            self.sizes.append(len(batch))
            return super().infer(batch)

    runner = Runner(gate)
    sources = [ListSource([GOOD] * 10, live=True) for _ in range(4)]

    def release(status: StreamStatus) -> None:
        if all(source.n_given == 10 for source in sources):
            gate.set()

    summary = run_stream(
        [camera(source, name=f"c{index}") for index, source in enumerate(sources)],
        scorer(runner), [], OPTIONS, stop=threading.Event(), on_status=release,
    )  # fmt: skip
    assert runner.sizes[:2] == [1, 4]  # the warm-up, alone and together
    assert max(runner.sizes[2:]) >= 3
    assert summary.n_processed + summary.n_dropped == 40
    assert {one.name: one.n_processed + one.n_dropped for one in summary.cameras} == {f"c{i}": 10 for i in range(4)}


def test_one_failing_camera_is_said_and_the_others_go_on() -> None:
    """A camera that dies gives one notice and stands in the summary; the others lose nothing."""
    consumer = CollectingConsumer()
    dying = camera(ListSource([GOOD] * 3, error=SourceError("the camera died")), name="dying")
    fine = camera(ListSource([GOOD] * 30, live=True, pace_s=0.005), name="fine")
    summary = run_stream([dying, fine], scorer(), [consumer], OPTIONS, stop=threading.Event())
    assert [one.failure for one in summary.cameras] == ["the camera died", None]
    assert [(notice.camera, notice.kind, sentence(notice)) for notice in consumer.notices] == [
        ("dying", "camera_failed", "the camera died")
    ]
    assert len(of(consumer, "fine")) > 20
    assert of(consumer, "fine")[-1].frame.index == 29


def test_a_stream_fails_when_all_its_cameras_have() -> None:
    """With no camera left the first failure is the stream's."""
    cameras = [camera(ListSource([GOOD], error=SourceError(f"{name} died")), name=name) for name in ("a", "b")]
    with pytest.raises(SourceError, match="died"):
        run_stream(cameras, scorer(), [], OPTIONS, stop=threading.Event())


def test_a_failed_camera_shows_in_status_and_summary_of_a_stream_that_is_stopped() -> None:
    """Stopped from outside, a stream with a failed camera ends without an error and says which one it was."""
    stop, states = threading.Event(), []

    def watching(status: StreamStatus) -> None:
        states.append({one.name: one.state for one in status.cameras})
        if len(states) > 4:
            stop.set()

    summary = run_stream(
        [
            camera(ListSource([GOOD], error=SourceError("gone")), name="dying"),
            camera(ListSource([GOOD], live=True, endless=True, pace_s=0.01), name="fine"),
        ],
        scorer(), [], OPTIONS, stop=stop, on_status=watching,
    )  # fmt: skip
    assert states[-1] == {"dying": "failed", "fine": "running"}
    assert [one.failure for one in summary.cameras] == ["gone", None]
    assert summary.ended_by == "stop"


def test_a_hanging_camera_does_not_delay_the_others() -> None:
    """A capture that blocks, and then ends late, costs the other camera no frame and no time."""
    gate, consumer, stop = threading.Event(), CollectingConsumer(), threading.Event()
    hanging = ListSource([GOOD], before_frame=gate, live=True)
    fine = ListSource([GOOD] * 40, live=True, pace_s=0.005)

    def watching(status: StreamStatus) -> None:
        if status.cameras[1].state == "ended" and status.cameras[1].n_processed + status.cameras[1].n_dropped == 40:
            stop.set()
            gate.set()

    summary = run_stream(
        [camera(hanging, name="hanging"), camera(fine, name="fine")],
        scorer(), [consumer], OPTIONS, stop=stop, on_status=watching,
    )  # fmt: skip
    delay = summary.cameras[1].delay_ms
    assert delay is not None
    assert delay.p50 < 50
    assert summary.cameras[1].n_processed > 30


def test_class_biases_go_with_their_frames() -> None:
    """Each row of the batch has the bias of its camera; one without a class gets zeros."""
    runner = BatchRunner()
    first = camera(ListSource([GOOD] * 3), name="first")
    first.class_bias = np.array([[0.0, -1e4]], np.float32)
    second = camera(ListSource([GOOD] * 3), name="second")
    run_stream([first, second], scorer(runner), [], OPTIONS, stop=threading.Event())
    for size, bias in zip(runner.sizes, runner.biases, strict=True):
        if size == 2:
            assert bias is not None
            assert bias.tolist() == [[0.0, -1e4], [0.0, 0.0]]
    assert runner.sizes[:2] == [1, 2]


def test_faulty_pictures_are_said_and_not_judged() -> None:
    """Dark pictures give one notice when they begin and one when they end, never a verdict, and break an N-of-M run."""
    consumer = CollectingConsumer()

    def check(image: Image, now_s: float) -> FrameCheck:
        is_black = bool(image.mean() < 10)
        return FrameCheck("black picture", False, "black") if is_black else FrameCheck(None, True)

    source = ListSource([GOOD, BAD, 0, 0, 0, BAD, GOOD, BAD, BAD])
    one = camera(source)
    one.check_frame = check
    summary = run_stream([one], scorer(), [consumer], OPTIONS, stop=threading.Event())
    assert [r.frame.index for r in of(consumer, "line")] == [0, 1, 5, 6, 7, 8]
    assert [notice.kind for notice in consumer.notices] == ["picture_fault", *["picture"] * 3, "picture_ok"]
    began, *unjudged, ended = consumer.notices
    assert isinstance(began, FaultBegan)
    assert (began.message, began.fault) == ("black picture", "black")
    assert isinstance(ended, FaultEnded)
    seen = [one for one in (began, *unjudged, ended) if isinstance(one, FaultBegan | UnjudgedFrame | FaultEnded)]
    assert [notice.frame.index for notice in seen] == [2, 2, 3, 4, 5]
    assert [notice.time_s for notice in seen] == [0.2, 0.2, 0.3, 0.4, 0.5]
    # BAD, fault, BAD would be two of three frames without the interruption
    assert kinds(of(consumer, "line")) == [(7, "opened")]
    assert (summary.n_processed, summary.n_unjudged, summary.n_captured) == (6, 3, 9)


def test_a_picture_that_only_looks_faulty_is_not_judged_and_nothing_is_said() -> None:
    """Before a fault has lasted long enough to be one, its pictures raise no alert either."""
    consumer = CollectingConsumer()
    one = camera(ListSource([GOOD, BAD, 0, BAD, GOOD]))
    one.check_frame = lambda image, now_s: FrameCheck(None, bool(image.mean() > 10))
    summary = run_stream([one], scorer(), [consumer], OPTIONS, stop=threading.Event())
    assert [r.frame.index for r in of(consumer, "line")] == [0, 1, 3, 4]
    assert [notice.kind for notice in consumer.notices] == ["picture"]
    assert (summary.n_unjudged, summary.n_processed) == (1, 4)


def test_a_threshold_is_changed_while_the_stream_runs() -> None:
    """The change takes effect for the frames after it, is announced with who, from and to, and unknown zones are ignored."""
    control, consumer, stop = Control(), CollectingConsumer(), threading.Event()
    source = ListSource([BAD], live=True, endless=True, pace_s=0.01)

    def watching(status: StreamStatus) -> None:
        n = len(consumer.results)
        if n and not consumer.notices:
            control.put(SetThreshold("line", "nowhere", 0.1, None, "nobody"))
            control.put(SetThreshold("line", "picture", 0.9, None, "Ada"))
        if consumer.notices and not consumer.results[-1].is_anomalous:
            stop.set()

    summary = run_stream(
        [camera(source)], scorer(), [consumer], OPTIONS, stop=stop, control=control, on_status=watching
    )  # fmt: skip
    change = consumer.notices[0]
    assert isinstance(change, ThresholdChanged)
    assert (change.who, change.before, change.after) == ("Ada", THRESHOLD, 0.9)
    assert consumer.results[0].is_anomalous
    assert not consumer.results[-1].is_anomalous
    assert summary.ended_by == "stop"
    assert {notice.kind for notice in consumer.notices} == {"threshold_changed"}


def test_a_rate_gives_the_threshold_of_the_zones_own_good_scores() -> None:
    """`false_alarm_rate` counts among the zone's good images; a zone without scores keeps its threshold."""
    zone = watch()
    zone.good_scores = tuple(float(i) for i in range(99))
    change = zone.set_threshold(value=None, false_alarm_rate=0.1)
    assert (change.before, change.after.value, change.after.certified) == (THRESHOLD, 89.0, True)
    assert zone.rules.threshold == 89.0
    assert zone.set_threshold(value=50.5, false_alarm_rate=None).after.false_alarm_rate == pytest.approx(49 / 100)


def test_frames_judged_by_an_old_threshold_open_nothing_under_a_new_one() -> None:
    """Two of three frames open: one before and one after a change are not two."""
    zone, high = watch(), np.full((2, 2), 0.4, np.float32)

    def observe(index: int) -> str | None:
        event = zone.observe(high, 0.4, lambda: high > 0, frame_index=index, time_s=float(index)).event
        return None if event is None else event.kind

    assert observe(0) is None
    zone.set_threshold(value=0.3, false_alarm_rate=None)
    assert [observe(1), observe(2)] == [None, "opened"]


def test_an_acknowledged_latch_closes_without_a_new_frame() -> None:
    """A held alert is closed by its name; the event comes with the last frame, marked as a repeat."""
    control, consumer, stop = Control(), CollectingConsumer(), threading.Event()
    source = ListSource([BAD] * 3 + [GOOD] * 3, live=True, endless=True, pace_s=0.01)

    def watching(status: StreamStatus) -> None:
        if status.cameras[0].is_held:
            (name,) = {zone.alert_id for r in consumer.results for zone in r.zones if zone.alert_id}
            assert name is not None
            control.put(Acknowledge("another one", "Ada"))
            control.put(Acknowledge(name, "Ada"))
        if any(r.is_repeat for r in consumer.results):
            stop.set()

    latching = camera(source, watch(replace(RULES, latch=True)))
    run_stream([latching], scorer(), [consumer], OPTIONS, stop=stop, control=control, on_status=watching)
    events = [zone.event for r in consumer.results for zone in r.zones if zone.event is not None]
    assert [event.kind for event in events] == ["opened", "held", "closed"]
    assert events[-1].alert.ended_by == "acknowledged"
    (repeat,) = [r for r in consumer.results if r.is_repeat]
    assert repeat.zones[0].alert is None


def test_a_stream_that_ends_leaves_a_latched_alert_held_and_a_new_one_goes_on_with_it() -> None:
    """The next process restores the unacknowledged alert and can acknowledge it."""
    consumer = CollectingConsumer()
    latch = replace(RULES, latch=True)
    run_stream([camera(ListSource([BAD] * 3), watch(latch))], scorer(), [consumer], OPTIONS, stop=threading.Event())
    last = consumer.results[-1].zones[0]
    assert last.event is not None
    assert (last.event.kind, last.event.alert.closed_s) == ("held", None)
    assert last.alert_id is not None
    later = watch(latch)
    later.restore(last.alert_id, last.event.alert)
    assert later.alert is not None
    verdict = later.acknowledge(0.0)
    assert verdict is not None
    assert verdict.event is not None
    assert (verdict.alert_id, verdict.event.kind) == (last.alert_id, "closed")


@pytest.mark.parametrize("error", [None, SourceError("the camera died")])
@pytest.mark.parametrize("latch", [False, True])
def test_a_camera_that_is_over_ends_its_alerts_though_others_go_on(latch: bool, error: SourceError | None) -> None:
    """The alert ends once, immediately: it closes, or if it latches is held until acknowledged."""
    control, consumer, stop, seen = Control(), CollectingConsumer(), threading.Event(), []
    over = camera(ListSource([BAD] * 3, error=error), watch(replace(RULES, latch=latch)), name="over")
    other = camera(ListSource([GOOD], live=True, endless=True, pace_s=0.01), name="other")

    def watching(status: StreamStatus) -> None:
        seen.append((status.cameras[0].is_alert_open, status.cameras[0].is_held))
        events = [zone for r in consumer.results for zone in r.zones if zone.event is not None]
        if len(events) == 2 and latch:
            assert events[-1].alert_id is not None
            control.put(Acknowledge(events[-1].alert_id, "Ada"))
        if (len(events) == 2 + latch and seen[-1] == (False, False)) or len(seen) > 50:
            stop.set()

    run_stream([over, other], scorer(), [consumer], OPTIONS, stop=stop, control=control, on_status=watching)
    events = [zone.event for r in consumer.results for zone in r.zones if zone.event is not None]
    assert [event.kind for event in events] == ["opened", *["held"] * latch, "closed"]
    assert events[-1].alert.ended_by == ("acknowledged" if latch else "end_of_stream")
    assert events[1].alert.closed_s == (None if latch else 0.2)
    assert len(seen) <= 50, "it ended with the stream"


class OutageSource(ListSource):
    """Is lost and found before the frames `before`; a live one gives its next frame when `n_seen` knows of the last."""

    def __init__(
        self,
        values: Sequence[int],
        before: Sequence[int],
        *,
        live: bool = False,
        n_seen: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(values, live=live)
        self.report.state = SourceState("running", 0.0)
        self._before = before
        self._n_seen = n_seen

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        for frame in super().frames(stop):
            while self._n_seen is not None and self._n_seen() < frame.index:
                stop.wait(0.005)
            if frame.index in self._before:
                self.lose(frame.index)
            yield frame

    def lose(self, index: int) -> None:
        self.report.state = SourceState("reconnecting", index + 0.1)
        self.report.state = SourceState("running", index + 0.2)


def test_frames_before_and_after_an_outage_count_for_nothing_together() -> None:
    """Two of three frames open and two quiet ones in a row close: one before and one after are not two."""
    consumer = CollectingConsumer()
    values = [BAD, BAD, GOOD, GOOD, BAD, BAD, GOOD, GOOD, GOOD]
    run_stream([camera(OutageSource(values, [1, 7]))], scorer(), [consumer], OPTIONS, stop=threading.Event())
    assert [r.frame.index for r in of(consumer, "line")] == list(range(9))
    assert kinds(of(consumer, "line")) == [(5, "opened"), (8, "closed")]


def test_frames_before_and_after_a_capture_that_hung_open_nothing_together() -> None:
    """A hang that the driver does not report is recognised by the time without a frame."""

    class HangingSource(OutageSource):
        def lose(self, index: int) -> None:
            time.sleep(0.5)

    consumer = CollectingConsumer()
    source = HangingSource([BAD, BAD, GOOD, GOOD, BAD, BAD], [1], live=True, n_seen=lambda: len(of(consumer, "line")))
    other = camera(ListSource([GOOD], live=True), name="other")
    run_stream(
        [camera(source), other], scorer(), [consumer], replace(OPTIONS, capture_timeout_s=0.3), stop=threading.Event()
    )  # fmt: skip
    assert kinds(of(consumer, "line")) == [(5, "opened")]


def test_an_outage_is_known_though_its_first_frame_is_dropped() -> None:
    """The newest frame wins; it says how many outages were before it."""
    feed = CameraFeed(
        camera(OutageSource([BAD] * 5, [1, 3], live=True)), scorer(), queue_size=1, fallback_fps=10.0, limit=None,
        hang_s=60.0, changed=threading.Condition(), stop=threading.Event(), on_failure=lambda feed, error: None,
    )  # fmt: skip
    feed.thread.start()
    feed.thread.join(60)
    newest = feed.slot.take()
    assert newest is not None
    assert (newest.frame.index, newest.n_outages) == (4, 2)


def test_an_engine_that_hangs_ends_the_stream() -> None:
    """A call that does not return raises an error that names the engine, so that a service manager can restart it."""
    gate = threading.Event()
    source = ListSource([GOOD], live=True, endless=True, pace_s=0.01)
    started = time.monotonic()
    try:
        with pytest.raises(EngineError, match="fake-fp32 hangs"):
            run_stream(
                [camera(source)], scorer(GatedRunner(gate)), [],
                replace(OPTIONS, engine_timeout_s=0.3, grace_s=0.3), stop=threading.Event(),
            )  # fmt: skip
        assert time.monotonic() - started < GATE_S / 2
    finally:
        gate.set()
        for thread in threading.enumerate():
            if thread.name.startswith("edgead"):
                thread.join(60)


def test_max_frames_counts_all_cameras() -> None:
    """Exactly `max_frames` frames are judged, also where the last batch could have held more."""

    class Runner(BatchRunner):
        def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
            time.sleep(0.02)  # every camera has its next frame ready meanwhile
            return super().infer(batch)

    runner = Runner()
    cameras = [camera(ListSource([GOOD], endless=True), name=f"c{i}") for i in range(3)]
    summary = run_stream(cameras, scorer(runner), [], replace(OPTIONS, max_frames=7), stop=threading.Event())
    assert max(runner.sizes[2:]) == 3
    assert summary.n_processed == sum(runner.sizes[2:]) == 7
    assert sum(one.n_processed for one in summary.cameras) == 7


def test_a_full_mailbox_takes_no_more() -> None:
    """Requests wait in order up to a limit."""
    control = Control(limit=2)
    assert [control.put(Acknowledge(str(i), "x")) for i in range(3)] == [True, True, False]
    assert [request.alert_id for request in control.take_all() if isinstance(request, Acknowledge)] == ["0", "1"]
    assert control.take_all() == []


class LosableSource(ListSource):
    """A live camera whose connection the test sets."""

    def __init__(self, before_frame: threading.Event | None = None) -> None:
        super().__init__([GOOD], endless=True, live=True, pace_s=0.01, before_frame=before_frame)
        self.to("connecting")

    def to(self, phase: Phase, error: str = "") -> None:
        self.report.state = SourceState(phase, time.monotonic(), error)


def test_lost_and_found_cameras_are_said_once_each() -> None:
    """Lost, resting and back are one notice each, with the reason; the status shows where the camera stands."""
    consumer, stop, source = CollectingConsumer(), threading.Event(), LosableSource()
    plan: list[tuple[Phase, str]] = [
        ("running", ""), *[("reconnecting", "no answer"), ("resting", "no answer")] * 3, ("reconnecting", "no answer"),
        ("running", ""),
    ]  # fmt: skip
    states: list[str] = []

    def watching(status: StreamStatus) -> None:
        states.append(status.cameras[0].state)
        if not plan:
            stop.set()
        else:
            source.to(*plan.pop(0))

    other = ListSource([GOOD], endless=True, live=True, pace_s=0.01)
    run_stream(
        [camera(source), camera(other, name="other")], scorer(), [consumer], OPTIONS, stop=stop, on_status=watching
    )  # fmt: skip
    assert [(notice.camera, notice.kind) for notice in consumer.notices] == [
        ("line", "camera_lost"), ("line", "camera_failed"), ("line", "camera_back")
    ]  # fmt: skip
    assert "no answer" in sentence(consumer.notices[0])
    assert states[1:] == ["running", *["lost", "resting"] * 3, "lost", "running"]


def test_a_camera_that_never_answered_was_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    """It is reported once as failed, however often it is tried, and once more with its first frames; the log has a line each."""
    consumer, stop = CollectingConsumer(), threading.Event()
    gate = threading.Event()
    source = LosableSource(gate)
    source.name = "rtsp://10.0.0.5/live"
    plan: list[tuple[Phase, str]] = [
        *[("reconnecting", "rtsp://10.0.0.5/live cannot be opened: no answer."), ("resting", "no answer")] * 3,
        ("running", ""),
    ]
    states: list[str] = []

    def watching(status: StreamStatus) -> None:
        states.append(status.cameras[0].state)
        if plan:
            source.to(*plan.pop(0))
        elif gate.is_set() and states[-1] == "running":
            stop.set()
        else:
            gate.set()

    other = ListSource([GOOD], endless=True, live=True, pace_s=0.01)
    run_stream(
        [camera(source), camera(other, name="other")], scorer(), [consumer], OPTIONS, stop=stop, on_status=watching
    )  # fmt: skip
    said = [(notice.kind, sentence(notice)) for notice in consumer.notices]
    assert said == [
        (
            "camera_failed",
            "it has not answered since the start, and is tried until it does: it cannot be opened: no answer",
        ),
        ("camera_back", "its first frames come, after 0 reconnections"),
    ]
    assert [record.message for record in caplog.records] == [
        f"line: {said[0][1]}", f"line is back: {said[1][1]}"
    ]  # fmt: skip
    assert set(states) == {"waiting", "missing", "running"}


def test_a_hung_capture_is_said_and_alone_ends_the_stream() -> None:
    """Neither frame nor error: one of several is reported and the other goes on; the only one is an error."""
    options, gate = replace(OPTIONS, capture_timeout_s=0.3, grace_s=0.2), threading.Event()
    consumer, stop = CollectingConsumer(), threading.Event()
    hanging = ListSource([GOOD], before_frame=gate, live=True)
    other = ListSource([GOOD], endless=True, live=True, pace_s=0.01)

    def watching(status: StreamStatus) -> None:
        if consumer.notices:
            stop.set()

    try:
        run_stream(
            [camera(hanging), camera(other, name="other")], scorer(), [consumer], options, stop=stop, on_status=watching
        )  # fmt: skip
        assert [(notice.camera, notice.kind) for notice in consumer.notices] == [("line", "camera_failed")]
        assert "hangs" in sentence(consumer.notices[0])
        alone = ListSource([GOOD], before_frame=gate, live=True)
        with pytest.raises(SourceError, match="line hangs"):
            run_stream([camera(alone)], scorer(), [], options, stop=threading.Event())
    finally:
        gate.set()
        for thread in threading.enumerate():
            if thread.name.startswith("edgead"):
                thread.join(60)


def test_names_of_alerts_differ_and_sort_by_time() -> None:
    """Also of alerts that open in the same second, and of many in the same millisecond."""
    begin = datetime(2026, 11, 23, 2, 15, tzinfo=timezone.utc)
    names = [alert_name(begin + timedelta(milliseconds=17 * i)) for i in range(100)]
    assert names == sorted(names)
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", name) for name in names)
    assert len({alert_name(begin) for _ in range(4096)}) == 4096
