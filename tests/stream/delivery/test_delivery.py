"""Every event reaches every sink, in order, under one key, whatever happens to sinks and processes."""

from __future__ import annotations

import logging
import random
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import ConfigError
from edgead.stream.delivery.back_off import MAX_ASKED_S, BackOff
from edgead.stream.delivery.delivery import Delivery
from edgead.stream.delivery.sink import DeliveryError, RefusedError
from edgead.stream.delivery.worker import MIN_REFUSALS
from edgead.stream.spool.database import DATABASE
from edgead.stream.spool.events import StoredEvent
from edgead.stream.spool.spool import Spool

from ..spool.builders import opened, plain_event, spool
from .receivers import ListSink, first_of_each, options, wait_until


def delivery(target: Spool, *sinks: ListSink, drain_s: float = 5.0) -> Delivery:
    return Delivery(
        target, [(options(f"sink {n}"), sink) for n, sink in enumerate(sinks)], drain_s=drain_s, first_pause_s=0.01
    )


def test_events_arrive_in_order_while_they_are_appended(tmp_path: Path) -> None:
    """At every sink, within moments, and the depths go back to 0."""
    first, second = ListSink(), ListSink()
    with spool(tmp_path) as target, delivery(target, first, second):
        for number in range(30):
            target.append(plain_event(str(number)))
        wait_until(lambda: len(first.got) == len(second.got) == 30)
        assert first.numbers == second.numbers == list(range(1, 31))
        wait_until(lambda: target.depths() == {"sink 0": 0, "sink 1": 0})
        wait_until(lambda: first.n_tended > 0)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """Nothing twice and nothing lost over an orderly restart."""
    for turn in range(3):
        sink = ListSink()
        with spool(tmp_path) as target, delivery(target, sink):
            for _ in range(5):
                target.append(plain_event())
        assert sink.numbers == list(range(5 * turn + 1, 5 * turn + 6))


@pytest.mark.parametrize(("from_beginning", "expected"), [(True, [1, 2, 3]), (False, [3])])
def test_where_a_new_sink_begins(tmp_path: Path, from_beginning: bool, expected: list[int]) -> None:
    """A new sink starts with all retained events or the next one; a known sink continues whatever is set."""
    with spool(tmp_path) as target:
        target.append(plain_event())
        target.append(plain_event())
        sink = ListSink()
        with Delivery(target, [(options(from_beginning=from_beginning), sink)], drain_s=5.0):
            target.append(plain_event())
            wait_until(lambda: sink.got)
        assert sink.numbers == expected
    with spool(tmp_path) as target:
        target.append(plain_event())
        sink = ListSink()
        with Delivery(target, [(options(from_beginning=not from_beginning), sink)], drain_s=5.0):
            wait_until(lambda: sink.got)
        assert sink.numbers == [4]


def test_a_slow_disk_is_not_a_dead_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving waits for a sink whose receiver has confirmed while its position is still being saved."""
    with spool(tmp_path) as target:
        advance = target.cursors.advance

        def slowly(*arguments: Any) -> None:
            if sink.numbers == [1]:
                target.append(plain_event())
                saving.set()
                time.sleep(1.5)
            advance(*arguments)

        monkeypatch.setattr(target.cursors, "advance", slowly)
        sink, saving = ListSink(), threading.Event()
        target.append(plain_event())
        with delivery(target, sink):
            assert saving.wait(60)
        assert sink.numbers == [1, 2]


def test_a_dead_sink_does_not_delay_others(tmp_path: Path) -> None:
    """One hangs, one always fails: the third gets everything, appending is not slower, and leaving ends in time."""
    release = threading.Event()

    def hang(events: Sequence[StoredEvent]) -> None:
        release.wait(120)

    def fail(events: Sequence[StoredEvent]) -> Exception:
        return DeliveryError("down")

    hanging, failing, working = ListSink(hang), ListSink(fail), ListSink()
    with spool(tmp_path) as target:
        start_s = time.monotonic()
        with delivery(target, hanging, failing, working, drain_s=0.3) as delivering:
            for _ in range(50):
                target.append(plain_event())
            wait_until(lambda: len(working.got) == 50)
            states = {health.name: health for health in delivering.health()}
            assert (states["sink 1"].is_ok, states["sink 1"].last_error) == (False, "down")
            assert states["sink 1"].next_try_s is not None
            assert states["sink 0"].n_waiting == states["sink 1"].n_waiting == 50
            assert (states["sink 2"].is_ok, states["sink 2"].n_delivered, states["sink 2"].n_waiting) == (True, 50, 0)
        assert time.monotonic() - start_s < 60
        release.set()
        wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("edgead sink")])


Step = tuple[str, int]


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.sampled_from(["ok", "down", "bug", "refuse", "restart"]), st.integers(0, 4)), max_size=8),
    st.integers(1, 25),
)
def test_random_outages_lose_nothing(steps: list[Step], n_events: int) -> None:
    """Whatever a sink does and however often the process restarts: all keys arrive, first arrivals in order.

    Refusals here never last long enough for an event to be set aside.
    """
    left = list(steps)
    lock = threading.Lock()
    restart = threading.Event()

    def play(events: Sequence[StoredEvent]) -> Exception | None:
        with lock:
            what, n = left.pop(0) if left else ("ok", 0)
        n = min(n, len(events) - 1)
        if what == "restart":
            restart.set()
        if what in ("down", "restart"):
            return DeliveryError("down", n_delivered=n)
        if what == "refuse":
            return RefusedError("no", n_delivered=n)
        return ValueError("a bug") if what == "bug" else None

    got: list[str] = []
    keys: list[str] = []
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            appended = 0
            for _ in range(len(steps) + 1):
                restart.clear()
                sink = ListSink(play)
                with spool(Path(folder)) as target:
                    chosen = options(give_up_s=60.0, retry_max_s=0.002)
                    with Delivery(target, [(chosen, sink)], drain_s=0.0, first_pause_s=0.001):
                        while appended < n_events:
                            target.append(plain_event())
                            appended += 1
                        wait_until(lambda: restart.is_set() or target.depths()["sink"] == 0)
                    got += [each.key for each in sink.got]
                    keys = [each.key for each in target.events(limit=1000)]
                    if target.depths()["sink"] == 0:
                        break
    finally:
        logging.disable(logging.NOTSET)
    assert first_of_each(got) == keys
    assert len(keys) == n_events


def test_a_poison_event_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A permanently rejected event is tried a few times, then moved to the dead letters and logged; later events are delivered."""
    attempts: list[int] = []

    def refuse_third(events: Sequence[StoredEvent]) -> Exception | None:
        for index, each in enumerate(events):
            if each.sequence == 3:
                attempts.append(index)
                return RefusedError("400 bad at mqtt://u:geheim@x", n_delivered=index)
        return None

    sink = ListSink(refuse_third)
    with caplog.at_level(logging.ERROR), spool(tmp_path) as target, delivery(target, sink) as delivering:
        for _ in range(6):
            target.append(opened())
        wait_until(lambda: len(sink.got) == 5)
        assert sink.numbers == [1, 2, 4, 5, 6]
        assert len(attempts) == MIN_REFUSALS
        (letter,) = target.cursors.dead_letters()
        assert (letter["sink"], letter["sequence"]) == ("sink 0", 3)
        assert "400 bad" in letter["reason"]
        assert '"sequence":3' in letter["payload"]
        assert "moved to the dead letters" in caplog.text
        assert target.events()[2].key in caplog.text
        assert "geheim" not in caplog.text + letter["reason"]
        wait_until(lambda: delivering.health()[0].is_ok)
        assert delivering.health()[0].n_set_aside == 1


def test_refusals_are_not_given_up_early(tmp_path: Path) -> None:
    """Before `give_up_s` nothing is set aside, however often it was refused: perhaps the receiver is being updated."""
    count = [0]

    def refuse_for_a_while(events: Sequence[StoredEvent]) -> Exception | None:
        count[0] += 1
        return RefusedError("422") if count[0] < 3 * MIN_REFUSALS else None

    sink = ListSink(refuse_for_a_while)
    with spool(tmp_path) as target:
        sinks = [(options(give_up_s=30.0, retry_max_s=0.01), sink)]
        with Delivery(target, sinks, drain_s=5.0, first_pause_s=0.001):
            target.append(plain_event())
            wait_until(lambda: sink.got)
        assert target.cursors.dead_letters() == []


def test_an_outage_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not at every attempt; the end is said too, and secrets are not."""
    down = [True]

    def play(events: Sequence[StoredEvent]) -> Exception | None:
        return DeliveryError("no route to mqtt://ada:geheim@broker") if down[0] else None

    sink = ListSink(play)
    with caplog.at_level(logging.WARNING), spool(tmp_path) as target, delivery(target, sink) as delivering:
        target.append(plain_event())
        wait_until(lambda: not delivering.health()[0].is_ok)
        time.sleep(0.3)
        down[0] = False
        wait_until(lambda: sink.got)
        wait_until(lambda: delivering.health()[0].is_ok)
        health = delivering.health()[0]
    assert health.next_try_s is None
    assert caplog.text.count("does not deliver") == 1
    assert caplog.text.count("delivers again") == 1
    assert "no route" in health.last_error
    assert "geheim" not in caplog.text + health.last_error


def test_a_sink_that_breaks_is_entered_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a sink ends neither the stream nor the sink."""
    count = [0]

    def break_twice(events: Sequence[StoredEvent]) -> Exception | None:
        count[0] += 1
        return ZeroDivisionError("oops") if count[0] < 3 else None

    sink = ListSink(break_twice)
    with caplog.at_level(logging.ERROR), spool(tmp_path) as target, delivery(target, sink):
        target.append(plain_event())
        wait_until(lambda: sink.got)
    assert sink.n_entered == 3
    assert "ZeroDivisionError" in caplog.text


def test_what_is_there_at_the_end_is_still_delivered(tmp_path: Path) -> None:
    """Leaving waits for working sinks; one in a long pause gets one more attempt."""
    is_down = [True]

    def fail_once(events: Sequence[StoredEvent]) -> Exception | None:
        was_down, is_down[0] = is_down[0], False
        return DeliveryError("down") if was_down else None

    sink, pausing = ListSink(), ListSink(fail_once)
    with spool(tmp_path) as target:
        sinks = [(options("a"), sink), (options("b", retry_max_s=60.0), pausing)]
        with Delivery(target, sinks, drain_s=90.0, first_pause_s=60.0) as delivering:
            target.append(plain_event())
            wait_until(lambda: not delivering.health()[1].is_ok)
            for _ in range(100):
                target.append(plain_event())
            assert pausing.got == []
            start_s = time.monotonic()
        assert time.monotonic() - start_s < 30
        assert len(sink.got) == len(pausing.got) == 101


def test_two_sinks_need_two_names(tmp_path: Path) -> None:
    """Their places in the history would be mixed up."""
    with spool(tmp_path) as target, pytest.raises(ConfigError, match="Two sinks have the name 'x'"):
        Delivery(target, [(options("x"), ListSink()), (options("x"), ListSink())], drain_s=1.0)


def test_a_full_disk_does_not_stop_delivery(tmp_path: Path) -> None:
    """The cursor cannot be saved: memory knows it, nothing comes twice, and it is saved when there is room again."""
    gate = threading.Event()

    def wait(events: Sequence[StoredEvent]) -> None:
        gate.wait(10)

    sink = ListSink(wait)
    with spool(tmp_path) as target, delivery(target, sink):
        for _ in range(20):
            target.append(plain_event())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / f"{DATABASE}-wal").stat().st_size, hard))
        try:
            gate.set()
            wait_until(lambda: len(sink.got) == 20)
            time.sleep(0.1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        target.append(plain_event())
        wait_until(lambda: len(sink.got) == 21)
        assert sink.numbers == list(range(1, 22))
    with spool(tmp_path) as target:
        assert target.begin("sink 0", from_beginning=True) == 21


@pytest.mark.parametrize("max_s", [0.5, 60.0])
def test_pauses_grow_to_a_limit(max_s: float) -> None:
    """Doubling, shortened by chance to no less than half, never above the limit, and small again after a success."""
    random.seed(1)
    back_off = BackOff(max_s)
    pauses = [back_off.next_s() for _ in range(2000)]
    for number, pause in enumerate(pauses[:40]):
        whole = min(1.0 * 2**number, max_s)
        assert whole / 2 <= pause <= whole
    assert max(pauses) <= max_s
    back_off.reset()
    assert back_off.next_s() <= min(1.0, max_s)


def test_a_receiver_may_ask_for_time() -> None:
    """The pause is at least as long as the receiver asks, up to a limit."""
    back_off = BackOff(1.0)
    assert back_off.next_s(30.0) == 30.0
    assert back_off.next_s(1e9) == MAX_ASKED_S
    assert back_off.next_s(0.0) > 0


def test_the_end_does_not_wait_for_a_receiver_that_never_answered(tmp_path: Path) -> None:
    """A sink that hangs in its first attempt loses nothing by it: its events stay in the spool."""
    release = threading.Event()

    def hang(events: Sequence[StoredEvent]) -> Exception | None:
        release.wait(120)
        return None

    with spool(tmp_path) as target:
        target.append(opened(1))
        with delivery(target, ListSink(hang), drain_s=90.0):
            time.sleep(0.1)
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 30
        assert target.depths() == {"sink 0": 1}
        release.set()
        for thread in threading.enumerate():
            if thread.name == "edgead sink 0":
                thread.join(5)
