"""Protocol of consumers."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, runtime_checkable

from typing_extensions import Self

from edgead.stream.notices import Notice
from edgead.stream.result import FrameResult

Item = FrameResult | Notice


class Consumer(Protocol):
    """A consumer of results and notices, opened, used and closed on its own thread behind a bounded queue.

    A `lossless` consumer gets every item that it wants, even if the stream has to wait; others miss results of a live
    source when they are slow, and missed results are counted.
    """

    name: str
    lossless: bool

    def wants(self, item: Item) -> bool:
        """Whether to queue this item; called on the inference thread, so it must be fast."""
        ...

    def accept(self, item: Item) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class WaitsForOthers(Protocol):
    """A consumer that may wait for work with a time limit of its own, such as the encoder of a clip."""

    @property
    def is_busy(self) -> bool:
        """Whether it waits for such work now, so that its silence is no hang."""
        ...
