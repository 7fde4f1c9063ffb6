"""HTTP streams from a real server that goes away and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import pytest

from edgead.errors import SourceError
from edgead.stream.frame import Frame
from edgead.stream.sources.registry import source_from_uri

from .fakes import SOURCE_OPTIONS, plain

pytestmark = pytest.mark.timeout(40)


@contextmanager
def mjpeg_server(frames_per_connection: list[int]) -> Iterator[str]:
    """Serve so many frames per connection and hang up; further connections get 503."""
    remaining = list(frames_per_connection)
    _, encoded = cv2.imencode(".jpg", plain(120))
    part = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + encoded.tobytes() + b"\r\n"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not remaining:
                self.send_error(503)
                return
            n_frames = remaining.pop(0)
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            self.wfile.write(part * n_frames)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://operator:secret@127.0.0.1:{server.server_port}/video.mjpg"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_stream_is_taken_up_again_after_a_disconnect(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Frames of both connections come, then the budget is spent; no text shows the password."""
    frames: list[Frame] = []
    with mjpeg_server([6, 6]) as url:
        source = source_from_uri(url, SOURCE_OPTIONS)
        with source, pytest.raises(SourceError, match="was lost") as caught:
            frames.extend(source.frames(threading.Event()))
    assert len(frames) >= 8
    assert frames[0].image.shape == (48, 64, 3)
    assert source.report.restarts == SOURCE_OPTIONS.max_restarts
    texts = [caught.value.message, caught.value.hint, repr(source), source.name, frames[0].source, caplog.text]
    assert not [text for text in texts if "secret" in text]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_unreachable_url_says_what_to_check(scheme: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An address where nobody listens fails within the time limit, names itself without the password, quietly."""
    source = source_from_uri(f"{scheme}://u:secret@127.0.0.1:9/live", SOURCE_OPTIONS)
    with pytest.raises(SourceError, match=r"\*\*\*@127\.0\.0\.1:9/live cannot be opened") as caught:
        source.__enter__()
    assert caught.value.retryable
    assert "secret" not in caught.value.message + caught.value.hint
    assert capfd.readouterr().err == ""


def test_silent_server_hits_the_open_limit() -> None:
    """A server that accepts and says nothing is given up after the time limit."""
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = source_from_uri(f"http://127.0.0.1:{listener.getsockname()[1]}/", SOURCE_OPTIONS)
        start = time.monotonic()
        with pytest.raises(SourceError, match="cannot be opened"):
            source.__enter__()
        assert time.monotonic() - start < 3 * SOURCE_OPTIONS.open_timeout_s
