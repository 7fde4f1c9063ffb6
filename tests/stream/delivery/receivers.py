"""Receivers that do what a test wants: a list, an HTTP server, a door between a sink and a broker."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from typing_extensions import Self

from edgead.stream.delivery.worker import SinkOptions
from edgead.stream.spool.events import StoredEvent, stored_event

Answer = tuple[int, dict[str, str], str]
OK: Answer = (200, {}, "")


def options(name: str = "sink", **changes: Any) -> SinkOptions:
    defaults: dict[str, Any] = {"kind": "list", "from_beginning": True, "retry_max_s": 0.05, "give_up_s": 0.0}
    return SinkOptions(name, **{**defaults, **changes})


def event(number: int, kind: str = "alert_opened", **changes: Any) -> StoredEvent:
    """An event as the spool gives it, without a spool."""
    alert = {"id": f"20261123T021500Z-{number:06x}", "severity": "high"} if kind.startswith("alert_") else None
    content = {
        "kind": kind, "at": "2026-11-23T02:15:00.000Z", "camera": "line 1", "zone": "picture", "alert": alert,
        "detail": "", "values": {}, **changes,
    }  # fmt: skip
    return stored_event("0123456789ab", number, content)


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait for a condition; fail on timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


class ListSink:
    """Keeps what it gets; `script` decides what happens at each attempt, from the events to an exception or nothing."""

    def __init__(self, script: Callable[[Sequence[StoredEvent]], Exception | None] | None = None) -> None:
        self.got: list[StoredEvent] = []
        self.n_entered = self.n_tended = 0
        self._script = script

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        error = None if self._script is None else self._script(events)
        if error is not None:
            self.got += events[: getattr(error, "n_delivered", 0)]
            raise error
        self.got += events

    def keep_alive(self) -> None:
        self.n_tended += 1

    @property
    def numbers(self) -> list[int]:
        return [each.sequence for each in self.got]

    def __enter__(self) -> Self:
        self.n_entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@dataclass
class Request:
    """Request that an HTTP server received."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Receiver:
    """An HTTP server that answers as `answer` says and notes every request."""

    answer: Callable[[Request], Answer] = field(default=lambda request: OK)
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, dict(self.headers.items()), body)
                receiver.requests.append(request)
                status, headers, text = receiver.answer(request)
                with suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text.encode())

            def log_message(self, *args: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def port(self) -> int:
        return int(self.server.server_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/alerts?line=1"

    @property
    def keys(self) -> list[str]:
        return [request.headers["Idempotency-Key"] for request in self.requests]


def first_of_each(keys: Sequence[str]) -> list[str]:
    """The keys without repetitions, in the order of their first arrival."""
    return list(dict.fromkeys(keys))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Door:
    """A port in front of another that can be shut: connections through it break, new ones are refused."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self._listener: socket.socket | None = None
        self._pairs: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept, self._listener)

    def shut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for each in pairs:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in pairs:
            each.close()
        self._threads = []

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            try:
                outside = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                inside.close()
                continue
            with self._lock:
                self._pairs += [inside, outside]
            self._start(self._carry, inside, outside)
            self._start(self._carry, outside, inside)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
