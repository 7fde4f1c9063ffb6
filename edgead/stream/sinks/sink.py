"""What every sink offers."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from typing_extensions import Self

from edgead.stream.result import Result


class Sink(Protocol):
    """A consumer of results; opened, used and closed on a thread of its own, behind a bounded queue.

    `lossless` sinks get every result that they want, even when the stream has to wait for them; the others miss
    results of a live source when they are slow, and the missed ones are counted.
    """

    name: str
    lossless: bool

    def wants(self, result: Result) -> bool:
        """Whether to queue this result; called on the inference thread, so it must be quick."""
        ...

    def accept(self, result: Result) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
