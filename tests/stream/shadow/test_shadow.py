"""A shadow beside a running stream: what it counts, what it costs, and that it changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.errors import EngineError
from edgead.manifest import ThresholdRecord
from edgead.runner import FakeRunner, Outputs
from edgead.stream.camera import Camera
from edgead.stream.control import Control
from edgead.stream.frame import Frame
from edgead.stream.pipeline import run_stream
from edgead.stream.result import FrameResult, JudgedBy
from edgead.stream.scorer import Scorer
from edgead.stream.shadow.report import ShadowReport
from edgead.stream.shadow.session import ShadowSession
from edgead.stream.shadow.shadow import QUEUE, Shadow
from edgead.stream.takeover import TakeOver
from edgead.stream.zone_monitor import ZoneMonitor
from edgead.stream.zones import ZoneShape

from ..fakes import BAD, GOOD, GOOD_SCORES, INPUT_SIZE, OPTIONS, RULES, SCALE, THRESHOLD, CollectingConsumer, ListSource

pytestmark = pytest.mark.timeout(60)
ACTIVE, OTHER = JudgedBy("a", "fake-fp32"), JudgedBy("b", "fake-fp32")
# FakeRunner gives it 0.088: below the threshold of the active model, above that of the shadow
WEAK = 150


def camera(source: ListSource, threshold: float = THRESHOLD) -> Camera:
    record = ThresholdRecord(value=threshold, false_alarm_rate=0.01, certified=True, interval=None, n_images=99)
    zone = ZoneMonitor(ZoneShape(), (2, 2), GOOD_SCORES, record, RULES)
    return Camera("line", source, (zone,), pixel_threshold=threshold)


def session(
    source: ListSource,
    runner: FakeRunner | None = None,
    *,
    share: float = 1.0,
    folder: Path | None = None,
    owned: ExitStack | None = None,
    max_slowdown: float = 10.0,
) -> ShadowSession:
    scorer = Scorer(runner or FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE, judged_by=OTHER)
    return ShadowSession(
        OTHER, scorer, {"line": camera(source, 0.05)}, {"line": (SCALE, SCALE)},
        share=share, max_slowdown=max_slowdown, folder=folder, pictures=2, seed=1, owned=owned,
    )  # fmt: skip


def watch(
    source: ListSource,
    make: Callable[[ListSource], ShadowSession],
    *,
    stop: threading.Event | None = None,
    control: Control | None = None,
) -> tuple[ShadowReport, CollectingConsumer]:
    """Run a stream with a shadow, and give its last report and all results."""
    reports: list[ShadowReport] = []
    shadow, results = Shadow(waits=not source.live, on_end=reports.append), CollectingConsumer()
    shadow.begin(make(source))
    active = Scorer(FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE, judged_by=ACTIVE)
    run_stream([camera(source)], active, [shadow, results], OPTIONS, stop=stop or threading.Event(), control=control)
    (report,) = reports
    assert shadow.report() == report
    assert not shadow.is_watching
    return report, results


def test_every_difference_is_counted_and_drawn(tmp_path: Path) -> None:
    """Frames that the shadow alone calls anomalous, alerts of both, and the largest differences as pictures."""
    quiet = [GOOD] * 20
    values = quiet * 2 + [WEAK] * 3 + quiet + [BAD] * 4 + quiet
    report, results = watch(ListSource(values), lambda source: session(source, folder=tmp_path / "pictures"))
    assert (report.judged, report.frames) == (len(values), len(values))
    assert (report.only_shadow, report.only_active, report.both) == (3, 0, 4)
    assert (report.alerts, report.alerts_active) == (2, 1)
    assert {one.kind for one in report.differences} == {"only_shadow"}
    assert len(report.differences) == 2, "no more than are kept"
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == sorted(one.picture for one in report.differences)
    picture = cv2.imread(str(tmp_path / "pictures" / files[0]))
    assert picture is not None
    assert picture.shape[1] > 2 * 64, "both heatmaps side by side"
    assert [result.is_anomalous for result in results.results].count(True) == 4, "the active verdicts are as without it"


def test_a_forecast_needs_a_minute_and_is_counted_by_the_source() -> None:
    """Two frames per second of a file's own time: below a minute there is no forecast, above it the rate is right."""
    burst = [GOOD] * 16 + [WEAK] * 4
    short, _ = watch(ListSource(burst * 5, fps=2.0), session)
    assert short.forecast is None
    assert "at least a minute" in " ".join(short.sentences)
    long, _ = watch(ListSource(burst * 20, fps=2.0), session)
    assert long.forecast is not None
    assert long.watched_s == pytest.approx(197.5, abs=1.0)
    assert long.forecast.per_hour == pytest.approx(360.0, rel=0.03)
    assert long.forecast.low <= 360 <= long.forecast.high


def test_an_alert_that_began_before_a_stretch_is_not_counted() -> None:
    """A defect that stays in view for ever has opened its alert once, before any stretch: stretches count none."""
    report, _ = watch(ListSource([BAD] * 900), lambda source: session(source, share=0.3))
    assert 120 <= report.judged <= 420
    assert (report.alerts, report.alerts_active) == (0, 0)
    assert report.both == report.judged


class SlowRunner(FakeRunner):
    """Waits for a gate in every call but the first."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__(INPUT_SIZE)
        self.gate = gate

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        assert self.gate.wait(30.0)
        return super().infer(batch)


def test_a_live_stream_does_not_wait_for_a_busy_shadow() -> None:
    """While its engine stands still the stream judges on; frames beyond the queue are skipped and counted."""
    gate = threading.Event()
    source, stop = ListSource([GOOD], live=True, endless=True, pace_s=0.001), threading.Event()
    judged: list[int] = []

    class Counter(CollectingConsumer):
        def accept(self, item: object) -> None:
            judged.append(1)
            if len(judged) == 100:
                gate.set()
                stop.set()

    reports: list[ShadowReport] = []
    shadow = Shadow(waits=False, on_end=reports.append)
    shadow.begin(session(source, SlowRunner(gate)))
    active = Scorer(FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE, judged_by=ACTIVE)
    run_stream([camera(source)], active, [shadow, Counter()], replace(OPTIONS, grace_s=30.0), stop=stop)
    (report,) = reports
    assert gate.is_set(), "100 frames were judged while the shadow stood still"
    assert report.cost.skipped >= 100 - QUEUE - 1
    assert report.judged + report.cost.skipped == report.frames


def test_a_stop_does_not_wait_for_the_shadow_s_queue() -> None:
    """Frames that wait are not judged any more, and a call that takes longer than the stream's patience is no hang."""
    gate = threading.Event()
    source, stop = ListSource([GOOD], live=True, endless=True, pace_s=0.001), threading.Event()

    class Stopper(CollectingConsumer):
        def accept(self, item: object) -> None:
            if shadow.report().cost.skipped and not stop.is_set():  # type: ignore[union-attr]
                stop.set()
                threading.Timer(0.6, gate.set).start()

    reports: list[ShadowReport] = []
    shadow = Shadow(waits=False, on_end=reports.append, stop=stop)
    shadow.begin(session(source, SlowRunner(gate)))
    active = Scorer(FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE, judged_by=ACTIVE)
    run_stream([camera(source)], active, [shadow, Stopper()], replace(OPTIONS, grace_s=0.2), stop=stop)
    (report,) = reports
    assert (report.judged, report.problem) == (1, "")


def test_a_frame_without_the_part_is_a_gap() -> None:
    """Frames that were picked before it was seen are a stretch of their own: no alert counts before it has settled."""
    source = ListSource([GOOD])
    one, collected = session(source), CollectingConsumer()
    active = Scorer(FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE)
    run_stream([camera(source)], active, [collected], OPTIONS, stop=threading.Event())
    good = collected.results[0]
    bad = replace(good, frame=replace(good.frame, image=np.full_like(good.frame.image, BAD)))
    ready = one._scorer.prepare

    def judge(result: FrameResult, n: int, *, begins: bool = False) -> None:
        for _ in range(n):
            one.pick(result, None)
            one.judge(result, begins=begins)

    judge(good, 1, begins=True)
    judge(good, 20)
    one._scorer.prepare = lambda *given: replace(ready(*given), lacks_part=True)  # type: ignore[method-assign]
    judge(good, 1)
    one._scorer.prepare = ready  # type: ignore[method-assign]
    judge(bad, 3)
    report = one.report()
    assert (report.judged, report.alerts) == (24, 0)


def test_a_shadow_that_fails_ends_alone() -> None:
    """An error of its engine ends the watch with the reason; the engine is closed, and the stream goes on."""
    closed = ExitStack()
    told: list[bool] = []
    closed.callback(told.append, True)

    class Broken(FakeRunner):
        def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
            raise EngineError("out of memory")

    report, results = watch(ListSource([GOOD] * 30), lambda source: session(source, Broken(INPUT_SIZE), owned=closed))
    assert (report.ended, report.problem, report.judged) == ("it failed", "out of memory", 0)
    assert len(results.results) == 30
    assert told == [True]


def test_another_model_ends_the_watch() -> None:
    """A comparison is with one active model: after a change nothing more is counted."""
    gate = threading.Event()
    gate.set()
    source = ListSource([GOOD] * 20, before_frame=gate)
    control = Control()
    real = source.frames

    def frames(stop: threading.Event) -> Iterator[Frame]:
        for frame in real(stop):
            if frame.index == 10:
                scorer = Scorer(FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE, judged_by=JudgedBy("c", "fake-fp32"))
                request = TakeOver(scorer, {"line": camera(source)}, "ann")
                control.put(request)
                assert request.done.wait(10)
            yield frame

    source.frames = frames  # type: ignore[method-assign]
    report, results = watch(source, session, control=control)
    assert report.ended == "ann changed the model"
    assert report.active == ACTIVE
    assert report.judged <= 10
    assert len([one for one in results.results if not one.is_repeat]) == 20


def test_a_gap_of_the_camera_is_no_stretch() -> None:
    """Frames before and after a fault are not judged together."""
    source = ListSource([GOOD])
    one = session(source)
    active = CollectingConsumer()
    run_stream(
        [camera(source)],
        Scorer(FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE),
        [active],
        OPTIONS,
        stop=threading.Event(),
    )
    result = active.results[0]
    assert one.pick(result, None) == (True, True)
    assert one.pick(result, None) == (True, False)
    one.break_off("line")
    assert one.pick(result, None) == (True, True)


def test_a_shadow_that_slows_the_stream_down_judges_less() -> None:
    """Once the active model's median latency beside the shadow exceeds the limit, its share is halved, and that is said."""
    source = ListSource([GOOD])
    one = session(source, share=0.5, max_slowdown=0.1)
    collected = CollectingConsumer()
    run_stream(
        [camera(source)],
        Scorer(FakeRunner(INPUT_SIZE), image_size=INPUT_SIZE),
        [collected],
        OPTIONS,
        stop=threading.Event(),
    )
    for index in range(400):
        one.pending = index % 2
        one.pick(replace(collected.results[0], latency_ms=12.0 if one.pending else 10.0), QUEUE)
    report = one.report()
    assert report.cost.share < 0.5
    assert "became slower" in report.problem
