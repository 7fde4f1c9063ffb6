"""Context managers for resources that are none, and for processes that outlive a stop signal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from typing_extensions import Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OwnsNothing:
    """Context manager that frees nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Block the stop signals on this thread; a process that starts meanwhile inherits that from its first moment on.

    A terminal or a service manager often sends them to every process of a stream.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
