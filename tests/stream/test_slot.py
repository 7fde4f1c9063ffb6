"""Hand-over between threads: no silent loss and no thread left waiting."""

from __future__ import annotations

import threading
import time

import pytest

from edgead.stream.slot import Slot, take_each


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


def shared(*capacities: int) -> list[Slot[str]]:
    changed = threading.Condition()
    return [Slot(capacity, newest_wins=False, changed=changed) for capacity in capacities]


def test_one_item_of_each_is_taken_and_an_empty_slot_holds_up_nobody() -> None:
    """Every slot that has something gives its oldest; what waits longer comes with the next call."""
    first, empty, third = shared(2, 1, 1)
    for slot, item in ((first, "a"), (first, "b"), (third, "c")):
        slot.put(item)
    assert take_each([first, empty, third], timeout_s=30.0) == [(0, "a"), (2, "c")]
    assert take_each([first, empty, third], timeout_s=30.0) == [(0, "b")]
    assert take_each([first, empty, third], timeout_s=0.01) == []


def test_taking_wakes_for_any_slot_and_for_the_end() -> None:
    """A waiting consumer sees the first item of any slot, and does not wait for slots that are all closed."""
    slots = shared(1, 1)
    threading.Timer(0.05, lambda: slots[1].put("late")).start()
    assert take_each(slots, timeout_s=10.0) == [(1, "late")]
    for slot in slots:
        slot.close()
    assert take_each(slots, timeout_s=10.0) == []
    assert all(slot.is_finished for slot in slots)


def test_taking_makes_room_for_a_producer_that_waits() -> None:
    """Back-pressure goes on: the producer of a full slot goes on as soon as its item is taken."""
    (slot,) = shared(1)

    def produce() -> None:
        for item in range(400):
            slot.put(str(item))
        slot.close()

    producer = threading.Thread(target=produce, daemon=True)
    started = time.monotonic()
    producer.start()
    seen: list[str] = []
    while not slot.is_finished:
        seen += [item for _, item in take_each([slot])]
    producer.join(5)
    assert seen == [str(item) for item in range(400)]
    assert time.monotonic() - started < 20.0  # 40 s if the producer only looked by itself
