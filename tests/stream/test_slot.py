"""Hand-over between threads: nothing lost in silence, nobody left waiting."""

from __future__ import annotations

import threading

import pytest

from edgead.stream.slot import Slot

pytestmark = pytest.mark.timeout(20)


def test_newest_wins_and_drops_are_counted() -> None:
    """A live slot keeps the newest item and counts every replaced one."""
    slot: Slot[int] = Slot(1, newest_wins=True)
    assert all(slot.put(item) for item in range(5))
    assert slot.take() == 4
    assert slot.dropped == 4


def test_a_full_picture_queue_drops_the_oldest() -> None:
    """With room for two, the two newest items stay, in order."""
    slot: Slot[int] = Slot(2, newest_wins=True)
    for item in range(5):
        slot.put(item)
    assert [slot.take(), slot.take()] == [3, 4]
    assert slot.dropped == 3


def test_full_queue_blocks_until_taken() -> None:
    """A lossless slot makes the producer wait, and every item arrives in order."""
    slot: Slot[int] = Slot(2, newest_wins=False)

    def produce() -> None:
        for item in range(20):
            slot.put(item)
        slot.close()

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    taken = []
    while (item := slot.take()) is not None:
        taken.append(item)
    producer.join(5)
    assert taken == list(range(20))
    assert slot.dropped == 0


@pytest.mark.parametrize("end", ["close", "abandon"])
def test_ending_wakes_a_blocked_producer(end: str) -> None:
    """A producer on a full slot returns False as soon as the slot is closed, without its item being taken."""
    slot: Slot[int] = Slot(1, newest_wins=False)
    slot.put(1)
    answers: list[bool] = []
    producer = threading.Thread(target=lambda: answers.append(slot.put(2)), daemon=True)
    producer.start()
    getattr(slot, end)()
    producer.join(5)
    assert answers == [False]
    assert slot.take() == (1 if end == "close" else None)


def test_ending_wakes_a_waiting_consumer() -> None:
    """A consumer of an empty slot gets None as soon as the slot is closed."""
    slot: Slot[int] = Slot(1, newest_wins=True)
    answers: list[int | None] = []
    consumer = threading.Thread(target=lambda: answers.append(slot.take()), daemon=True)
    consumer.start()
    slot.close()
    consumer.join(5)
    assert answers == [None]
