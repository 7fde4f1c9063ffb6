"""Protocol of sinks, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from typing_extensions import Self

from edgead.errors import EdgeadError
from edgead.stream.spool.events import StoredEvent


class DeliveryError(EdgeadError):
    """The receiver did not confirm (retry later).

    Attributes:
        n_delivered: Number of confirmed events, counted from the first.
        retry_after_s: Pause that the receiver asks for, in seconds.
    """

    def __init__(self, message: str, *, n_delivered: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.n_delivered = n_delivered
        self.retry_after_s = retry_after_s


class RefusedError(DeliveryError):
    """The receiver permanently rejects the event after the confirmed ones (do not retry)."""


class Sink(Protocol):
    """A receiver of events, used by one thread. Entering must not require the receiver to be reachable.

    A subclass that has nothing to open, keep alive or close needs `deliver` alone.
    """

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        """Deliver events in order; return when the receiver has confirmed all of them.

        Raises:
            RefusedError: If it permanently rejects the first unconfirmed event.
            DeliveryError: If it does not confirm for any other reason.
        """
        ...

    def keep_alive(self) -> None:
        """Maintain the connection while there is nothing to deliver; called about once a second.

        Raises:
            DeliveryError: If the receiver cannot be reached.
        """
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return
