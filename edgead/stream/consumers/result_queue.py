"""Judged frames for a loop on another thread."""

from __future__ import annotations

from collections.abc import Iterator

from edgead.contexts import OwnsNothing
from edgead.stream.consumers.consumer import Item
from edgead.stream.result import FrameResult
from edgead.stream.slot import Slot


class ResultQueue(OwnsNothing):
    """A consumer that another thread takes results from.

    A slow loop holds up a source that can wait, such as a file. Of a live source it misses frames, which the stream counts.
    """

    name = "results"
    lossless = False

    def __init__(self) -> None:
        self._slot: Slot[FrameResult] = Slot(1, newest_wins=False)

    def wants(self, item: Item) -> bool:
        return isinstance(item, FrameResult) and not item.is_repeat

    def accept(self, item: Item) -> None:
        assert isinstance(item, FrameResult)
        self._slot.put(item)

    def close(self) -> None:
        """End the loop after the results that are waiting; nothing more is taken."""
        self._slot.close()

    def abandon(self) -> None:
        """Throw away what is waiting, because the loop was left."""
        self._slot.abandon()

    def results(self) -> Iterator[FrameResult]:
        """Results in order, until the queue is closed."""
        while (result := self._slot.take()) is not None:
            yield result
