"""The dashboard behind a reverse proxy: names, ports, HTTPS, a path, and the clients behind it."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.requests import HTTPConnection

from edgead.config.stream import WebConfig
from edgead.web.auth import host_name
from edgead.web.options import AuthOptions, WebOptions
from edgead.web.proxies import Proxies
from edgead.web.running_stream import RunningStream

from .parts import LINE, SIDE, TOKEN, Browser, Reply, judged, serving, tell

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
BEHIND = AuthOptions(hosts=("edge.local", "https://other.local:8443"), trusted_proxies=("127.0.0.1",))


def request(peer: str = "127.0.0.1", **headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw, "client": (peer, 1)})


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "10.1.1.1, 192.0.2.7, 10.9.9.9", "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7:4711", "192.0.2.7"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:127.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7, unknown", "127.0.0.1"),
        ("127.0.0.1", "10.1.1.1", "10.1.1.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),
        ("", "198.51.100.1", ""),
    ],
)
def test_the_client_behind_trusted_proxies(peer: str, forwarded: str, client: str) -> None:
    """The last address that no trusted proxy has is the client; a header of anyone else is not believed."""
    proxies = Proxies(["127.0.0.1", "10.0.0.0/8"])
    assert proxies.client(request(peer, x_forwarded_for=forwarded)) == client


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60))
def test_no_header_makes_a_proxy_fail(text: str) -> None:
    """Whatever a client sends, an address comes out, and a path that fits a cookie."""
    headers = {"x_forwarded_for": text, "x_forwarded_proto": text, "x_forwarded_prefix": text}
    for proxies in (Proxies(["127.0.0.1"]), Proxies()):
        assert re.fullmatch(r"[0-9a-fA-F:.%]+", proxies.client(request(**headers)))
        assert re.fullmatch(r"/[\w.~/-]*", proxies.prefix(request(**headers)))
    assert Proxies().client(request(**headers)) == "127.0.0.1"
    assert not Proxies().is_https(request(x_forwarded_proto="https"))


def log_in(browser: Browser, host: str, origin: str | None, **headers: str) -> Reply:
    sent = {"Host": host, "X-Edgead": "1", "Sec-Fetch-Site": "same-origin", **headers}
    sent |= {} if origin is None else {"Origin": origin}
    return browser.ask("POST", "/api/v1/session", headers=sent, body={"token": TOKEN, "name": "Ada"})


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("edge.local", "https://edge.local:8444", 204),
        ("edge.local:8446", "https://edge.local:8446", 204),
        ("127.0.0.1:8801", "https://edge.local:8443", 204),
        ("edge.local:443", "https://edge.local", 204),
        ("localhost:443", "https://localhost", 204),
        ("other.local", "http://other.local:1", 204),
        ("127.0.0.1:8801", "https://evil.local:8443", 403),
        ("127.0.0.1:8801", "https://edge.local.evil", 403),
        ("localhost:80", "https://localhost", 403),
        ("127.0.0.1:8801", "null", 403),
        ("evil.local", "https://edge.local", 400),
    ],
)
def test_configured_hosts_are_allowed_on_any_port(
    stream: RunningStream, host: str, origin: str, status: int, no_trace: None
) -> None:
    """A page of a configured host may log in, whatever the proxy made of Host and port; a foreign one is told what to pass."""
    with serving(stream, WebOptions(auth=BEHIND)) as browser:
        reply = log_in(browser, host, origin)
        assert reply.status == status
        if status in (400, 403):
            assert "proxy_set_header Host $http_host" in reply.json["error"]["hint"]
            assert "web.hosts" in reply.json["error"]["hint"]


@pytest.mark.parametrize(
    ("headers", "is_secure", "path"),
    [
        ({"X-Forwarded-Proto": "https"}, True, "/"),
        ({"X-Forwarded-Proto": "http"}, False, "/"),
        ({"Origin": "https://edge.local"}, True, "/"),
        ({"Origin": "http://edge.local"}, False, "/"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/line7/"}, True, "/line7"),
        ({"X-Forwarded-Prefix": "/line7; Domain=evil"}, False, "/"),
        ({}, False, "/"),
    ],
)
def test_the_cookie_fits_what_the_browser_sees(
    stream: RunningStream, headers: dict[str, str], is_secure: bool, path: str, no_trace: None
) -> None:
    """Behind HTTPS the cookie is Secure, and behind a path that the proxy names it is that path's; the same at logout."""
    with serving(stream, WebOptions(auth=BEHIND)) as browser:
        reply = log_in(browser, "edge.local", None, **headers)
        cookie = reply.headers["set-cookie"]
        assert ("Secure" in cookie.split("; ")) == is_secure
        assert f"Path={path}" in cookie.split("; ")
        sent = {"Cookie": cookie.partition(";")[0], "Host": "edge.local", "X-Edgead": "1", **headers}
        gone = browser.ask("DELETE", "/api/v1/session", headers=sent).headers["set-cookie"]
        assert ("Secure" in gone.split("; ")) == is_secure
        assert f"Path={path}" in gone.split("; ")


def test_clients_behind_a_proxy_are_limited_one_by_one(stream: RunningStream, no_trace: None) -> None:
    """Wrong tokens and requests count for the client that a trusted proxy names, not for the proxy."""
    options = AuthOptions(login_attempts=2, request_burst=5, requests_per_s=0.1, trusted_proxies=("127.0.0.1",))
    with serving(stream, WebOptions(auth=options)) as browser:

        def guess(client: str, token: str) -> int:
            headers = {"X-Edgead": "1", "X-Forwarded-For": client}
            return browser.ask("POST", "/api/v1/session", headers=headers, body={"token": token, "name": "x"}).status

        assert [guess("192.0.2.1", f"wrong {number}") for number in range(6)] == [401, 401, 429, 429, 429, 429]
        assert browser.ask("GET", "/healthz", headers={"X-Forwarded-For": "192.0.2.1"}).status == 429
        assert guess("192.0.2.2", "wrong") == 401
        assert browser.ask("GET", "/healthz", headers={"X-Forwarded-For": "192.0.2.2"}).status == 200


@pytest.mark.parametrize("network", ["nginx", "10.0.0.1/8", "127.0.0.1:80", ""])
def test_proxies_are_addresses_or_networks(network: str) -> None:
    """A name or another text is refused with the settings."""
    with pytest.raises(ValidationError, match="addresses or networks"):
        WebConfig(trusted_proxies=(network,))


def test_names_of_hosts() -> None:
    """A host is compared by its name, however it is written."""
    written = ["edge.local", "Edge.Local:80", "https://edge.local:8443/", "edge.local:"]
    assert {host_name(one) for one in written} == {"edge.local"}
    assert host_name("[::1]:80") == "::1"


@contextmanager
def path_proxy(port: int, prefix: str) -> Iterator[int]:
    """A reverse proxy that shows the server below a path, and nothing else."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=forward, args=(client,), daemon=True).start()

    def forward(client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
            head = b""
            while b"\r\n\r\n" not in head and (part := client.recv(65536)):
                head += part
            head, _, body = head.partition(b"\r\n\r\n")
            method, path, rest = head.split(b" ", 2)
            if not path.startswith(prefix.encode() + b"/"):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            rest = re.sub(rb"(?im)^connection:.*\r\n", b"", rest)
            path = path.removeprefix(prefix.encode())
            server.sendall(b" ".join([method, path, rest]) + b"\r\nConnection: close\r\n\r\n" + body)
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join(5)

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (tools/system_packages.sh)")
def test_the_page_works_below_a_path(stream: RunningStream) -> None:
    """In a real browser: page, login, live picture and events below /line7/, with no request outside of it."""
    sync_api: Any = pytest.importorskip("playwright.sync_api")
    tell(stream.monitor)
    for camera in (LINE, SIDE):
        stream.monitor.accept(judged(camera))
    asked: list[tuple[str, int]] = []
    with serving(stream) as server, path_proxy(server.port, "/line7") as port, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.on(
            "response", lambda one: one.url.startswith("http") and asked.append((urlsplit(one.url).path, one.status))
        )
        page.goto(f"http://127.0.0.1:{port}/line7/")
        page.fill("input[name=token]", TOKEN)
        page.fill("input[name=name]", "Ada")
        page.press("input[name=token]", "Enter")
        page.wait_for_selector(".tile")
        page.wait_for_function("[...document.images].some(image => image.naturalWidth > 40)")
        page.goto(f"http://127.0.0.1:{port}/line7/#/alerts")
        page.wait_for_selector(".empty >> text=o alert")
        browser.close()
    paths = {path for path, status in asked if status == 200}
    assert all(path.startswith("/line7/") for path, _ in asked)
    assert {"/line7/", "/line7/static/app.js", "/line7/api/v1/cameras", "/line7/api/v1/events"} <= paths
    assert {status for _, status in asked} <= {200, 204, 401}
