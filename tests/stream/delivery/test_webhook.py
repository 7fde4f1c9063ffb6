"""Events over HTTP: what is sent, what counts as delivered, and what a receiver may do to us."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from edgead.config.sinks import WebhookSettings
from edgead.errors import ConfigError
from edgead.stream.delivery.delivery import Delivery
from edgead.stream.delivery.signature import is_genuine, sign
from edgead.stream.delivery.sink import DeliveryError, RefusedError
from edgead.stream.delivery.webhook import WebhookSink

from ..spool.builders import plain_event, spool
from .receivers import OK, Answer, Receiver, Request, event, first_of_each, options, wait_until

EVENTS_PAGE = Path(__file__).parents[3] / "docs" / "events.md"


def webhook(url: str, **changes: Any) -> WebhookSink:
    settings = WebhookSettings(url=SecretStr(url), **{"connect_timeout_s": 2.0, "read_timeout_s": 2.0, **changes})
    return WebhookSink(settings, media=lambda alert, kind: None)


def test_what_a_receiver_gets() -> None:
    """The payload as JSON, its key, its kind, our headers, and the path with its query."""
    with Receiver() as receiver:
        webhook(receiver.url, headers={"X-Line": SecretStr("7")}).deliver([event(1), event(2, "camera_lost")])
    first, second = receiver.requests
    assert first.path == "/alerts?line=1"
    assert first.payload == event(1).payload
    assert (first.headers["Idempotency-Key"], first.headers["Edgead-Event"]) == ("0123456789ab-1", "alert_opened")
    assert (first.headers["Content-Type"], first.headers["X-Line"]) == ("application/json", "7")
    assert second.payload["kind"] == "camera_lost"
    assert "Edgead-Signature" not in first.headers


def is_genuine_as_documented(secret: str, body: bytes, value: str, now_s: float) -> bool:
    """Run the signature check printed in the documentation."""
    (code,) = re.findall(r"```python\n(.*?)```", EVENTS_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    receiver: dict[str, Any] = {}
    exec(code, receiver)
    receiver["time"] = SimpleNamespace(time=lambda: now_s)
    return bool(receiver["is_genuine"](secret.encode(), value, body))


@pytest.mark.parametrize("is_right", [is_genuine, is_genuine_as_documented], ids=["ours", "documented"])
def test_a_receiver_can_check_the_signature(is_right: Callable[[str, bytes, str, float], bool]) -> None:
    """With the shared secret it is right; with another secret, body or an old time it is not."""
    secret = "s3cret ü"
    with Receiver() as receiver:
        webhook(receiver.url, secret=SecretStr(secret)).deliver([event(1)])
    (request,) = receiver.requests
    value = request.headers["Edgead-Signature"]
    assert is_right(secret, request.body, value, time.time())
    assert not is_right("other", request.body, value, time.time())
    assert not is_right(secret, request.body + b" ", value, time.time())
    assert not is_right(secret, request.body, value, time.time() + 301)
    for forged in ("", "t=1,v1=", value.replace(",", ""), f"t={int(time.time())},v1={'0' * 64}", "t=" + "9" * 5000):
        assert not is_right(secret, request.body, forged, time.time())
    assert sign(secret, b"x", 5) != sign(secret, b"x", 6)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success(status: int) -> None:
    """Every 2xx is delivered."""
    with Receiver(lambda request: (status, {}, "")) as receiver:
        webhook(receiver.url).deliver([event(1), event(2)])
        assert len(receiver.requests) == 2


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429, 401, 403, 404, 301, 302, 307])
def test_to_be_tried_again(status: int) -> None:
    """Trouble of the receiver, its address or our rights says nothing about the event."""

    def answer(request: Request) -> Answer:
        return OK if request.headers["Idempotency-Key"].endswith("-1") else (status, {"Location": "/x"}, "no")

    with Receiver(answer) as receiver:
        with pytest.raises(DeliveryError, match=str(status)) as caught:
            webhook(receiver.url).deliver([event(1), event(2), event(3)])
        assert len(receiver.requests) == 2
    assert not isinstance(caught.value, RefusedError)
    assert caught.value.n_delivered == 1


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_refused_for_good(status: int) -> None:
    """The event itself is refused; the receiver's words are kept, shortened and on one line."""
    with Receiver(lambda request: (status, {}, "too\nlarge " + "x" * 5000)) as receiver:
        with pytest.raises(RefusedError, match=rf"{status}: too large x") as caught:
            webhook(receiver.url).deliver([event(1)])
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("7", 7, 7), ("in a while", None, None), ("-3", None, None), ("", None, None), ("date", 55, 65), ("past", 0, 0)],
)
def test_retry_after(value: str, low: float | None, high: float | None) -> None:
    """Seconds or a date; anything else counts as nothing."""
    text = {"date": formatdate(time.time() + 60, usegmt=True), "past": formatdate(0, usegmt=True)}.get(value, value)
    with Receiver(lambda request: (429, {"Retry-After": text}, "")) as receiver, pytest.raises(DeliveryError) as caught:
        webhook(receiver.url).deliver([event(1)])
    if low is None or high is None:
        assert caught.value.retry_after_s is None
    else:
        assert caught.value.retry_after_s is not None
        assert low <= caught.value.retry_after_s <= high


def test_redirects_are_not_followed() -> None:
    """The secret's signature and the headers never reach another host."""
    with Receiver() as other:
        with Receiver(lambda request: (307, {"Location": other.url}, "")) as receiver:
            with pytest.raises(DeliveryError, match="redirects are not followed"):
                webhook(receiver.url, headers={"Authorization": SecretStr("Bearer x")}).deliver([event(1)])
        assert other.requests == []


@contextmanager
def raw_server(answer: bytes, pause_s: float) -> Iterator[int]:
    """A server that sends bytes one by one, whatever it was asked, and then says nothing."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        listener.settimeout(60)
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(60)
            try:
                connection.recv(65536)
                for byte in answer:
                    connection.sendall(bytes([byte]))
                    if stop.wait(pause_s):
                        return
                stop.wait(60)
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    stop.set()
    thread.join()
    listener.close()


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [(b"", 0.0), (b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 1000, 0.05), (b"this is not HTTP\r\n\r\n", 0.0)],
    ids=["silence", "drip", "nonsense"],
)
def test_a_receiver_that_is_none(answer: bytes, pause_s: float) -> None:
    """Silence, an answer that drips and nonsense all end in time, as failures that are tried again."""
    start_s = time.monotonic()
    with raw_server(answer, pause_s) as port, pytest.raises(DeliveryError, match="cannot be reached"):
        webhook(f"http://127.0.0.1:{port}/", read_timeout_s=0.5).deliver([event(1)])
    assert time.monotonic() - start_s < 30


def test_a_receiver_that_is_not_there() -> None:
    """An unreachable receiver is reported with its address, without path and password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(DeliveryError, match=f"127.0.0.1:{port}") as caught:
            webhook(f"http://ada:geheim@127.0.0.1:{port}/hooks/T0PSECRET?token=x").deliver([event(1)])
    assert "geheim" not in str(caught.value)
    assert "T0PSECRET" not in str(caught.value)


def test_a_server_that_closes_between_two_events() -> None:
    """A connection that the receiver has closed is opened again; nothing fails for it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        n_requests = 0

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            Handler.n_requests += 1
            self.close_connection = True  # without having said so

        def log_message(self, *args: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    webhook(f"http://127.0.0.1:{server.server_port}/").deliver([event(number) for number in range(5)])
    server.shutdown()
    thread.join()
    server.server_close()
    assert Handler.n_requests == 5


def test_the_user_of_the_url_is_sent_as_such() -> None:
    """User and password of the address become basic authentication."""
    with Receiver() as receiver:
        webhook(receiver.url.replace("://", "://ada:ge%40heim@")).deliver([event(1)])
    scheme, _, pair = receiver.requests[0].headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(pair)) == ("Basic", b"ada:ge@heim")


def test_the_snapshot_goes_along_when_it_is_wanted(tmp_path: Path) -> None:
    """With the alert that opens, once, and signed with the rest; without a picture the event goes alone."""
    picture = tmp_path / "x.jpg"
    picture.write_bytes(b"\xff\xd8picture")
    there = {event(1).alert_id: picture, event(2).alert_id: tmp_path / "gone.jpg"}
    with Receiver() as receiver:
        settings = WebhookSettings(url=SecretStr(receiver.url), snapshot=True, secret=SecretStr("s"))
        sink = WebhookSink(settings, media=lambda alert, kind: there.get(alert) if kind == "snapshot" else None)
        sink.deliver([event(1), event(1, "alert_closed"), event(2), event(3), event(4, "camera_lost")])
    with_picture, *without = receiver.requests
    attached = with_picture.payload["attachments"]["snapshot"]
    assert attached["content_type"] == "image/jpeg"
    assert base64.b64decode(attached["base64"]) == b"\xff\xd8picture"
    assert is_genuine("s", with_picture.body, with_picture.headers["Edgead-Signature"], time.time())
    assert not [request for request in without if "attachments" in request.payload]
    assert {**with_picture.payload, "attachments": None} == {**event(1).payload, "attachments": None}


def test_tls_is_checked(tmp_path: Path) -> None:
    """A certificate of an authority that we do not know is refused, one that we were given is taken."""
    make_certificate(tmp_path, "localhost")
    with Receiver() as receiver:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
        url = f"https://localhost:{receiver.port}/"
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            webhook(url).deliver([event(1)])
        webhook(url, ca=tmp_path / "cert.pem").deliver([event(1)])
        with pytest.raises(DeliveryError, match=r"[Hh]ostname|IP address"):
            webhook(url.replace("localhost", "127.0.0.1"), ca=tmp_path / "cert.pem").deliver([event(1)])
        assert len(receiver.requests) == 1


def make_certificate(folder: Path, name: str) -> None:
    """A self-signed certificate and its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, capture_output=True, check=True,
    )  # fmt: skip


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Missing certificates and secrets are said at the start, with the file's name."""
    with pytest.raises(ConfigError, match="nowhere"):
        webhook("https://localhost/", ca=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="nowhere"):
        webhook("https://localhost/", secret_file=tmp_path / "nowhere")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="holds nothing"):
        webhook("https://localhost/", secret_file=tmp_path / "empty")
    with pytest.raises(ConfigError, match="EDGEAD_NOT_SET"):
        webhook("https://localhost/", secret_env="EDGEAD_NOT_SET")


def test_a_bad_day_of_a_receiver(tmp_path: Path) -> None:
    """500, time-outs, 429 and refused connections in turn: every key arrives, first arrivals in order."""
    plan = iter(
        [(500, {}, ""), (200, {}, ""), (429, {"Retry-After": "0"}, ""), (503, {}, ""), "sleep", (200, {}, "")] * 4
    )

    def answer(request: Request) -> Answer:
        step: Any = next(plan, OK)
        if step == "sleep":
            time.sleep(0.3)
            return OK
        return (step[0], step[1], step[2])

    with Receiver(answer) as receiver, spool(tmp_path) as target:
        sink = webhook(receiver.url, read_timeout_s=0.2)
        with Delivery(target, [(options(), sink)], drain_s=5.0, first_pause_s=0.01):
            for _ in range(20):
                target.append(plain_event())
            wait_until(lambda: target.depths() == {"sink": 0})
        assert first_of_each(receiver.keys) == [each.key for each in target.events()]
        assert len(receiver.keys) > 20
        bodies = {request.headers["Idempotency-Key"]: json.loads(request.body) for request in receiver.requests}
        assert all(body["key"] == key for key, body in bodies.items())
