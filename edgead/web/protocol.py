"""HTTP connections of uvicorn with time limits for idle and slow clients."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from edgead.web.options import WebOptions

_GRACE_S = 1.0
# A dead peer is detected after a minute.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000))


def patient_protocol(options: WebOptions) -> type[H11Protocol]:
    """Make uvicorn's protocol with limits.

    Args:
        options: `patience_s` limits the time to send a request and the time without progress of an answer.
    """
    patience_s = options.patience_s

    class PatientProtocol(H11Protocol):
        _reading: asyncio.TimerHandle | None = None
        _writing: asyncio.TimerHandle | None = None
        waiting_since_s = 0.0

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.waiting_since_s = time.monotonic()

        @property
        def waits(self) -> int | None:
            """0 between requests, 1 while a request is arriving, None while it is answered."""
            if self.cycle is None or self.cycle.response_complete:
                return 0
            return 1 if self.cycle.more_body else None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            _watch_peer(transport)
            self._expect_request()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._expect_request()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.waiting_since_s = time.monotonic()
            self._expect_request()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._writing = self.loop.call_later(patience_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._writing = _stop(self._writing)

        def connection_lost(self, exc: Exception | None) -> None:
            self._reading, self._writing = _stop(self._reading), _stop(self._writing)
            super().connection_lost(exc)

        def shutdown(self) -> None:
            super().shutdown()
            # drop what the client has not read by then
            self.loop.call_later(_GRACE_S, self.transport.abort)

        def _expect_request(self) -> None:
            is_waiting = self.cycle is None or self.cycle.response_complete
            if not is_waiting:
                self._reading = _stop(self._reading)
            elif self._reading is None:
                self._reading = self.loop.call_later(patience_s, self.transport.abort)

    return PatientProtocol


def _watch_peer(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; returns None."""
    if timer is not None:
        timer.cancel()
    return None
