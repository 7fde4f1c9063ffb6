"""The threads of a stream: everything that can fail or block does, and the stream still ends as it should."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.errors import EdgeadError, EngineError, SourceError
from edgead.runner import FakeRunner, Outputs
from edgead.stream.monitoring.meter import StreamStatus
from edgead.stream.pipeline import run_stream

from .fakes import (
    BAD,
    GOOD,
    INPUT_SIZE,
    OPTIONS,
    RULES,
    CollectingConsumer,
    GatedRunner,
    ListSource,
    RaisingRunner,
    camera,
    scorer,
    watch,
)


@pytest.fixture(autouse=True)
def _no_thread_survives() -> Iterator[None]:
    """After every test, no thread of the stream is left."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("edgead")] == []


def test_every_frame_of_a_file_is_judged_in_order() -> None:
    """A source that can wait loses nothing, with queues shorter than itself, and its alerts follow the scores."""
    consumer = CollectingConsumer()
    source = ListSource([GOOD] * 5 + [BAD] * 4 + [GOOD] * 6 + [BAD] * 3)
    summary = run_stream([camera(source)], scorer(), [consumer], OPTIONS, stop=threading.Event())
    fresh = [result for result in consumer.results if not result.is_repeat]
    assert [result.frame.index for result in fresh] == list(range(18))
    assert [result.time_s for result in fresh] == [index / 10 for index in range(18)]
    assert (summary.n_captured, summary.n_processed, summary.n_dropped, summary.n_anomalous) == (18, 18, 0, 7)
    events = [
        (result.frame.index, zone.event.kind)
        for result in consumer.results
        for zone in result.zones
        if zone.event is not None
    ]
    assert events == [(6, "opened"), (10, "closed"), (16, "opened"), (17, "closed")]
    assert summary.n_alerts == 2
    assert summary.ended_by == "source"
    assert summary.engine_ms is not None
    assert summary.end_to_end_ms is not None
    assert summary.engine_ms.p50 <= summary.end_to_end_ms.p50
    assert source.is_closed
    assert consumer.is_closed


def test_end_of_stream_closes_an_open_alert_without_a_second_frame() -> None:
    """The last frame comes once as a frame and once, marked as a repeat, with the closing event."""
    consumer = CollectingConsumer()
    run_stream([camera(ListSource([BAD] * 3))], scorer(), [consumer], OPTIONS, stop=threading.Event())
    assert [(result.frame.index, result.is_repeat) for result in consumer.results] == [
        (0, False),
        (1, False),
        (2, False),
        (2, True),
    ]
    last = consumer.results[-1].zones[0].event
    assert last is not None
    assert last.alert.ended_by == "end_of_stream"


def test_live_source_drops_old_frames_and_counts_them() -> None:
    """While the engine is busy, newer frames replace older ones; captured = judged + dropped."""
    gate, captured = threading.Event(), threading.Event()
    runner = GatedRunner(gate)
    source = ListSource([GOOD] * 30, live=True, before_frame=captured)

    def release(status: StreamStatus) -> None:
        if runner.entered.is_set() and source.n_given == 30:
            gate.set()
        captured.set()

    summary = run_stream([camera(source)], scorer(runner), [], OPTIONS, stop=threading.Event(), on_status=release)
    assert summary.n_captured == 30
    assert summary.n_processed + summary.n_dropped == 30
    assert summary.n_dropped >= 27


def test_live_alerts_survive_slow_consumers() -> None:
    """A blocked recorder of a live source misses pictures, which are counted; a slow alert consumer gets every event."""
    gate = threading.Event()
    pictures = CollectingConsumer(lossless=False, gate=gate)
    alerts = CollectingConsumer(gate=threading.Event(), gate_s=0.02)
    source = ListSource([GOOD, BAD] * 30, live=True, pace_s=0.004, closed=gate)
    rules = replace(RULES, open_frames=1, window_frames=1, close_frames=1)
    summary = run_stream([camera(source, watch(rules))], scorer(), [pictures, alerts], OPTIONS, stop=threading.Event())
    fresh = [result.frame.index for result in alerts.results if not result.is_repeat]
    assert fresh == sorted(set(fresh))
    assert len(fresh) == summary.n_processed > 10
    assert summary.n_frames_undrawn > 0
    assert len(pictures.results) + summary.n_frames_undrawn == len(alerts.results)


def test_time_of_a_live_source_is_the_time_of_capture() -> None:
    """Alert times and recordings of a camera follow its clock, not a nominal frame rate."""
    consumer = CollectingConsumer()
    run_stream([camera(ListSource([GOOD] * 5, live=True))], scorer(), [consumer], OPTIONS, stop=threading.Event())
    first = consumer.results[0]
    for result in consumer.results:
        assert result.time_s == result.frame.captured_at_s - first.frame.captured_at_s


@pytest.mark.parametrize("at_call", [1, 2, 3, 10])
@pytest.mark.parametrize("live", [False, True])
def test_failing_runner_ends_the_stream_with_its_own_error(at_call: int, live: bool) -> None:
    """A runner that raises at any position, with full queues around it, is reported once and stops the rest."""
    error = EngineError("the engine broke")
    source = ListSource([BAD], endless=True, live=live)
    consumer = CollectingConsumer()
    stop = threading.Event()
    with pytest.raises(EngineError) as caught:
        run_stream([camera(source)], scorer(RaisingRunner(at_call, error)), [consumer], OPTIONS, stop=stop)
    assert caught.value is error
    assert stop.is_set()
    assert source.is_closed
    assert consumer.is_closed
    if at_call == 10 and not live:
        last = consumer.results[-1].zones[0].event
        assert last is not None
        assert last.kind == "closed"


def test_dying_source_ends_the_stream_with_its_own_error() -> None:
    """A source that raises after some frames is reported, and the consumers are closed."""
    consumer = CollectingConsumer()
    source = ListSource([GOOD] * 5, error=SourceError("the camera died"))
    with pytest.raises(SourceError, match="the camera died"):
        run_stream([camera(source)], scorer(), [consumer], OPTIONS, stop=threading.Event())
    assert consumer.is_closed


def test_the_error_of_the_only_camera_names_it() -> None:
    """A person who has configured it knows it by its name; the address stays beside it."""
    source = ListSource([GOOD], error=SourceError("list was lost and did not come back"))
    with pytest.raises(SourceError) as caught:
        run_stream([camera(source)], scorer(), [], OPTIONS, stop=threading.Event())
    assert caught.value.message == "line (list) was lost and did not come back"


@pytest.mark.parametrize("at", [0, 1])
def test_failing_consumer_stops_everything(at: int) -> None:
    """A consumer that raises while the engine waits for room in its queue ends the stream with its error."""
    failing = CollectingConsumer(gate=threading.Event(), gate_s=0.2, error=OSError("no disk"), at=at)
    other = CollectingConsumer()
    source = ListSource([GOOD], endless=True)
    with pytest.raises(OSError, match="no disk"):
        run_stream(
            [camera(source)],
            scorer(),
            [failing, other],
            replace(OPTIONS, grace_s=60.0),
            stop=threading.Event(),
        )
    assert source.is_closed
    assert other.is_closed


def test_slow_consumer_of_a_file_gets_everything_before_the_stream_ends() -> None:
    """Back-pressure reaches the source, and the end waits until the consumer has written what it was given."""
    gate = threading.Event()
    consumer = CollectingConsumer(gate=gate, gate_s=0.02)
    summary = run_stream([camera(ListSource([GOOD] * 12))], scorer(), [consumer], OPTIONS, stop=threading.Event())
    assert len(consumer.results) == summary.n_processed == 12


@pytest.mark.parametrize("where", ["engine", "consumer", "source"])
def test_stop_while_blocked(where: str) -> None:
    """A stop while the engine, the consumer or the source blocks ends the stream as soon as that one moves."""
    gate, stop = threading.Event(), threading.Event()
    runner = GatedRunner(gate) if where == "engine" else FakeRunner(INPUT_SIZE)
    consumer = CollectingConsumer(gate=gate if where == "consumer" else None)
    source = ListSource([GOOD], endless=True, before_frame=gate if where == "source" else None)
    threading.Timer(0.2, stop.set).start()
    threading.Timer(0.5, gate.set).start()
    summary = run_stream([camera(source)], scorer(runner), [consumer], OPTIONS, stop=stop)
    assert source.is_closed
    assert consumer.is_closed
    assert len(consumer.results) == summary.n_processed
    assert summary.ended_by == "stop"


def test_stop_does_not_wait_for_a_source_that_blocks() -> None:
    """A camera driver that never returns cannot hold up results: everything else ends, without an error."""
    gate, stop = threading.Event(), threading.Event()
    consumer = CollectingConsumer()
    threading.Timer(0.1, stop.set).start()
    source = ListSource([GOOD], before_frame=gate)
    summary = run_stream([camera(source)], scorer(), [consumer], replace(OPTIONS, grace_s=0.3), stop=stop)
    assert summary.ended_by == "stop"
    assert consumer.is_closed
    assert not source.is_closed
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("edgead"):
            thread.join(5)


def test_hanging_consumer_is_given_up_and_named() -> None:
    """A consumer that never comes back cannot keep the stream from ending: the error names it."""
    gate, stop = threading.Event(), threading.Event()
    consumer = CollectingConsumer(gate=gate)
    source = ListSource([GOOD], endless=True)
    # not earlier, however busy the machine is: only a consumer that has a frame can hang
    threading.Thread(target=lambda: consumer.entered.wait(30) and stop.set()).start()
    try:
        with pytest.raises(EdgeadError, match="hangs"):
            run_stream([camera(source)], scorer(), [consumer], replace(OPTIONS, grace_s=0.3), stop=stop)
    finally:
        gate.set()
        for thread in threading.enumerate():
            if thread.name.startswith("edgead"):
                thread.join(5)


def test_a_consumer_that_waits_for_others_does_not_hang() -> None:
    """A consumer that waits for work with its own time limit may take longer than the grace of the stream."""

    class WaitingConsumer(CollectingConsumer):
        is_busy = True

    consumer = WaitingConsumer(gate=threading.Event(), gate_s=0.8)
    run_stream(
        [camera(ListSource([GOOD]))], scorer(), [consumer], replace(OPTIONS, grace_s=0.2), stop=threading.Event()
    )
    assert len(consumer.results) == 1


def test_an_error_of_a_camera_after_the_stop_is_no_failure() -> None:
    """A connection that the stop interrupts may end with an error; the stream still ends as it was asked to."""
    gate, stop = threading.Event(), threading.Event()
    source = ListSource([GOOD], error=SourceError("the connection timed out"), before_frame=gate)
    threading.Timer(0.1, stop.set).start()
    threading.Timer(0.3, gate.set).start()
    summary = run_stream([camera(source)], scorer(), [], OPTIONS, stop=stop)
    assert summary.ended_by == "stop"
    assert summary.cameras[0].failure is None


@pytest.mark.parametrize("live", [False, True])
def test_max_frames_ends_the_stream(live: bool) -> None:
    """Exactly `max_frames` frames of an endless source are judged."""
    summary = run_stream(
        [camera(ListSource([GOOD], endless=True, live=live))],
        scorer(),
        [],
        replace(OPTIONS, max_frames=7),
        stop=threading.Event(),
    )
    assert summary.n_processed == 7
    assert summary.ended_by == "max_frames"


def test_raising_status_callback_stops_the_threads() -> None:
    """An error on the caller's own thread leaves no thread behind."""

    def fail(status: StreamStatus) -> None:
        raise RuntimeError("broken terminal")

    source = ListSource([GOOD], endless=True)
    with pytest.raises(RuntimeError, match="broken terminal"):
        run_stream([camera(source)], scorer(), [], OPTIONS, stop=threading.Event(), on_status=fail)
    for thread in threading.enumerate():
        if thread.name.startswith("edgead"):
            thread.join(5)


def test_a_score_that_is_no_number_is_an_error() -> None:
    """NaN compares as "good": the stream must not call such a frame good."""

    class NanRunner(FakeRunner):
        def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
            outputs = super().infer(batch)
            return outputs | {"pred_score": np.full(1, np.nan, np.float32)}

    with pytest.raises(EngineError, match="nan"):
        run_stream([camera(ListSource([GOOD] * 3))], scorer(NanRunner(INPUT_SIZE)), [], OPTIONS, stop=threading.Event())


def test_status_counts_up() -> None:
    """The status callback sees the source's name, then frames and scores."""
    seen: list[StreamStatus] = []
    gate = threading.Event()
    threading.Timer(0.25, gate.set).start()
    source = ListSource([GOOD, BAD], before_frame=gate)
    run_stream([camera(source)], scorer(), [], OPTIONS, stop=threading.Event(), on_status=seen.append)
    assert seen[0].cameras[0].score is None
    assert seen[-1].n_frames == 2
    assert seen[-1].cameras[0].score == pytest.approx(BAD / 255 - 0.5, abs=1e-6)
