"""A consumer with its queue and thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgead.stream.consumers.consumer import Consumer, Item, WaitsForOthers
from edgead.stream.slot import Slot

# Queue length of a live stream's recorder or window; when it is full, the oldest result is dropped.
DRAWN_QUEUE = 8
# Queue length of a live stream's lossless consumer; each result holds a frame. When it is full, the stream waits.
EVENT_QUEUE = 64


class Outlet:
    """Passes items to a consumer on the consumer's own thread.

    Args:
        consumer: Unopened consumer.
        queue_size: Maximum number of waiting items; ignored if `drops` is set.
        drops: Whether a slow consumer misses items instead of blocking the stream.
        on_failure: Callback that receives the consumer's exception.
    """

    def __init__(
        self, consumer: Consumer, *, queue_size: int, drops: bool, on_failure: Callable[[Exception], None]
    ) -> None:
        self.consumer = consumer
        self.slot: Slot[Item] = Slot(DRAWN_QUEUE if drops else queue_size, newest_wins=drops)
        self.n_delivered = 0
        self._on_failure = on_failure
        # Daemon: a thread that hangs in a driver must not keep the process alive after the stream has given up on it.
        self.thread = threading.Thread(target=self._deliver, name=f"edgead {consumer.name}", daemon=True)

    @property
    def is_busy(self) -> bool:
        """Whether the consumer waits for work with a time limit of its own."""
        return isinstance(self.consumer, WaitsForOthers) and self.consumer.is_busy

    def offer(self, item: Item) -> None:
        """Queue an item if the consumer wants it; waits while a lossless consumer's queue is full."""
        if self.consumer.wants(item):
            self.slot.put(item)

    def _deliver(self) -> None:
        try:
            with self.consumer as consumer:
                while (item := self.slot.take()) is not None:
                    consumer.accept(item)
                    self.n_delivered += 1
        except Exception as error:
            self._on_failure(error)
        self.slot.abandon()
