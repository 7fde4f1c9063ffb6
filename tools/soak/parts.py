"""Parts of the soak test: camera, broker, receiver, small disk and the stream, each a real process or server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from edgead.stream.delivery.signature import HEADER, is_genuine

ADDRESS = "127.0.0.1"
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


class Part:
    """A process that can be killed and started again; its output goes to a file.

    Args:
        name: Name of the output file.
        command: Command and arguments.
        folder: Folder for the output.
        environment: More of it.
    """

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._command = command
        self._log = folder / f"{name}.log"
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=self._output(log), stderr=log, text=True,
                env=self._environment, cwd=ROOT,
            )  # fmt: skip
        self._started()

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self._end(signal.SIGKILL)

    def stop(self, timeout_s: float = 30.0) -> int | None:
        """SIGTERM, and SIGKILL for one that does not go; the exit status."""
        self._end(signal.SIGTERM, timeout_s)
        return self.returncode

    def rss_mb(self) -> float | None:
        """Resident memory; None while it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        found = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(found[0].split()[1]) / 1e3 if found else None

    def _output(self, log: IO[str]) -> IO[str] | int:
        return log

    def _started(self) -> None:
        return None

    def _end(self, number: signal.Signals, timeout_s: float = 10.0) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class Camera(Part):
    """The RTSP server, which obeys words like `freeze`; always on the same port."""

    def __init__(self, name: str, folder: Path, *, fps: float, python: str) -> None:
        self.port = free_port()
        command = [python, str(ROOT / "tools" / "rtsp_server.py"), "--port", str(self.port), "--fps", f"{fps:g}"]
        super().__init__(name, command, folder, {"PYTHONPATH": str(ROOT)})
        self.url = f"rtsp://{ADDRESS}:{self.port}/live"

    def say(self, word: str) -> None:
        """Give a command and wait until it holds."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def _output(self, log: IO[str]) -> IO[str] | int:
        return subprocess.PIPE

    def _started(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("ready"):
            raise SystemExit(f"The camera did not start: see {self._log}.")


class Broker(Part):
    """Mosquitto, which keeps what it took over a kill."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        store = folder / "broker"
        store.mkdir(exist_ok=True)
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} {ADDRESS}\nallow_anonymous true\npersistence true\nuser root\n"
            f"persistence_location {store}/\nautosave_on_changes true\nautosave_interval 1\nmax_queued_messages 100000\n"
        )
        binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if binary is None:
            raise SystemExit("mosquitto is not installed: see tools/system_packages.sh.")
        super().__init__("broker", [binary, "-c", str(config)], folder)

    def _started(self) -> None:
        wait_for_port(self.port)


def wait_for_port(port: int, timeout_s: float = 20.0) -> None:
    """Wait until a server listens."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex((ADDRESS, port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"No server listens on {ADDRESS}:{port} after {timeout_s:g} s.")


@dataclass(frozen=True)
class Received:
    """One event as it arrived.

    Attributes:
        at_s: Monotonic time.
        key, sequence: Key and sequence number of the event.
        kind: Kind of the event.
    """

    at_s: float
    key: str
    sequence: int
    kind: str


def received(payload: bytes) -> Received:
    """Read an event."""
    event: dict[str, Any] = json.loads(payload)
    return Received(time.monotonic(), event["key"], event["sequence"], event["kind"])


class Receiver:
    """An HTTP server that takes signed events, or answers 500 while `is_broken`."""

    def __init__(self, secret: str) -> None:
        self.is_broken = False
        self.taken: list[Received] = []
        self.n_refused = 0
        self.n_forged = 0
        self._secret = secret
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((ADDRESS, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self._server.server_address[1]}/events"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(body, self.headers)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return None

        return Handler

    def take(self, body: bytes, headers: Any) -> int:
        """The status to answer with."""
        with self._lock:
            if self.is_broken:
                self.n_refused += 1
                return 500
            if not is_genuine(self._secret, body, headers.get(HEADER, ""), time.time()):
                self.n_forged += 1
                return 401
            self.taken.append(received(body))
            return 200


class Subscriber:
    """Takes every event from the broker, with a session that outlives the broker's death."""

    def __init__(self, port: int) -> None:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        self.taken: list[Received] = []
        self.status: list[tuple[float, str, str]] = []
        self._port = port
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="soak-observer", clean_session=False
        )  # fmt: skip
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = self._connected
        self._client.on_message = self._got

    def start(self) -> None:
        self._client.connect(ADDRESS, self._port, keepalive=5)
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, *rest: object) -> None:
        client.subscribe("edgead/#", qos=1)

    def _got(self, client: Any, data: object, message: Any) -> None:
        if message.topic.endswith("/status"):
            self.status.append((time.monotonic(), message.topic, message.payload.decode()))
            return
        try:
            self.taken.append(received(message.payload))
        except (ValueError, KeyError, TypeError):
            self.status.append((time.monotonic(), message.topic, repr(message.payload[:200])))


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """A mounted file system of its own; only root can make one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit("The soak fills a disk of its own, and only root can mount one.")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def python_with_gi() -> str:
    """An interpreter that the RTSP server runs on."""
    for python in (sys.executable, "/usr/bin/python3"):
        check = "import gi, cv2, numpy; gi.require_version('GstRtspServer', '1.0')"
        if subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
            return python
    raise SystemExit("No Python here has gi and GStreamer's RTSP server: see tools/system_packages.sh.")
