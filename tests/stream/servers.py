"""Real servers on 127.0.0.1 for tests of sources: an RTSP camera, an MJPEG camera, and a cable that can be pinched."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from edgead.imaging import Image

ROOT = Path(__file__).parents[2]


def has_rtsp_server() -> bool:
    """Whether this Python reaches GStreamer's RTSP server."""
    if importlib.util.find_spec("gi") is None:
        return False
    import gi

    try:
        gi.require_version("GstRtspServer", "1.0")
    except ValueError:
        return False
    return True


needs_gstreamer = pytest.mark.skipif(
    not has_rtsp_server(), reason="GStreamer's RTSP server or `gi` is not installed (tools/system_packages.sh)"
)


class RtspCamera:
    """`tools/rtsp_server.py` in its own process; `url` leads to it, `t0_s + number / fps` is a frame's time."""

    def __init__(self, *arguments: str, port: int = 0, fps: float = 25.0) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "tools.rtsp_server", "--counter", "--frames", "25", "--port", str(port),
                "--fps", str(fps), *arguments,
            ],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        words = self._line().split()
        assert words[:1] == ["ready"], words
        self.url = words[1]
        self.t0_s = float(words[2].removeprefix("t0="))
        self.fps = fps

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].split("/")[0])

    def command(self, word: str) -> None:
        """Send a command and wait until it holds."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._line().split() == ["ok", *word.split()]

    def hang(self) -> None:
        """The process stands still; its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        """Kill it, as a power cut does."""
        self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def rtsp_camera(*arguments: str, port: int = 0, fps: float = 25.0) -> Iterator[RtspCamera]:
    """A camera that is killed at the end."""
    camera = RtspCamera(*arguments, port=port, fps=fps)
    try:
        yield camera
    finally:
        camera.close()


class Cable:
    """A TCP relay to `port` that can be pinched: what was sent meanwhile comes later, and all at once."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = threading.Event()
        self._open.set()
        self._end = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def pinch(self) -> None:
        """Let nothing through."""
        self._open.clear()

    def release(self) -> None:
        """Let everything through."""
        self._open.set()

    def close(self) -> None:
        """Cut it."""
        self._end.set()
        self._open.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._end.is_set():
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [near, far]
            self._start(lambda near=near, far=far: self._pump(near, far))  # type: ignore[misc]
            self._start(lambda near=near, far=far: self._pump(far, near))  # type: ignore[misc]

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                self._open.wait(30)
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def cable(port: int) -> Iterator[Cable]:
    """A relay that is cut at the end."""
    made = Cable(port)
    try:
        yield made
    finally:
        made.close()


def jpeg(image: Image) -> bytes:
    """The picture as a JPEG file."""
    return bytes(cv2.imencode(".jpg", image)[1])


def part(content: bytes) -> bytes:
    """One picture as MJPEG servers send it."""
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(content) + content + b"\r\n"


class MjpegRequest(BaseHTTPRequestHandler):
    """One connection to an MJPEG camera."""

    def send(self, content: bytes) -> None:
        self.wfile.write(content)
        self.wfile.flush()

    def begin(self) -> None:
        """The answer's head."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def mjpeg_camera(
    serve: Callable[[MjpegRequest, int], None], *, user: str = "", password: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that lets `serve(request, number of the connection)` answer; it hangs up when that returns.

    Yields:
        `127.0.0.1:PORT`, and a list to which every Authorization header is added.
    """
    logins: list[str] = []
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    n_served = 0

    class Request(MjpegRequest):
        def do_GET(self) -> None:
            nonlocal n_served
            given = self.headers.get("Authorization", "")
            logins.append(given)
            if user and given != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="line"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            n_served += 1
            with contextlib.suppress(OSError):
                serve(self, n_served - 1)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", logins
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def at_pace(fps: float, n_frames: int) -> Iterator[int]:
    """Numbers at a steady rate."""
    start_s = time.monotonic()
    for number in range(n_frames):
        time.sleep(max(0.0, start_s + number / fps - time.monotonic()))
        yield number
