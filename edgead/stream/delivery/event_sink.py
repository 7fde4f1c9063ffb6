"""What every sink of events offers."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from typing_extensions import Self

from edgead.errors import EdgeadError
from edgead.stream.spool.events import StoredEvent


class DeliveryError(EdgeadError):
    """A receiver that did not confirm: it is tried again later.

    Attributes:
        n_delivered: How many of the events, from the first, it did confirm.
        retry_after_s: How long it asks to be left alone.
    """

    def __init__(self, message: str, *, n_delivered: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.n_delivered = n_delivered
        self.retry_after_s = retry_after_s


class RefusedError(DeliveryError):
    """A receiver that will never take the event after those it confirmed, whatever the weather."""


class EventSink(Protocol):
    """A receiver of events, used by one thread. Entering does not need the receiver to be reachable.

    A subclass that has nothing to open, keep alive or close needs `deliver` alone.
    """

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        """Hand events over in order; returns when the receiver has confirmed them all.

        Raises:
            RefusedError: If it refuses the first unconfirmed event for good.
            DeliveryError: If it does not confirm, for any other reason.
        """
        ...

    def keep_alive(self) -> None:
        """Keep up what has to be kept up while there is nothing to deliver; about once a second.

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
