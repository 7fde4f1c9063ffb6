"""Long-lived answers: live frames and events, and how they end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse

import numpy as np

from edgead.web.address import Address
from edgead.web.options import AuthOptions, WebOptions
from edgead.web.running_stream import RunningStream
from edgead.web.server import WebServer

from .parts import ALERT_ID, LINE, Browser, MemoryStore, judged, known_token, serving, until

LIVE = f"/api/v1/cameras/{LINE}/live?width=64"
EVENTS = "/api/v1/events"


@contextmanager
def frames(stream: RunningStream, pause_s: float = 0.02) -> Iterator[None]:
    """A camera that gives frames all the time."""
    stop = threading.Event()

    def run() -> None:
        index = 0
        while not stop.wait(pause_s):
            stream.monitor.accept(judged(index=index))
            index += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def part(response: HTTPResponse) -> tuple[int, bytes]:
    """The next picture of an MJPEG answer, with the index of its frame."""
    assert response.readline() == b"--edgead-picture\r\n"
    headers = {}
    while (line := response.readline()) != b"\r\n":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    picture = response.read(int(headers["content-length"]))
    assert response.readline() == b"\r\n"
    return int(headers["x-frame"]), picture


def message(response: HTTPResponse) -> dict[str, str]:
    """The next server-sent event, by field; comments are left out."""
    fields: dict[str, str] = {}
    while (line := response.readline().decode()) != "\n" or "data" not in fields:
        assert line, "the answer ended"
        name, _, value = line.rstrip("\n").partition(": ")
        if name:
            fields[name] = value
    return fields


def test_pictures_go_on(stream: RunningStream, browser: Browser) -> None:
    """New pictures come at most ten times a second, each whole, and always newer ones."""
    with frames(stream), browser.open("GET", LIVE, headers=browser.bearer) as response:
        assert response.getheader("content-type") == "multipart/x-mixed-replace; boundary=edgead-picture"
        start_s, seen = time.monotonic(), []
        for _ in range(8):
            index, picture = part(response)
            assert picture.startswith(b"\xff\xd8")
            assert picture.endswith(b"\xff\xd9")
            seen.append(index)
        assert len(seen) <= 10 * (time.monotonic() - start_s) + 1
    assert seen == sorted(set(seen))


def test_nothing_is_drawn_without_viewers(stream: RunningStream, no_trace: None) -> None:
    """Without viewers no picture is drawn; several viewers of the same one share the work."""
    with WebServer(Address("127.0.0.1", 0), stream, known_token(), WebOptions()) as server, frames(stream):
        browser = Browser(server.port)
        time.sleep(0.3)
        assert server.pictures.n_drawn == 0
        with ExitStack() as stack:
            viewers = [stack.enter_context(browser.open("GET", LIVE, headers=browser.bearer)) for _ in range(4)]
            start_s = time.monotonic()
            for viewer in viewers:
                for _ in range(5):
                    part(viewer)
            drawn, seconds = server.pictures.n_drawn, time.monotonic() - start_s
        assert 5 <= drawn <= 10 * seconds + 2
        assert until(lambda: server._context.viewers.taken == 0)


def test_viewers_are_limited(stream: RunningStream, no_trace: None) -> None:
    """Beyond the limit the answer is 503; who leaves makes room."""
    with serving(stream, WebOptions(max_viewers=2, max_listeners=1)) as browser, frames(stream), ExitStack() as stack:
        first = stack.enter_context(browser.open("GET", LIVE, headers=browser.bearer))
        with browser.open("GET", LIVE, headers=browser.bearer) as second:
            part(first), part(second)
            reply = browser.get(LIVE)
            assert (reply.status, "retry-after" in reply.headers) == (503, True)
            assert browser.get("/api/v1/info").status == 200
        assert until(lambda: viewer_fits(browser))
        stack.enter_context(browser.open("GET", EVENTS, headers=browser.bearer))
        assert browser.get(EVENTS).status == 503


def viewer_fits(browser: Browser) -> bool:
    with browser.open("GET", LIVE, headers=browser.bearer) as response:
        return response.status == 200


def test_a_viewer_who_takes_nothing_is_cut_off(stream: RunningStream, no_trace: None) -> None:
    """A client that stops reading loses its place, and the others continue."""
    with WebServer(Address("127.0.0.1", 0), stream, known_token(), WebOptions(patience_s=0.3)) as server:
        browser = Browser(server.port)
        with socket.socket() as stuck:
            big = [judged(size=(540, 1920)) for _ in range(2)]
            for item in big:
                # noise makes large files, which fill the buffers between the two ends
                item.frame.image[:] = np.random.default_rng(0).integers(0, 255, item.frame.image.shape)
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            stuck.connect(("127.0.0.1", browser.port))
            path = f"/api/v1/cameras/{LINE}/live?width=1920"
            headers = "".join(f"{name}: {value}\r\n" for name, value in browser.bearer.items())
            stuck.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
            assert until(lambda: server._context.viewers.taken == 1)

            def flooded() -> bool:
                big.reverse()
                stream.monitor.accept(big[0])
                time.sleep(0.1)
                return server._context.viewers.taken == 0

            assert until(flooded)
            with frames(stream), browser.open("GET", LIVE, headers=browser.bearer) as response:
                part(response)


def test_the_end_of_the_login_ends_the_pictures(stream: RunningStream, no_trace: None) -> None:
    """Who logs out or whose session is over sees nothing more."""
    options = WebOptions(auth=AuthOptions(session_s=1.0))
    with serving(stream, options) as browser, frames(stream):
        cookie = {"Cookie": browser.log_in().headers["set-cookie"].partition(";")[0]}
        with browser.open("GET", LIVE, headers=cookie) as response:
            start_s = time.monotonic()
            while response.read(1024):
                assert time.monotonic() - start_s < 60
        assert browser.ask("GET", LIVE, headers=cookie).status == 401


def followed(server: WebServer) -> int:
    """Number of the newest event that the server has read."""
    return server._context.feed.sequence


def test_events_are_told(browser: Browser, server: WebServer, store: MemoryStore) -> None:
    """Each event is sent once, in order, with its name and number; earlier events are not sent."""
    store.happen("camera_lost")
    assert until(lambda: followed(server) == 1)
    with browser.open("GET", EVENTS, headers=browser.bearer) as response:
        assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
        time.sleep(0.1)
        store.happen("alert_opened", alert={"id": ALERT_ID, "state": "open"}, zone="left")
        store.happen("threshold_changed")
        store.happen("picture_fault", detail="black\nand \u2028 white")
        told = [message(response) for _ in range(3)]
    assert [(one["event"], one["id"]) for one in told] == [("alert", "2"), ("change", "3"), ("camera", "4")]
    data = json.loads(told[0]["data"])
    assert (data["sequence"], data["kind"], data["zone"], data["alert"]["id"]) == (2, "alert_opened", "left", ALERT_ID)
    assert json.loads(told[2]["data"])["detail"] == "black\nand \u2028 white"


def test_a_listener_that_comes_back_misses_nothing(browser: Browser, server: WebServer, store: MemoryStore) -> None:
    """A client that sends its last event number gets the events after it."""
    for _ in range(5):
        store.happen("camera_lost")
    assert until(lambda: followed(server) == 5)
    with browser.open("GET", EVENTS, headers={**browser.bearer, "Last-Event-ID": "3"}) as response:
        assert [message(response)["id"] for _ in range(2)] == ["4", "5"]
    for odd in ("x", "-1", "9" * 30, "\u00b3".encode().decode("latin-1")):
        with browser.open("GET", EVENTS, headers={**browser.bearer, "Last-Event-ID": odd}) as response:
            assert response.status == 200


def test_the_server_ends_with_viewers(stream: RunningStream, no_trace: None) -> None:
    """At the end open pictures and events are closed at once, also for those who take nothing."""
    with serving(stream) as browser, frames(stream), ExitStack() as stack:
        answers = [
            stack.enter_context(browser.open("GET", path, headers=browser.bearer))
            for path in (LIVE, LIVE, EVENTS, EVENTS)
        ]
        stuck = stack.enter_context(socket.create_connection(("127.0.0.1", browser.port)))
        headers = "".join(f"{name}: {value}\r\n" for name, value in browser.bearer.items())
        stuck.sendall(f"GET {LIVE} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        time.sleep(0.2)
        keep = stack.pop_all()
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 20
    for answer in answers:
        # ended as HTTP says, not cut off: that would raise
        answer.read()
    keep.close()
