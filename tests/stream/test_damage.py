"""Camera fault of damaged frames, and that they are not judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from edgead.stream.damage import DamageMonitor
from edgead.stream.frame import Frame
from edgead.stream.notices import FaultBegan, FaultEnded, UnjudgedFrame
from edgead.stream.pipeline import run_stream

from .fakes import BAD, GOOD, OPTIONS, CollectingConsumer, ListSource, camera, plain, scorer


def faults(damaged: list[bool], interval_s: float = 0.25) -> list[str | None]:
    monitor = DamageMonitor()
    return [monitor.observe(50 + index * interval_s, "a packet" if bad else "") for index, bad in enumerate(damaged)]


def test_one_loss_is_no_fault() -> None:
    """Frames that are damaged for a second once in a while are left out without a word."""
    assert not any(faults(([True] * 4 + [False] * 60) * 5))


def test_damage_that_lasts_or_comes_often_is_a_fault() -> None:
    """Two seconds of damage within ten are a fault, in one piece or in many, until none came for five seconds."""
    found = faults([True] * 20 + [False] * 40)
    assert found[7] is None
    assert found[8] is not None
    assert "a packet" in found[8]
    assert [fault is not None for fault in found[20:]] == [True] * 20 + [False] * 20
    assert any(faults(([True] * 2 + [False] * 6) * 10))


class Damaged(ListSource):
    """A live source whose frames from 5 to 24 are damaged, and look like a defect."""

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        start_s = time.monotonic()
        for index in range(60):
            is_damaged = 5 <= index < 25
            yield Frame(
                plain(BAD if is_damaged else GOOD), index, start_s + index * 0.2, self.name,
                damage="packets are lost" if is_damaged else "",
            )  # fmt: skip
            stop.wait(0.005)


def test_damaged_frames_are_reported_and_not_judged() -> None:
    """The stream says when frames are damaged and when they are whole again, judges none of them, and raises no alert."""
    consumer = CollectingConsumer()
    source = Damaged([], live=True)
    summary = run_stream([camera(source)], scorer(), [consumer], OPTIONS, stop=threading.Event())
    judged = {result.frame.index for result in consumer.results}
    assert not judged & set(range(5, 25))
    assert (summary.n_anomalous, summary.n_alerts) == (0, 0)
    assert summary.n_unjudged > 0
    assert any(isinstance(notice, UnjudgedFrame) for notice in consumer.notices)
    (began,) = [notice for notice in consumer.notices if isinstance(notice, FaultBegan)]
    assert (began.fault, "packets are lost" in began.message) == ("damaged", True)
    (ended,) = [notice for notice in consumer.notices if isinstance(notice, FaultEnded)]
    # whole frames are judged before the fault is over
    assert judged & set(range(25, ended.frame.index))
