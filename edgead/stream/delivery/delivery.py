"""All sinks of a stream, each on its own thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from typing_extensions import Self

from edgead.errors import ConfigError
from edgead.stream.delivery.back_off import FIRST_S
from edgead.stream.delivery.sink import Sink
from edgead.stream.delivery.worker import SinkHealth, SinkOptions, Worker
from edgead.stream.spool.spool import Spool

_JOIN_S = 1.0
_LOOK_S = 0.05


class Delivery:
    """Delivers the spool's events to every sink, at least once, in order, under one key; a context manager.

    Sinks are independent: a slow or dead one does not delay the others. Undelivered events stay in the spool, for this
    process and the next. On exit, working sinks get a little time to deliver the last events; one that cannot reach its
    receiver is not waited for.

    Args:
        spool: Open spool; it must be closed after this object.
        sinks: Options of each sink, and the sink, not yet entered.
        drain_s: Time limit for the last deliveries on exit, in seconds.
        first_pause_s: Pause after a sink's first failure, in seconds; it doubles from there.

    Raises:
        ConfigError: If two sinks have the same name.
        StorageError: From `__enter__`, if the cursors cannot be read.
    """

    def __init__(
        self,
        spool: Spool,
        sinks: Sequence[tuple[SinkOptions, Sink]],
        *,
        drain_s: float,
        first_pause_s: float = FIRST_S,
    ) -> None:
        names = [options.name for options, _ in sinks]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"Two sinks have the name {name!r}; names must be unique, because each sink's position in the history "
                    "is stored under its name.",
                    hint="Set different names in the configuration: name: ...",
                )
        self._spool = spool
        self._sinks = sinks
        self._drain_s = drain_s
        self._first_pause_s = first_pause_s
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        self._workers = [
            Worker(self._spool, sink, options, first_pause_s=self._first_pause_s) for options, sink in self._sinks
        ]
        for worker in self._workers:
            worker.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.close(self._drain_s)
        began_s = time.monotonic()
        for worker in self._workers:
            while worker.thread.is_alive():
                limit_s = _JOIN_S + (self._drain_s if worker.is_working else 0.0)
                if time.monotonic() - began_s > limit_s:
                    break
                worker.thread.join(_LOOK_S)

    def health(self) -> list[SinkHealth]:
        """Health of all sinks, in the order of the configuration."""
        return [worker.health() for worker in self._workers]
