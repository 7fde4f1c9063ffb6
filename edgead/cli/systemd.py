"""Notifications to systemd: ready, heartbeat, status line. Without systemd nothing happens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

# systemd recommends sending the heartbeat at half the requested interval
_SHARE_OF_INTERVAL = 0.5


class ServiceManager:
    """Sender of the protocol of `sd_notify(3)`: datagrams to the socket named by the service manager.

    Args:
        environment: Environment variables: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` where a watchdog is requested.
        clock: Clock, monotonic seconds.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        environment = os.environ if environment is None else environment
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._interval_s = _interval_s(environment)
        self._clock = clock
        self._alive_s: float | None = None
        self._status = ""
        self._is_ready = False

    @property
    def is_there(self) -> bool:
        return self._address is not None

    def ready(self) -> None:
        """Report that the service is working; sent once."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1")

    def alive(self, status: str) -> None:
        """Send a heartbeat and the status; may be called often, sends when the watchdog needs it or the status changes."""
        now_s = self._clock()
        lines = []
        if self._interval_s is not None and (self._alive_s is None or now_s - self._alive_s >= self._interval_s):
            self._alive_s = now_s
            lines.append("WATCHDOG=1")
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._send("\n".join(lines))

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto(text.encode(), self._address)
        except OSError:
            # A missing service manager must not stop the stream.
            return


def _address(name: str) -> str | None:
    if not name.startswith(("/", "@")):
        return None
    return "\0" + name[1:] if name[0] == "@" else name


def _interval_s(environment: Mapping[str, str]) -> float | None:
    try:
        wanted_us = int(environment.get("WATCHDOG_USEC", ""))
        pid = int(environment.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return wanted_us * 1e-6 * _SHARE_OF_INTERVAL if wanted_us > 0 and pid == os.getpid() else None
