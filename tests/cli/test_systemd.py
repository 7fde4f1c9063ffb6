"""The service manager's protocol on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgead.cli.systemd import ServiceManager

from ..stream.fakes import ManualClock


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def heard(listener: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(listener.recv(4096).decode())
        except BlockingIOError:
            return said


def environment(listener: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": listener.getsockname(), **more}


def test_ready_alive_and_stopping_are_said(listener: socket.socket) -> None:
    """READY once; the watchdog at half its interval, however often `alive` is called; the status when it changes."""
    clock = ManualClock()
    manager = ServiceManager(environment(listener, WATCHDOG_USEC="10000000", WATCHDOG_PID=str(os.getpid())), clock)
    manager.ready()
    manager.ready()
    for second in range(12):
        manager.alive("ok" if second < 7 else "ALERT line")
        clock.now_s += 1.0
    manager.stopping()
    assert heard(listener) == [
        "READY=1", "WATCHDOG=1\nSTATUS=ok", "WATCHDOG=1", "STATUS=ALERT line", "WATCHDOG=1", "STOPPING=1"
    ]  # fmt: skip


def test_abstract_sockets_work() -> None:
    """A name that begins with @ is a socket without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        name = f"edgead-test-{os.getpid()}"
        receiver.bind("\0" + name)
        receiver.settimeout(2)
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).ready()
        assert receiver.recv(100) == b"READY=1"


@pytest.mark.parametrize("name", ["", "relative", "/nobody/listens/here"])
def test_without_a_service_manager_nothing_happens(name: str) -> None:
    """A socket that is missing, malformed or without a listener raises no error."""
    manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1"})
    manager.ready()
    manager.alive("ok")
    manager.stopping()
    assert manager.is_there == (name[:1] == "/")


@pytest.mark.parametrize("usec", ["", "soon", "0", "-5"])
def test_no_watchdog_is_fed_that_nobody_asked_for(listener: socket.socket, usec: str) -> None:
    """Without a valid interval, or with one meant for another process, there are no signs of life."""
    ServiceManager(environment(listener, WATCHDOG_USEC=usec)).alive("ok")
    ServiceManager(environment(listener, WATCHDOG_USEC="1000000", WATCHDOG_PID="1")).alive("ok")
    assert heard(listener) == ["STATUS=ok"] * 2
