"""HTTP connections that do not wait for ever: uvicorn's own, with limits for clients that say or take nothing."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from uvicorn.protocols.http.h11_impl import H11Protocol

_GRACE_S = 1.0
# A peer that is gone without a word is found out after a minute.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000))


def patient_protocol(patience_s: float, max_connections: int) -> type[H11Protocol]:
    """Uvicorn's protocol with limits.

    Args:
        patience_s: How long a request's head may take, and how long a client may take nothing of an answer.
        max_connections: Beyond it new connections are closed at once.
    """

    class PatientProtocol(H11Protocol):
        _reading: asyncio.TimerHandle | None = None
        _writing: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                transport.abort()
                return
            _watch_peer(transport)
            self._expect_request()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._expect_request()

        def on_response_complete(self) -> None:
            super().on_response_complete()
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
            # what has not been taken by then is not wanted
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
    """Cancels a timer; what is left of it is None."""
    if timer is not None:
        timer.cancel()
    return None
