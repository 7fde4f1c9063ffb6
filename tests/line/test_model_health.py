"""Roll-back by itself: real streams whose second model alarms too often, is slow, or fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.bundle import open_bundle
from edgead.commands.stream import StreamOutputs, stream
from edgead.config.file import load_config
from edgead.config.models import ModelHealthConfig
from edgead.config.stream import CameraConfig
from edgead.contexts import OwnsNothing
from edgead.errors import EngineError
from edgead.evaluation.forecast import forecast_count
from edgead.line import model_changer, model_health
from edgead.line.model_changer import LineModels
from edgead.line.model_health import ModelHealth
from edgead.line.model_store import Installed, ModelStore
from edgead.runner import FakeRunner, Outputs
from edgead.stream.alerts import Alert, AlertEvent
from edgead.stream.consumers.consumer import Item
from edgead.stream.frame import Frame
from edgead.stream.notices import ModelChanged
from edgead.stream.result import FrameResult, JudgedBy
from edgead.stream.sources.memory import MemorySource
from tools.hot_swap import install_copy

from ..commands.stream_runs import GOOD, make_bundle
from ..stream.fakes import plain, result

pytestmark = pytest.mark.timeout(120)
# 0.15 above mid-grey: below the threshold of 0.2 by one engine, above it by one that doubles
WEAK = 165


class Engine(FakeRunner):
    """Multiplies scores, takes its time, or fails from a call on."""

    def __init__(self, factor: float = 1.0, sleep_s: float = 0.0, fails_at: int | None = None) -> None:
        super().__init__((32, 32))
        self._factor, self._sleep_s, self._fails_at, self._n = np.float32(factor), sleep_s, fails_at, 0

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        self._n += 1
        if self._n == self._fails_at:
            raise EngineError("the accelerator is gone")
        time.sleep(self._sleep_s)
        return {name: values * self._factor for name, values in super().infer(batch).items()}


class Opened(OwnsNothing):
    def __init__(self, path: Path, engine: Engine) -> None:
        self.bundle, self.runner = open_bundle(path), engine


class Counter(OwnsNothing):
    """Counts the frames of each model, and wakes who waits."""

    name = "counter"
    lossless = True

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.changes: list[ModelChanged] = []
        self.news = threading.Condition()

    def wants(self, item: Item) -> bool:
        return isinstance(item, FrameResult | ModelChanged)

    def accept(self, item: Item) -> None:
        with self.news:
            if isinstance(item, ModelChanged):
                self.changes.append(item)
            elif isinstance(item, FrameResult) and item.judged_by is not None:
                self.seen[item.judged_by.bundle] = self.seen.get(item.judged_by.bundle, 0) + 1
            self.news.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(condition, 60.0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setattr(model_changer, "POLL_S", 0.01)
    bundle = make_bundle(tmp_path)
    store = ModelStore(tmp_path / "models")
    for seed in (0, 1):
        install_copy(store, bundle.path, seed)
    return store


def run(
    store: ModelStore,
    tmp_path: Path,
    second: Callable[[], Engine],
    script: Callable[[Counter, Installed, Installed], None],
    first: Callable[[], Engine] = Engine,
    images: tuple[int, ...] = (GOOD,) * 8 + (WEAK,) * 5,
    **settings: object,
) -> Counter:
    """Run a stream with two models at 2 s of the source's time per frame, and `script` beside it."""
    before, after = store.read().installed
    counter, stop = Counter(), threading.Event()

    def open_model(path: Path, engine: str) -> Opened:
        return Opened(path, first() if path == store.path(before) else second())

    def act() -> None:
        try:
            script(counter, before, after)
        finally:
            stop.set()

    actor = threading.Thread(target=act, daemon=True)
    actor.start()
    opened = open_model(store.path(before), "")
    config = load_config(
        None, {"stream.record_fps": 0.5, "clips.seconds_before": 0, "clips.seconds_after": 0, **settings}
    )
    source = MemorySource([plain(value) for value in images], 10**9)
    try:
        stream(
            opened.bundle, opened.runner, [CameraConfig(name="line", source="memory")], StreamOutputs(tmp_path / "alerts"),
            config=config, stop=stop, sources={"line": source}, consumers=[counter],
            models=LineModels(store, before, open_model, opened),
        )  # fmt: skip
    finally:
        stop.set()
        actor.join(60.0)
    return counter


def test_a_model_that_alarms_too_often_is_rolled_back_once(store: ModelStore, tmp_path: Path) -> None:
    """The model before comes back with the reason; when someone insists, the other stays: the two never take turns."""

    def script(counter: Counter, before: Installed, after: Installed) -> None:
        counter.wait(lambda: counter.seen.get(before.digest, 0) > 600)
        store.activate(after.name, who="ann")
        counter.wait(lambda: len(counter.changes) == 2)
        store.activate(after.name, who="ann", why="I know")
        counter.wait(lambda: len(counter.changes) == 3)
        seen = counter.seen[after.digest]
        counter.wait(lambda: counter.seen[after.digest] > seen + 300)

    counter = run(store, tmp_path, lambda: Engine(2.0), script)
    before, after = store.read().installed
    first, back, again = counter.changes
    assert [one.after.bundle for one in (first, back, again) if one.after] == [
        after.digest,
        before.digest,
        after.digest,
    ]
    assert (back.who, back.values["rollback"]) == ("edgead", True)
    assert "alarms within 5 minutes, where the model before lets expect 0 to" in back.why
    state = store.read()
    assert [(one.kind, one.left) for one in state.activations[1:]] == [
        ("activate", ""),
        ("rollback", after.name),
        ("activate", ""),
    ]
    assert state.active == after


@pytest.mark.slow
def test_a_model_that_alarms_as_before_stays(store: ModelStore, tmp_path: Path) -> None:
    """Twice the length of the watch passes, and nothing is rolled back."""

    def script(counter: Counter, before: Installed, after: Installed) -> None:
        counter.wait(lambda: counter.seen.get(before.digest, 0) > 300)
        store.activate(after.name, who="ann")
        counter.wait(lambda: counter.seen.get(after.digest, 0) > 300)

    counter = run(store, tmp_path, lambda: Engine(2.0), script, first=lambda: Engine(2.0))
    assert len(counter.changes) == 1
    assert store.read().activations[-1].kind == "activate"


@pytest.mark.slow
def test_a_slow_model_is_rolled_back(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten times the latency of the model before, where twice is allowed."""
    monkeypatch.setattr(model_health, "LEAST_FRAMES", 20)

    def script(counter: Counter, before: Installed, after: Installed) -> None:
        counter.wait(lambda: counter.seen.get(before.digest, 0) > 60)
        store.activate(after.name, who="ann")
        counter.wait(lambda: len(counter.changes) == 2)

    counter = run(
        store, tmp_path, lambda: Engine(sleep_s=0.1), script, first=lambda: Engine(sleep_s=0.01), images=(GOOD,)
    )
    assert "a median latency of" in counter.changes[1].why
    assert store.read().active == store.read().installed[0]
    assert "is rolled back to" in caplog.text


def test_a_model_whose_engine_fails_is_not_started_again(store: ModelStore, tmp_path: Path) -> None:
    """The stream ends with the error, and the next start has the model before."""

    def script(counter: Counter, before: Installed, after: Installed) -> None:
        counter.wait(lambda: counter.seen.get(before.digest, 0) > 20)
        store.activate(after.name, who="ann")
        deadline_s = time.monotonic() + 60.0
        while store.read().activations[-1].kind != "rollback" and time.monotonic() < deadline_s:
            time.sleep(0.02)

    with pytest.raises(EngineError, match="the accelerator is gone"):
        run(store, tmp_path, lambda: Engine(fails_at=20), script)
    active, why = store.active()
    assert (active, why.who) == (store.read().installed[0], "edgead")
    assert "its engine failed in its first minutes" in why.why


A, B = JudgedBy("a", "fake-fp32"), JudgedBy("b", "fake-fp32")


def frame(index: int, judged_by: JudgedBy, *, opens: bool = False, latency_ms: float = 1.0) -> FrameResult:
    """A judged frame, one in 4 s; it may open an alert."""
    event = AlertEvent("opened", Alert(1, 0.0, 0, 0.3, 0)) if opens else None
    made = result(GOOD, index=index, time_s=4.0 * index, event=event)
    return FrameResult(
        "line", Frame(made.frame.image, index, 0.0, "x"), made.prediction, 4.0 * index, 0.25, 0.25, made.zones,
        judged_by=judged_by, latency_ms=latency_ms,
    )  # fmt: skip


class Report:
    """What a shadow of model b forecast: 60 alarms per hour, seen for two hours."""

    shadow = B
    forecast = forecast_count(120, 2.0, 1.0)


@pytest.mark.parametrize(
    ("report", "every", "words"),
    [
        (Report(), 15, ""),  # as forecast, although the model before never alarmed
        (Report(), 3, "where its shadow forecast"),
        (Report(), 10**6, "0 alarms in 15 minutes, where its shadow forecast"),
        (None, 15, "where the model before lets expect"),
        (None, 10**6, ""),  # fewer alarms than before are what a new model is for
    ],
)
def test_the_interval_is_that_of_the_shadow_if_there_was_one(report: object, every: int, words: str) -> None:
    """With a forecast of the model itself both ends count; without one, more alarms than the model before lets expect."""
    settings = ModelHealthConfig(watch_s=900.0)
    health = ModelHealth(["line"], settings, lambda: report)  # type: ignore[arg-type, return-value]
    for index in range(900):
        health.accept(frame(index, A))
    health.accept(ModelChanged("", 0.0, A, B, "ann"))
    assert health.is_watching
    for index in range(900, 1150):
        health.accept(frame(index, B, opens=index % every == 0))
        if health.violation:
            break
    assert words in health.violation if words else not health.violation
    assert health.is_watching == bool(words)


@pytest.mark.parametrize("is_lost", [True, False])
def test_an_outage_is_not_taken_for_quiet(is_lost: bool) -> None:
    """A camera that was lost for half an hour, or never came back, has not watched: its missing alarms are no reason."""
    health = ModelHealth(["line", "side"], ModelHealthConfig(watch_s=900.0), lambda: Report())  # type: ignore[arg-type, return-value]
    for index in range(900):
        for camera in ("line", "side"):
            health.accept(replace(frame(index, A), camera=camera))
    assert health.watch is None
    health.accept(ModelChanged("", 0.0, A, B, "ann"))
    cameras = ("line",) if is_lost else ("line", "side")
    for index in (*range(900, 905), *range(1350, 1600)):
        for camera in cameras:
            health.accept(replace(frame(index, B, opens=not is_lost and index % 30 == 0), camera=camera))
        assert not health.violation
        assert health.is_watching or index > 1560, "the pause is no watch"
        if index == 904:
            watch = health.watch
            assert watch is not None
            assert (watch.bundle, watch.of_s, watch.alarms) == (B.bundle, 900.0, 0 if is_lost else 2)
            assert 0 < watch.seconds < 60
            assert watch.most_alarms is not None
    assert not health.is_watching
    assert health.watch is None


def test_clocks_that_jump_change_nothing() -> None:
    """A source whose time jumps a day ahead or back is not taken for a day of frames, or for an end without a watch."""
    health = ModelHealth(["line"], ModelHealthConfig(watch_s=900.0))
    for index in range(400):
        health.accept(frame(index, A))
    for index in (86_800, 86_801, 300, 301):
        health.accept(frame(index, A))
    forecast = health._tally.forecast()
    assert forecast is not None
    assert forecast.seen_h == pytest.approx(1600 / 3600, rel=0.1)
