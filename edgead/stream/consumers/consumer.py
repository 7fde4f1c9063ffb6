"""What every sink offers."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from typing_extensions import Self

from edgead.stream.notices import Notice
from edgead.stream.result import Result

Item = Result | Notice


class Consumer(Protocol):
    """A consumer of results and notices; opened, used and closed on a thread of its own, behind a bounded queue.

    `lossless` sinks get every item that they want, even when the stream has to wait for them; the others miss
    results of a live source when they are slow, and the missed ones are counted.
    """

    name: str
    lossless: bool

    def wants(self, item: Item) -> bool:
        """Whether to queue this item; called on the inference thread, so it must be quick."""
        ...

    def accept(self, item: Item) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
