"""A consumer with its queue and thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgead.stream.consumers.consumer import Consumer, Item
from edgead.stream.slot import Slot

# Pictures that a live stream's recorder or window may lag behind before the oldest is dropped.
PICTURE_QUEUE = 8
# Results that a live stream's lossless sink may lag behind; each holds a picture. Only then would the stream wait.
EVENT_QUEUE = 64


class Outlet:
    """Hands items to a sink on the sink's own thread.

    Args:
        sink: Not yet opened.
        queue_size: Items that it may lag behind.
        drops: Whether it misses items instead of holding the stream up.
        on_failure: Gets what the sink raises.
    """

    def __init__(
        self, sink: Consumer, *, queue_size: int, drops: bool, on_failure: Callable[[Exception], None]
    ) -> None:
        self.sink = sink
        self.slot: Slot[Item] = Slot(PICTURE_QUEUE if drops else queue_size, newest_wins=drops)
        self.n_delivered = 0
        self._on_failure = on_failure
        # Daemons: a thread that hangs in a driver must not keep the process alive after everybody has given up on it.
        self.thread = threading.Thread(target=self._deliver, name=f"edgead {sink.name}", daemon=True)

    def offer(self, item: Item) -> None:
        """Queue an item that the sink wants; waits for a lossless sink that is behind."""
        if self.sink.wants(item):
            self.slot.put(item)

    def _deliver(self) -> None:
        try:
            with self.sink as sink:
                while (item := self.slot.take()) is not None:
                    sink.accept(item)
                    self.n_delivered += 1
        except Exception as error:
            self._on_failure(error)
        self.slot.abandon()
