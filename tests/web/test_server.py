"""The server itself: where it listens, how it ends, and clients that do not behave."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import pytest

from edgead.errors import ConfigError
from edgead.web.address import Address, is_loopback, parse_address
from edgead.web.options import WebOptions
from edgead.web.running_stream import RunningStream
from edgead.web.server import WebServer

from .parts import LINE, TOKEN, Browser, known_token, serving

ROOT = Path(__file__).parents[2]
BEARER = f"Authorization: Bearer {TOKEN}\r\nX-Edgead: 1\r\nHost: localhost\r\n"
PATH = f"/api/v1/cameras/{LINE}/zones/picture/threshold"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:80", "::1", 80),
        ("line.example:1", "line.example", 1),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    """HOST:PORT, or a port on loopback."""
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", "host", ":80", "host:", "host:65536", "host:-1", "::1:80", "host:٣"])
def test_bad_addresses(text: str) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


def test_a_taken_port_is_named(stream: RunningStream, browser: Browser) -> None:
    """A port in use, or an address of another machine, is an error that says so, and nothing is left behind."""
    for address in (Address("127.0.0.1", browser.port), Address("192.0.2.1", 0)):
        with pytest.raises(ConfigError, match="cannot listen on") as raised:
            WebServer(address, stream, known_token(), WebOptions()).__enter__()
        assert str(address) in raised.value.message
        assert "--web" in raised.value.hint


def test_the_server_can_be_started_again(stream: RunningStream, no_trace: None) -> None:
    """After its end the same port is free at once."""
    with WebServer(Address("127.0.0.1", 0), stream, known_token(), WebOptions()) as server:
        port = server.port
        assert server.url == f"http://127.0.0.1:{port}"
        assert server.warning is None
    with WebServer(Address("127.0.0.1", port), stream, known_token(), WebOptions()) as server:
        assert Browser(server.port).ask("GET", "/healthz").status == 200


def test_plain_http_on_the_network_is_warned_of(stream: RunningStream, tmp_path: Path) -> None:
    """Without TLS, an address that others reach comes with a warning."""
    options = WebOptions(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
    warning = WebServer(Address("0.0.0.0", 0), stream, known_token(), WebOptions()).warning
    assert warning is not None
    assert "plain HTTP" in warning
    assert WebServer(Address("0.0.0.0", 0), stream, known_token(), options).warning is None
    assert WebServer(Address("localhost", 0), stream, known_token(), WebOptions()).warning is None


def test_a_bad_certificate_is_named(stream: RunningStream, tmp_path: Path, no_trace: None) -> None:
    """A certificate that is not there or is none is an error for people."""
    for path in (tmp_path / "missing.pem", ROOT / "pyproject.toml"):
        with pytest.raises(ConfigError, match="cannot be used"):
            WebServer(
                Address("127.0.0.1", 0), stream, known_token(), WebOptions(certificate=path, key=path)
            ).__enter__()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls(stream: RunningStream, tmp_path: Path, no_trace: None) -> None:
    """With a certificate the server speaks TLS alone, and browsers keep cookie and address to it."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *made.split(), *names, *files], check=True, capture_output=True, timeout=30)
    options = WebOptions(certificate=certificate, key=key)
    with WebServer(Address("127.0.0.1", 0), stream, known_token(), options) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificate))
        with closing(HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)) as connection:
            body = json.dumps({"token": TOKEN, "name": "Ada"})
            headers = {"X-Edgead": "1", "Content-Type": "application/json", "Origin": server.url}
            connection.request("POST", "/api/v1/session", body, headers)
            response = connection.getresponse()
            response.read()
        assert response.status == 204
        assert "secure" in (response.getheader("set-cookie") or "").lower()
        assert response.getheader("strict-transport-security") is None  # it would hold for other ports too
        with pytest.raises((OSError, HTTPException)):
            Browser(server.port).ask("GET", "/healthz")


def test_without_the_extra(tmp_path: Path) -> None:
    """Without starlette and uvicorn the error names the extra, and everything else can be imported."""
    code = """
import sys
sys.modules["uvicorn"] = sys.modules["starlette"] = None
from pathlib import Path
from edgead.errors import MissingDependencyError
from edgead.web.address import Address
from edgead.web.options import WebOptions
from edgead.web.server import WebServer
from edgead.web.token import open_token
import edgead.stream.monitoring.monitor, edgead.stream.monitoring.live_pictures
from edgead.web.running_stream import RunningStream, StreamFacts
from edgead.stream.control import Control
facts = StreamFacts("", "", "", "", (), "", "", ())
stream = RunningStream(edgead.stream.monitoring.monitor.Monitor({}), Control(), None, facts)
try:
    WebServer(Address("127.0.0.1", 0), stream, None, WebOptions()).__enter__()
except MissingDependencyError as error:
    print(error.message, error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "--web needs the package" in done.stdout
    assert "pip install 'edgead[web]'" in done.stdout


def test_headers_of_every_answer(browser: Browser) -> None:
    """Whatever is answered, browsers are told to run nothing foreign, guess no types and keep no data."""
    for path, status in (("/", 200), ("/healthz", 200), ("/api/v1/info", 401), ("/nowhere", 404)):
        reply = browser.ask("GET", path)
        assert reply.status == status
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == ("no-cache" if path == "/" else "no-store")
        assert "server" not in reply.headers
        assert "strict-transport-security" not in reply.headers


def test_wrong_methods(browser: Browser) -> None:
    """A method that an address has not is refused with those that it has."""
    reply = browser.send("PATCH", "/api/v1/session")
    assert reply.status == 405
    assert set(reply.headers["allow"].replace(" ", "").split(",")) >= {"GET", "POST", "DELETE"}
    assert set(reply.json) == {"error"}
    assert browser.send("POST", "/api/v1/cameras").status == 405
    head = browser.ask("HEAD", "/api/v1/cameras", headers=browser.bearer)
    assert (head.status, head.body) == (200, b"")
    live = browser.ask("HEAD", f"/api/v1/cameras/{LINE}/live", headers=browser.bearer)
    assert (live.status, live.body) == (200, b"")


def test_bodies_have_a_limit(stream: RunningStream, browser: Browser) -> None:
    """The limit of 64 KiB holds for a correct, wrong or missing length."""
    assert browser.send("PUT", PATH, b" " * 65537).status == 413
    assert browser.send("PUT", PATH, b" " * 65536).status == 422
    json = "Content-Type: application/json\r\nConnection: close\r\n"
    head = f"PUT {PATH} HTTP/1.1\r\n{BEARER}{json}"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    chunked = browser.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 5 * chunk)
    assert chunked.split(b" ", 2)[1] == b"413"
    good = browser.raw(
        f'{head}Transfer-Encoding: chunked\r\n\r\nc\r\n{{"value":0.1}}\r\n'.replace("c\r\n{", "d\r\n{").encode()
        + b"0\r\n\r\n"
    )
    assert good.split(b" ", 2)[1] == b"200"
    for length in ("-1", "x", "1e3", "99999999999999999999999"):
        reply = browser.raw(f"{head}Content-Length: {length}\r\n\r\n".encode())
        assert reply.split(b" ", 2)[1] in (b"400", b"413"), length
    assert len(stream.control.take_all()) == 1


def test_garbage(browser: Browser) -> None:
    """Bytes that are not HTTP, smuggled lengths and endless headers end the connection, not the server."""
    both = (
        f"PUT {PATH} HTTP/1.1\r\n{BEARER}Content-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    for content in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTX/1.1\r\nHost: localhost\r\n\r\n", b"\r\n" * 100 + b"x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000, b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", both.encode() + b"0\r\n\r\n",
    ):  # fmt: skip
        try:
            found = browser.raw(content)
        except ConnectionError:
            found = b""
        assert found == b"" or found.split(b" ", 2)[1] in (b"400", b"415"), content[:40]
    assert browser.ask("GET", "/healthz").status == 200


def test_slow_clients_are_cut_off(stream: RunningStream, no_trace: None) -> None:
    """Clients that send nothing, half a head, half a body or half a second request are disconnected."""
    starts = (
        b"", b"GET / HTTP/1.1\r\nHost: loc", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he",
        f"PUT {PATH} HTTP/1.1\r\n{BEARER}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{".encode(),
    )  # fmt: skip
    with serving(stream, WebOptions(patience_s=0.5)) as browser, ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", browser.port), timeout=60)) for _ in starts
        ]
        start_s = time.monotonic()
        for client, content in zip(clients, starts, strict=True):
            client.sendall(content)
        found = []
        for client in clients:
            received = b""
            try:
                while chunk := client.recv(4096):
                    received += chunk
            except ConnectionResetError:
                pass
            found.append(received)
        assert time.monotonic() - start_s < 30
        assert found[:2] == [b"", b""]
        assert found[2].startswith(b"HTTP/1.1 200")
        assert found[3].startswith(b"HTTP/1.1 408")
        assert browser.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True),
        ("::ffff:192.0.2.1", False), ("192.0.2.1", False), ("localhost.evil", False), ("", False),
    ],
)  # fmt: skip
def test_addresses_of_this_machine(host: str, is_here: bool) -> None:
    """Loopback in every way that a socket gives it, and nothing else."""
    assert is_loopback(host) is is_here


def test_a_full_house_has_room_for_a_health_check(stream: RunningStream, no_trace: None) -> None:
    """When connections of this machine take every place, the one that waits longest gives way to a new one."""
    part = f"PUT {PATH} HTTP/1.1\r\n{BEARER}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{".encode()
    with serving(stream, WebOptions(max_connections=16)) as browser:
        held = [socket.create_connection(("127.0.0.1", browser.port), timeout=60) for _ in range(40)]
        for number, client in enumerate(held[-16:]):
            with suppress(OSError):
                client.sendall(
                    (b"", b"GET / HT", part, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")[number % 4]
                )
        time.sleep(0.2)
        assert [browser.ask("GET", "/healthz").status for _ in range(20)] == [200] * 20
        assert n_closed(held) >= 25
        for client in held:
            client.close()


def n_closed(clients: list[socket.socket]) -> int:
    """Number of clients whose connection the server has closed."""
    closed = 0
    for client in clients:
        client.setblocking(False)
        try:
            while chunk := client.recv(65536):
                pass
            closed += not chunk
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
    return closed


def test_no_other_machine_takes_all(stream: RunningStream, no_trace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One address has a share of the connections, all other machines leave some to this one."""
    monkeypatch.setattr("edgead.web.door.is_loopback", lambda address: address == "127.0.0.1")

    def stays(address: str) -> bool:
        client = socket.create_connection(("127.0.0.1", browser.port), timeout=60, source_address=(address, 0))
        held.append(client)
        client.settimeout(0.3)
        try:
            return client.recv(1) != b""
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False

    held: list[socket.socket] = []
    with serving(stream, WebOptions(max_connections=8, max_per_address=4)) as browser:
        assert [stays("127.0.0.2") for _ in range(5)] == [True] * 4 + [False]
        assert [stays("127.0.0.3") for _ in range(4)] == [True] * 3 + [False]
        assert browser.ask("GET", "/healthz").status == 200
        assert stays("127.0.0.1")
        for client in held:
            client.close()


def test_many_ask_at_once(stream: RunningStream, browser: Browser) -> None:
    """Requests from many threads are all answered."""
    statuses: list[int] = []

    def ask() -> None:
        statuses.extend(browser.get("/api/v1/cameras").status for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200] * 60


def test_a_bug_is_no_leak(stream: RunningStream, no_trace: None, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that fails answers 500 without a word of why, and the log has it."""

    def fail(camera: str, zone: str, threshold: object) -> None:
        raise RuntimeError("a secret path")

    object.__setattr__(stream, "alarms_per_hour", fail)
    with serving(stream) as browser:
        reply = browser.get("/api/v1/cameras")
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert "a secret path" in caplog.text
