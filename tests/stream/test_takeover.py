"""Another model takes over under a running stream: every frame once, under the digest of the model that judged it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.manifest import ThresholdRecord
from edgead.runner import FakeRunner, Outputs
from edgead.stream.camera import Camera
from edgead.stream.control import Control, SetThreshold
from edgead.stream.frame import Frame
from edgead.stream.monitoring.meter import StreamStatus
from edgead.stream.notices import ModelChanged, sentence
from edgead.stream.pipeline import run_stream
from edgead.stream.result import FrameResult, JudgedBy
from edgead.stream.scorer import Scorer
from edgead.stream.takeover import TakeOver
from edgead.stream.zone_monitor import RuleOptions, ZoneMonitor
from edgead.stream.zones import ZoneShape

from .fakes import BAD, GOOD, GOOD_SCORES, OPTIONS, RULES, THRESHOLD, CollectingConsumer, ListSource

pytestmark = pytest.mark.timeout(30)
NAMES = ("a", "b")


class ScaledRunner(FakeRunner):
    """Scores `factor` times those of `FakeRunner`, at an input size of its own."""

    def __init__(self, factor: float) -> None:
        super().__init__((32, 32) if factor == 1.0 else (64, 48))
        self._factor = np.float32(factor)

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        assert batch.shape[1:] == self.input_spec.shape[1:]
        return {name: values * self._factor for name, values in super().infer(batch, class_bias).items()}


def factor_of(name: str) -> float:
    return 1.0 + NAMES.index(name)


def zone(name: str, rules: RuleOptions) -> ZoneMonitor:
    threshold = ThresholdRecord(
        value=THRESHOLD * factor_of(name), false_alarm_rate=0.01, certified=True, interval=None, n_images=99
    )
    return ZoneMonitor(ZoneShape(), (2, 2), GOOD_SCORES, threshold, rules)


def scorer(name: str) -> Scorer:
    runner = ScaledRunner(factor_of(name))
    _, height, width, _ = runner.input_spec.shape
    assert height
    assert width
    return Scorer(runner, image_size=(height, width), judged_by=JudgedBy(name, "fake-fp32"))


def camera(source: ListSource, name: str, rules: RuleOptions = RULES) -> Camera:
    return Camera("line", source, (zone(name, rules),), pixel_threshold=THRESHOLD * factor_of(name))


def take_over(source: ListSource, name: str, rules: RuleOptions = RULES) -> TakeOver:
    return TakeOver(scorer(name), {"line": camera(source, name, rules)}, "ann", "it finds scratches")


def fresh(consumer: CollectingConsumer) -> list[FrameResult]:
    return [result for result in consumer.results if not result.is_repeat]


@pytest.mark.parametrize("live", [False, True])
def test_every_frame_is_judged_once_under_its_own_model(live: bool) -> None:
    """Fifty changes back and forth while frames wait in the queue, prepared for the other input size."""
    # a source that waits fills the queue, so that frames prepared for one model meet the other
    source = ListSource([GOOD, BAD], endless=True, live=live, pace_s=0.001 if live else 0.0)
    control, stop, consumer = Control(), threading.Event(), CollectingConsumer()

    def change() -> None:
        for index in range(50):
            request = take_over(source, NAMES[(index + 1) % 2])
            control.put(request)
            assert request.done.wait(10)
        stop.set()

    changer = threading.Thread(target=change)
    changer.start()
    summary = run_stream([camera(source, "a")], scorer("a"), [consumer], OPTIONS, stop=stop, control=control)
    changer.join(10)
    results = fresh(consumer)
    indices = [result.frame.index for result in results]
    if live:
        assert indices == sorted(set(indices))
        assert 0 <= summary.n_captured - summary.n_processed - summary.n_dropped <= 2
    else:
        assert indices == list(range(len(indices)))
    changes = [notice for notice in consumer.notices if isinstance(notice, ModelChanged)]
    assert len(changes) == 50
    for result in results:
        assert result.judged_by is not None
        factor = factor_of(result.judged_by.bundle)
        brightness = float(result.frame.image[0, 0, 0]) / 255 - 0.5
        assert result.worst.score == pytest.approx(max(brightness, 0.0) * factor, abs=1e-5)
        assert result.worst.threshold == pytest.approx(THRESHOLD * factor)


def run_with_change(
    values: list[int], at: int, rules: RuleOptions = RULES, *requests: SetThreshold
) -> CollectingConsumer:
    """Judge `values` by model a, and those from index `at` on by model b."""
    control, consumer, gate = Control(), CollectingConsumer(), threading.Event()
    gate.set()
    source = ListSource(values, before_frame=gate)
    real = source.frames

    def frames(stop: threading.Event) -> Iterator[Frame]:
        for frame in real(stop):
            if frame.index == at:
                while len(fresh(consumer)) < at and not stop.wait(0.005):
                    pass
                request = take_over(source, "b", rules)
                control.put(request)
                for late in requests:
                    control.put(late)
                assert request.done.wait(10)
            yield frame

    source.frames = frames  # type: ignore[method-assign]
    run_stream([camera(source, "a", rules)], scorer("a"), [consumer], OPTIONS, stop=threading.Event(), control=control)
    return consumer


def events(consumer: CollectingConsumer) -> list[tuple[str, str, str | None]]:
    """Kind of each alert event, the model of its result, and how the alert ended."""
    return [
        (verdict.event.kind, result.judged_by.bundle, verdict.event.alert.ended_by)
        for result in consumer.results
        for verdict in result.zones
        if verdict.event is not None and result.judged_by is not None
    ]


def test_an_open_alert_ends_with_the_model_that_opened_it() -> None:
    """A defect that stays opens a second alert under the new model; no alert mixes the scores of two."""
    consumer = run_with_change([BAD] * 8, 4)
    assert events(consumer) == [
        ("opened", "a", None), ("closed", "a", "model_changed"), ("opened", "b", None), ("closed", "b", "end_of_stream"),
    ]  # fmt: skip
    opened = [
        zone.event.alert.number
        for r in consumer.results
        for zone in r.zones
        if zone.event and zone.event.kind == "opened"
    ]
    assert opened == [1, 2]


def test_a_latched_alert_is_held_across_the_change() -> None:
    """It waits for its acknowledgement under its name, and frames from before the change open nothing after it."""
    rules = replace(RULES, latch=True)
    consumer = run_with_change([BAD] * 4 + [GOOD] * 4, 4, rules)
    assert events(consumer) == [("opened", "a", None), ("held", "a", None)]
    names = {zone.alert_id for result in fresh(consumer)[4:] for zone in result.zones}
    assert len(names) == 1
    assert None not in names


def test_a_held_alert_that_resumes_keeps_the_peak_of_its_own_model() -> None:
    """Its score is in the units of the model that opened it; the higher scores of the new one do not replace it."""
    rules = replace(RULES, latch=True)
    consumer = run_with_change([BAD] * 4 + [GOOD] * 3 + [BAD] * 3, 4, rules)
    assert [kind for kind, _, _ in events(consumer)] == ["opened", "held", "resumed", "held"]
    peaks = {
        (round(zone.event.alert.peak_score, 4), zone.event.alert.peak_frame)
        for result in consumer.results
        for zone in result.zones
        if zone.event is not None
    }
    assert peaks == {(round(BAD / 255 - 0.5, 4), 1)}


def test_frames_of_two_models_open_no_alert_together() -> None:
    """One anomalous frame before the change and one after it are not two in a row."""
    assert events(run_with_change([GOOD, GOOD, BAD, BAD, GOOD, GOOD], 3)) == []


def test_the_change_is_announced_between_the_frames() -> None:
    """The notice stands in every consumer's queue between the last result of one model and the first of the other."""
    consumer = run_with_change([GOOD] * 6, 3)
    (notice,) = [item for item in consumer.notices if isinstance(item, ModelChanged)]
    assert sentence(notice) == "ann changed the model from a (fake-fp32) to b (fake-fp32): it finds scratches"
    assert [r.judged_by.bundle for r in fresh(consumer) if r.judged_by] == ["a"] * 3 + ["b"] * 3


def test_a_threshold_for_the_model_before_is_not_set() -> None:
    """A request in scores of the model before, which comes after the change, is not carried out."""
    late = SetThreshold("line", "picture", 0.01, None, "bob", judged_by=JudgedBy("a", "fake-fp32"))
    consumer = run_with_change([GOOD] * 6, 3, RULES, late)
    assert {notice.kind for notice in consumer.notices} == {"model_changed"}


def test_status_follows_the_new_model() -> None:
    """The line of the terminal and the page show the threshold that decides now."""
    source = ListSource([GOOD], endless=True, pace_s=0.002)
    control, stop = Control(), threading.Event()
    request = take_over(source, "b")
    seen: list[float] = []

    def look(status: StreamStatus) -> None:
        if request.done.is_set():
            seen.append(status.cameras[0].threshold)
            stop.set()
        elif status.cameras[0].n_processed:
            control.put(request)

    run_stream([camera(source, "a")], scorer("a"), [], OPTIONS, stop=stop, control=control, on_status=look)
    assert seen
