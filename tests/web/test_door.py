"""The entrance of the web server under floods, without TLS handshakes and without descriptors."""

from __future__ import annotations

import asyncio
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from edgead.web import door
from edgead.web.door import Door, free_descriptors
from edgead.web.options import WebOptions
from edgead.web.running_stream import RunningStream

from .parts import serving, until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def tls_client(port: int) -> HTTPSConnection:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection("127.0.0.1", port, timeout=60, context=context)


def health(connection: HTTPConnection) -> int:
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    finally:
        connection.close()


def test_silent_connections_before_tls_are_limited(
    stream: RunningStream, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, no_trace: None
) -> None:
    """Clients that never begin TLS count for their address, are cut off after the limit, and others get in all along."""
    monkeypatch.setattr(door, "is_loopback", lambda address: address == "127.0.0.1")

    @contextmanager
    def visited(handshake_s: float) -> Iterator[tuple[int, list[socket.socket]]]:
        options = WebOptions(certificate=certificate[0], key=certificate[1], max_per_address=8, handshake_s=handshake_s)
        with serving(stream, options) as browser, ExitStack() as stack:
            address: dict[str, Any] = {"timeout": 60, "source_address": ("127.0.0.2", 0)}
            place = ("127.0.0.1", browser.port)
            silent = [stack.enter_context(socket.create_connection(place, **address)) for _ in range(60)]
            assert health(tls_client(browser.port)) == 200
            yield browser.port, silent

    with visited(600.0) as (port, silent):
        assert until(lambda: n_open(silent) == 8)
        assert health(tls_client(port)) == 200
    began_s = time.monotonic()
    with visited(1.0) as (port, silent):
        assert until(lambda: n_open(silent) == 0)
        assert time.monotonic() - began_s > 0.9
        assert health(tls_client(port)) == 200


def n_open(clients: list[socket.socket]) -> int:
    n = 0
    for client in clients:
        client.setblocking(False)
        try:
            client.recv(1)
        except BlockingIOError:
            n += 1
        except OSError:
            pass
    return n


SERVER = """
import logging, resource, sys, tempfile, threading, time
from pathlib import Path
from typing import Any
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
logging.basicConfig(filename=sys.argv[3], format="%(message)s")
from tests.web.parts import known_token, make_stream, tell
from edgead.web.address import Address
from edgead.web.options import WebOptions
from edgead.web.server import WebServer
folder = Path(tempfile.mkdtemp())
stream = make_stream(folder)
taken = []

def obey():
    for line in sys.stdin:
        try:
            while line == "exhaust\\n":
                taken.append(open("/dev/null"))
        except OSError:
            pass
        if line == "free\\n":
            taken.clear()
        print(line, end="", flush=True)

with WebServer(Address("127.0.0.1", 0), stream, known_token(), WebOptions(certificate=Path(sys.argv[1]), key=Path(sys.argv[2]))) as server:
    print(server.port, flush=True)
    threading.Thread(target=obey, daemon=True).start()
    failed, slowest = 0, 0.0
    while True:
        began = time.monotonic()
        tell(stream.monitor)
        try:
            files = [(folder / str(number)).open("w") for number in range(16)]  # as many as the evidence of alerts needs
            for file in files:
                file.close()
        except OSError:
            failed += not taken
        slowest = max(slowest, time.monotonic() - began)
        print(f"{failed} {slowest}", file=sys.stderr, flush=True)
        time.sleep(0.05)
"""


@dataclass(frozen=True)
class LimitedServer:
    port: int
    process: subprocess.Popen[str]
    folder: Path

    def obey(self, word: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{word}\n"

    def evidence(self) -> tuple[int, float]:
        """Number of failed writes, and the seconds of the slowest one."""
        failed, slowest_s = (self.folder / "evidence.txt").read_text().splitlines()[-1].split()
        return int(failed), float(slowest_s)

    def answers(self) -> bool:
        try:
            return health(tls_client(self.port)) == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def limited(certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LimitedServer]:
    """A TLS server with 256 descriptors that writes files all the time, in a process of its own."""
    folder = tmp_path_factory.mktemp("limited")
    with (folder / "evidence.txt").open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *map(str, certificate), str(folder / "log.txt")], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        yield LimitedServer(int(process.stdout.readline()), process, folder)
    finally:
        process.kill()
        process.communicate()


def test_without_descriptors_the_server_waits_and_comes_back(limited: LimitedServer) -> None:
    """When something else takes every descriptor, clients are turned away, two lines tell it, and later it serves again."""
    limited.obey("exhaust")
    assert not limited.answers()
    assert not limited.answers()
    limited.obey("free")
    assert until(limited.answers)
    said = [line for line in (limited.folder / "log.txt").read_text().splitlines() if "accept" in line]
    assert [line.partition(":")[0] for line in said] == [
        "The dashboard cannot accept connections",
        "The dashboard accepts connections again",
    ]
    assert "LimitNOFILE" in said[0]


def test_thousands_of_silent_connections(limited: LimitedServer) -> None:
    """With 256 descriptors and 1500 silent clients the health check answers, evidence is written, the log stays small."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2000:
        pytest.skip("this process may not open enough connections")
    log = limited.folder / "log.txt"
    before = log.stat().st_size
    with ExitStack() as stack:
        answers = []
        for number in range(1500):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", limited.port))
            if number % 300 == 299:
                answers.append(limited.answers())
        assert answers == [True] * 5
        failed, slowest_s = limited.evidence()
        assert failed == 0
        assert slowest_s < 20
        assert log.stat().st_size - before < 1000


def test_few_descriptors_make_fewer_connections() -> None:
    """The number of connections follows the free descriptors, and at least a few are always allowed."""
    free: list[int | None] = [None]

    class Visitor(asyncio.Protocol):
        waiting_since_s = 0.0
        waits = None

    def most(n_free: int | None) -> int:
        free[0] = n_free
        with socket.create_server(("127.0.0.1", 0)) as listener:
            entrance = Door(
                listener, Visitor, None, max_connections=128, max_per_address=64, silence_s=1, handshake_s=1,
                descriptors=lambda: free[0],
            )  # fmt: skip
            return entrance._limit()

    assert [most(n) for n in (None, 900, 196, 96, 0)] == [128, 128, 50, 8, 8]
    assert 0 < (free_descriptors() or 1)


def test_other_addresses_get_their_share(
    stream: RunningStream, monkeypatch: pytest.MonkeyPatch, no_trace: None
) -> None:
    """When many machines take every place, a new one gets one of those that have the most, until all have the same."""
    monkeypatch.setattr(door, "is_loopback", lambda address: address == "127.0.0.1")
    held: dict[str, list[socket.socket]] = {}

    def come(address: str, port: int) -> None:
        client = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(address, 0))
        held.setdefault(address, []).append(client)

    with serving(stream, WebOptions(max_connections=16, max_per_address=10)) as browser:
        for address, n in (("127.0.0.2", 12), ("127.0.0.3", 12), ("127.0.0.4", 12)):
            for _ in range(n):
                come(address, browser.port)
            time.sleep(0.1)
        assert browser.ask("GET", "/healthz").status == 200
        open_ = {address: n_open(clients) for address, clients in held.items()}
        assert sum(open_.values()) == 14
        assert min(open_.values()) >= 4
        for clients in held.values():
            for client in clients:
                client.close()
