"""A served stream for each test, and the check that nothing of it is left."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra web is not installed")
pytest.importorskip("starlette", reason="the extra web is not installed")

from edgead.web.address import Address
from edgead.web.options import WebOptions
from edgead.web.running_stream import RunningStream
from edgead.web.server import WebServer

from .parts import Browser, MemoryStore, known_token, make_stream, until

_SHARED: list[WebServer] = []


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunningStream:
    """A stream that says nothing by itself; it counts as stalled after ten minutes, longer than any pause of the machine."""
    monkeypatch.setattr("edgead.web.health.SILENT_S", 600.0)
    return make_stream(tmp_path)


@pytest.fixture
def store(stream: RunningStream) -> MemoryStore:
    assert isinstance(stream.store, MemoryStore)
    return stream.store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """One for the tests of a module that do not care about its start and end."""
    before, files = set(threading.enumerate()), n_files()
    stream = make_stream(tmp_path_factory.mktemp("stream"))
    with WebServer(Address("127.0.0.1", 0), stream, known_token(), WebOptions()) as server:
        _SHARED.append(server)
        yield server
        _SHARED.remove(server)
    assert until(lambda: set(threading.enumerate()) <= before), threading.enumerate()
    assert until(lambda: n_files() <= files), os.listdir("/proc/self/fd")


@pytest.fixture
def browser(stream: RunningStream, server: WebServer) -> Browser:
    """The shared server with this test's stream, without sessions, counted requests or pictures of earlier ones."""
    fresh = WebServer(Address("127.0.0.1", 0), stream, known_token(), WebOptions())._make_context()
    fresh.feed.open()
    for name in ("stream", "pictures", "feed", "auth"):
        setattr(server._context, name, getattr(fresh, name))
    return Browser(server.port)


@pytest.fixture
def no_trace() -> Iterator[None]:
    """No thread and no file descriptor is left; a shared server that runs may still start one of its four workers."""
    before, files = set(threading.enumerate()), n_files()
    yield

    def is_clean() -> bool:
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        return len(new) <= 4 * len(_SHARED) and all("AnyIO" in name for name in new)

    assert until(is_clean), threading.enumerate()
    assert until(lambda: n_files() <= files), os.listdir("/proc/self/fd")


def n_files() -> int:
    return len(os.listdir("/proc/self/fd"))
