"""Entrance of the web server: limits that apply when a connection arrives, before TLS and before any request."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

from edgead.web.address import is_loopback

_LOG = logging.getLogger(__name__)

_AT_ONCE = 16
_MOST_LEAVING = 32
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BACK_OFF_S = 1.0
_TOLD_S = 60.0
_COUNTED_S = 0.25
# for images, clips, the database, cameras that reconnect and sinks
_KEPT_FREE = 96
_FEWEST = 8


class Visitor(Protocol):
    """What the entrance needs to know of an HTTP connection."""

    waiting_since_s: float

    @property
    def waits(self) -> int | None:
        """0 between requests, 1 while a request is arriving, None while it is answered."""


@dataclass(eq=False)
class _Guest:
    """A connection; without a visitor as long as the client has not sent anything."""

    connection: socket.socket
    address: str
    since_s: float
    timer: asyncio.TimerHandle | None = None
    visitor: Visitor | None = None

    @property
    def rank(self) -> tuple[int, float] | None:
        """Order of leaving: silent ones, those between requests, those with half a request; None while it is answered."""
        if self.visitor is None:
            return -1, self.since_s
        waits = self.visitor.waits
        return None if waits is None else (waits, self.visitor.waiting_since_s)


class Door:
    """Accepts connections of a listening socket.

    A client gets TLS and a protocol with its first byte; until then it costs a descriptor, for a limited time. Beyond the
    limit of connections, one that waits makes room, a silent one first, of the address that has the most: neither silent
    clients nor a flood keep out a health check of this machine. Closed at once are new connections beyond the share of
    their address, and those that would take descriptors which the alerts need.

    Args:
        listener: Listening socket, which does not block.
        make_visitor: Makes the protocol of a connection.
        tls: TLS context; None for plain HTTP.
        max_connections: Concurrent connections; other machines leave an eighth of them to this one.
        max_per_address: Concurrent connections of one other machine.
        silence_s: Limit of the time to the first byte, in seconds.
        handshake_s: Limit of the TLS handshake, in seconds.
        is_proxy: Whether an address may have as many connections as this machine, because many clients share it.
        descriptors: Returns the number of free file descriptors.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_visitor: Callable[[], asyncio.Protocol],
        tls: SSLContext | None,
        *,
        max_connections: int,
        max_per_address: int,
        silence_s: float,
        handshake_s: float,
        is_proxy: Callable[[str], bool] = lambda address: False,
        descriptors: Callable[[], int | None] | None = None,
    ) -> None:
        self._listener = listener
        self._make_visitor = make_visitor
        self._tls = tls
        self._max = max_connections
        self._max_per_address = max_per_address
        self._silence_s = silence_s
        self._handshake_s = handshake_s
        self._is_proxy = is_proxy
        self._free_descriptors = descriptors or free_descriptors
        self._guests: set[_Guest] = set()
        self._leaving: set[_Guest] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare: int | None = None
        self._room = (0.0, max_connections)
        self._n_refused = 0
        self._told_s = -_TOLD_S
        self._is_exhausted = False
        self._is_closed = False

    def open(self) -> None:
        """Begin to accept, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._listen()

    def close(self) -> None:
        """Accept no more; connections go on."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        for guest in [guest for guest in self._guests if guest.visitor is None]:
            self._show_out(guest)

    async def wait_closed(self) -> None:
        """Wait for handshakes that were cut off."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept_some)

    def _accept_some(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._turn_away(error)
                return
            if self._is_exhausted:
                self._is_exhausted = False
                _LOG.warning("The dashboard accepts connections again")
            if self._admit(str(address[0])):
                self._welcome(connection, str(address[0]))
            else:
                connection.close()

    def _turn_away(self, error: OSError) -> None:
        """Close the oldest connection in the queue with the spare descriptor, then pause: the queue stays readable."""
        if not self._is_exhausted:
            self._is_exhausted = True
            _LOG.error(
                "The dashboard cannot accept connections: %s. Raise the limit of open files (ulimit -n, LimitNOFILE=).",
                error.strerror,
            )
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
            with suppress(OSError):
                self._listener.accept()[0].close()
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)
        self._loop.remove_reader(self._listener)
        self._loop.call_later(_BACK_OFF_S, self._listen)

    def _welcome(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        guest = _Guest(connection, address, time.monotonic())
        guest.timer = self._loop.call_later(self._silence_s, self._show_out, guest)
        self._guests.add(guest)
        self._loop.add_reader(connection, self._begin, guest)

    def _begin(self, guest: _Guest) -> None:
        """Make the protocol of a client that has sent something, or has gone."""
        self._forget(guest)
        visitor = self._make_visitor()
        guest.visitor = visitor  # type: ignore[assignment]
        task = self._loop.create_task(self._introduce(guest, visitor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _introduce(self, guest: _Guest, visitor: asyncio.Protocol) -> None:
        limit_s = None if self._tls is None else self._handshake_s
        try:
            await self._loop.connect_accepted_socket(
                lambda: visitor, guest.connection, ssl=self._tls, ssl_handshake_timeout=limit_s
            )
        except (OSError, asyncio.CancelledError):  # also an SSLError and a handshake that took too long
            guest.connection.close()

    def _show_out(self, guest: _Guest) -> None:
        self._guests.discard(guest)
        if guest.visitor is None:
            self._forget(guest)
            guest.connection.close()
            return
        # its transport notices in the next turn of the loop
        self._leaving.add(guest)
        with suppress(OSError):
            guest.connection.shutdown(socket.SHUT_RDWR)

    def _forget(self, guest: _Guest) -> None:
        self._loop.remove_reader(guest.connection)
        if guest.timer is not None:
            guest.timer.cancel()

    # Admission

    def _admit(self, address: str) -> bool:
        self._guests = {guest for guest in self._guests if guest.connection.fileno() >= 0}
        self._leaving = {guest for guest in self._leaving if guest.connection.fileno() >= 0}
        counts = Counter(guest.address for guest in self._guests)
        own = is_loopback(address)
        if not own and not self._is_proxy(address) and counts[address] >= self._max_per_address:
            return self._refuse(address, f"{counts[address]} of it are open")
        limit = self._limit()
        if len(self._guests) < (limit if own else limit - limit // 8):
            return True
        # others make room only for an address that then still has fewer connections
        most = [one for one, n in counts.most_common() if n > counts[address] + 1 or (own and one == address)]
        victim = self._longest_waiting(most)
        if victim is None or len(self._leaving) >= _MOST_LEAVING:
            return self._refuse(address, f"{len(self._guests)} are open")
        self._show_out(victim)
        return True

    def _longest_waiting(self, addresses: list[str]) -> _Guest | None:
        for address in addresses:
            guests = [guest for guest in self._guests if guest.address == address]
            waiting = [(rank, guest) for guest in guests if (rank := guest.rank) is not None]
            if waiting:
                return min(waiting, key=lambda one: one[0])[1]
        return None

    def _limit(self) -> int:
        """Connections for which there are descriptors; an answer may need another one for its file."""
        now_s = time.monotonic()
        if now_s - self._room[0] > _COUNTED_S:
            free = self._free_descriptors()
            room = self._max if free is None else len(self._guests) + (free - _KEPT_FREE) // 2
            self._room = (now_s, max(_FEWEST, min(self._max, room)))
        return self._room[1]

    def _refuse(self, address: str, reason: str) -> bool:
        self._n_refused += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= _TOLD_S:
            self._told_s = now_s
            text = "The dashboard closed %d connection%s at once, the last one from %s: %s"
            _LOG.warning(text, self._n_refused, "" if self._n_refused == 1 else "s", address, reason)
            self._n_refused = 0
        return False


def free_descriptors() -> int | None:
    """Number of file descriptors that this process may still open; None if it is unknown."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return None if limit == resource.RLIM_INFINITY else limit - len(os.listdir("/proc/self/fd"))
    except (ImportError, OSError):
        return None
