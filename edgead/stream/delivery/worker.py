"""Delivery thread of one sink: reads the spool after the cursor, delivers and retries."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from edgead.errors import StorageError
from edgead.redaction import redact_message
from edgead.stream.delivery.back_off import BackOff
from edgead.stream.delivery.sink import DeliveryError, RefusedError, Sink
from edgead.stream.spool.events import StoredEvent, iso
from edgead.stream.spool.spool import Spool

_LOG = logging.getLogger(__name__)

BATCH = 50
MIN_REFUSALS = 3
_IDLE_S = 1.0
_LOOK_S = 0.2


@dataclass(frozen=True)
class SinkHealth:
    """Health of a sink.

    Attributes:
        name, kind: Name and kind of the sink.
        is_ok: Whether the last attempt succeeded; True before the first.
        since: Start of the current state, UTC.
        last_error: Error of the last failed attempt, without secrets; kept after a success.
        next_try_s: Seconds until the next attempt; None while the sink works.
        n_waiting: Number of undelivered events.
        n_delivered: Number of events confirmed since the start.
        n_set_aside: Number of events permanently rejected since the start.
    """

    name: str
    kind: str
    is_ok: bool
    since: str
    last_error: str
    next_try_s: float | None
    n_waiting: int
    n_delivered: int
    n_set_aside: int


@dataclass(frozen=True)
class SinkOptions:
    """Delivery options of a sink.

    Attributes:
        name: Name under which the cursor is stored.
        kind: Kind, for display.
        from_beginning: Whether a new sink gets all retained events.
        retry_max_s: Longest pause between two attempts, in seconds.
        give_up_s: Seconds after which a permanently rejected event is set aside, after `MIN_REFUSALS` attempts at least.
    """

    name: str
    kind: str
    from_beginning: bool
    retry_max_s: float
    give_up_s: float


class Worker:
    """Delivers to one sink until it is closed.

    Errors and delays of one sink do not affect others. The cursor moves when the sink has confirmed: after a kill the sink
    may get events again, under the same keys.

    Args:
        spool: Open spool.
        sink: Sink, entered and used on the worker's thread only; entered again after an unexpected error.
        options: Delivery options.
        first_pause_s: Pause after a first failure, in seconds.
    """

    def __init__(self, spool: Spool, sink: Sink, options: SinkOptions, *, first_pause_s: float) -> None:
        self._spool = spool
        self._sink = sink
        self._options = options
        self._cursor = spool.begin(options.name, from_beginning=options.from_beginning)
        self._back_off = BackOff(options.retry_max_s, first_pause_s)
        self._closing = threading.Event()
        self._deadline_s = 0.0
        self._lock = threading.Lock()
        self._is_ok, self._since = True, _now()
        self._has_succeeded = False
        self._last_error = ""
        self._next_try_s: float | None = None
        self._n_delivered = self._n_set_aside = 0
        self._refused_key, self._n_refusals, self._refused_since_s = "", 0, 0.0
        self.thread = threading.Thread(target=self._run, name=f"edgead {options.name}", daemon=True)

    def close(self, drain_s: float) -> None:
        """Deliver remaining events for at most `drain_s` more, then end; does not wait."""
        self._deadline_s = time.monotonic() + drain_s
        self._closing.set()

    @property
    def is_working(self) -> bool:
        """Whether the last attempt succeeded; False until the receiver has first answered."""
        return self._is_ok and self._has_succeeded

    def health(self) -> SinkHealth:
        with self._lock:
            next_s = self._next_try_s
            return SinkHealth(
                name=self._options.name,
                kind=self._options.kind,
                is_ok=self._is_ok,
                since=self._since,
                last_error=self._last_error,
                next_try_s=None if next_s is None else round(max(next_s - time.monotonic(), 0.0), 1),
                n_waiting=self._spool.depths().get(self._options.name, 0),
                n_delivered=self._n_delivered,
                n_set_aside=self._n_set_aside,
            )

    # On the worker's thread

    def _run(self) -> None:
        while True:
            try:
                with self._sink as sink:
                    while not self._is_over():
                        self._round(sink)
                return
            except Exception as error:
                # a bug or a missing file in the sink must not affect anything else
                _LOG.exception("The sink %s raised an unexpected error", self._options.name)
                if self._pause(DeliveryError(f"{type(error).__name__}: {error}")):
                    return

    def _is_over(self) -> bool:
        return self._closing.is_set() and time.monotonic() > self._deadline_s

    def _round(self, sink: Sink) -> None:
        try:
            events = self._spool.events(self._cursor, BATCH)
            if events:
                sink.deliver(events)
                self._confirm(events)
            elif self._closing.is_set():
                self._deadline_s = 0.0
                return
            else:
                sink.keep_alive()
        except RefusedError as error:
            self._refused(events, error)
            return
        except DeliveryError as error:
            self._confirm(events[: error.n_delivered])
            self._pause(error)
            return
        except StorageError as error:
            self._pause(DeliveryError(f"The spool cannot be read: {error.message}"))
            return
        self._succeeded()
        if not events:
            self._wait()

    def _wait(self) -> None:
        until_s = time.monotonic() + _IDLE_S
        while not self._closing.is_set() and time.monotonic() < until_s:
            if self._spool.wait_for_events(self._cursor, _LOOK_S):
                return

    def _confirm(self, events: list[StoredEvent]) -> None:
        if not events:
            return
        self._cursor = events[-1].sequence
        self._back_off.reset()
        with self._lock:
            self._n_delivered += len(events)
            # before the cursor is saved: a slow disk does not make a sink that confirms look like one that hangs
            self._has_succeeded = True
        try:
            self._spool.cursors.advance(self._options.name, self._cursor)
        except StorageError as error:
            # the cursor in memory moves on; a restart would deliver these again, under the same keys
            _LOG.debug("The cursor of %s was not saved: %s", self._options.name, error)

    def _refused(self, events: list[StoredEvent], error: RefusedError) -> None:
        self._confirm(events[: error.n_delivered])
        event, now_s = events[error.n_delivered], time.monotonic()
        if event.key != self._refused_key:
            self._refused_key, self._n_refusals, self._refused_since_s = event.key, 0, now_s
        self._n_refusals += 1
        if self._n_refusals < MIN_REFUSALS or now_s - self._refused_since_s < self._options.give_up_s:
            self._pause(error)
            return
        reason = redact_message(error.message)
        try:
            self._spool.cursors.set_aside(self._options.name, event, reason)
        except StorageError as failure:
            self._pause(DeliveryError(failure.message))
            return
        _LOG.error(
            "%s permanently rejected the event %s (%s) in %d attempts: %s. It is moved to the dead letters.",
            self._options.name, event.key, event.kind, self._n_refusals, reason,
        )  # fmt: skip
        self._cursor = event.sequence
        with self._lock:
            self._n_set_aside += 1

    def _succeeded(self) -> None:
        self._back_off.reset()
        with self._lock:
            self._has_succeeded = True
            self._next_try_s = None
            if self._is_ok:
                return
            self._is_ok, self._since = True, _now()
        _LOG.warning("%s delivers again", self._options.name)

    def _pause(self, error: DeliveryError) -> bool:
        """Record a failure and wait; whether the worker should end."""
        message = redact_message(error.message)
        pause_s = self._back_off.next_s(error.retry_after_s)
        with self._lock:
            was_ok, self._is_ok = self._is_ok, False
            if was_ok:
                self._since = _now()
            self._last_error = message
            self._next_try_s = time.monotonic() + pause_s
        if was_ok:
            _LOG.warning(
                "%s does not deliver: %s. Delivery is retried until it succeeds.",
                self._options.name,
                message.rstrip("."),
            )
        if self._closing.is_set():
            # closing interrupts a pause for one last attempt; do not wait after it fails
            self._deadline_s = 0.0
            return True
        self._closing.wait(pause_s)
        return False


def _now() -> str:
    return iso(datetime.now(timezone.utc))
