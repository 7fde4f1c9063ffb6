"""Load the dashboard of a running stream: `EDGEAD_WEB_TOKEN=… python -m tools.web_load URL [PID]`.

Viewers send as many requests as the page: the overview, four images per second of every camera; the view of one camera,
ten per second with the heatmap. For 0, 1 and 4 viewers of each kind it prints the answers by status, the wait for an
image, the judged frames per second with their delay from capture to verdict, and the cores used by process PID.
"""

from __future__ import annotations

import copy
import http.client
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np

SECONDS = 20.0
MEAN = ("edgead_end_to_end_seconds_sum", "edgead_end_to_end_seconds_count")


class Client:
    """Asks over one connection at a time."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(self._place, timeout=10)
        body = json.dumps({"token": os.environ["EDGEAD_WEB_TOKEN"], "name": "load"})
        asked = {"Content-Type": "application/json", "X-Edgead": "1"}
        self._connection.request("POST", "/api/v1/session", body, asked)
        answer = self._connection.getresponse()
        answer.read()
        self._headers = {"Cookie": answer.headers.get("Set-Cookie", "").partition(";")[0]}

    def ask(self, path: str) -> tuple[int, bytes]:
        # the server closes a connection that has been quiet for five seconds
        for _ in range(2):
            try:
                self._connection.request("GET", path, headers=self._headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()
        return 0, b""

    def again(self) -> Client:
        """The same person over another connection."""
        other = copy.copy(self)
        other._connection = http.client.HTTPConnection(self._place, timeout=10)
        return other

    def samples(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = self.ask("/metrics")[1].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


class Load:
    """Viewers for a while, and what they got."""

    def __init__(self, url: str, cameras: list[str]) -> None:
        self._url = url
        self._cameras = cameras
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.waits_ms: list[float] = []

    def watch(self, view: str, end_s: float) -> None:
        """Be one viewer, logged in; the page has several connections, so it asks side by side."""
        lanes = self._cameras if view == "overview" else self._cameras[:1]
        rate = 4.0 if view == "overview" else 10.0
        query = "heatmap=0&width=640" if view == "overview" else "heatmap=1&width=1280"
        client = Client(self._url)
        wanted = [(f"/api/v1/cameras/{name}/picture.jpg?{query}", rate) for name in lanes] + [("/api/v1/cameras", 1.0)]
        threads = [threading.Thread(target=self._repeat, args=(client.again(), *one, end_s)) for one in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _repeat(self, client: Client, path: str, rate: float, end_s: float) -> None:
        while (began_s := time.monotonic()) < end_s:
            status, _ = client.ask(path)
            took_s = time.monotonic() - began_s
            with self._lock:
                self.statuses[status] += 1
                if "picture" in path:
                    self.waits_ms.append(took_s * 1e3)
            time.sleep(max(0.0, 1 / rate - took_s))


def cases() -> Iterator[tuple[str, int]]:
    yield "nobody", 0
    for view in ("overview", "camera"):
        for viewers in (1, 4):
            yield view, viewers


def measure(url: str, view: str, viewers: int, pid: int | None) -> dict[str, object]:
    """One line of the table."""
    client = Client(url)
    cameras = [camera["name"] for camera in json.loads(client.ask("/api/v1/cameras")[1])]
    load = Load(url, cameras)
    before, cpu_s, began_s = [client.samples(name) for name in MEAN], cpu_seconds(pid), time.monotonic()
    threads = [threading.Thread(target=load.watch, args=(view, began_s + SECONDS)) for _ in range(viewers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(max(0.0, began_s + SECONDS - time.monotonic()))
    took_s = time.monotonic() - began_s
    total_s, n = (after - old for after, old in zip([client.samples(name) for name in MEAN], before, strict=True))
    return {
        "view": view, "viewers": viewers, "cameras": len(cameras),
        "answers": dict(sorted(load.statuses.items())),
        "wait_ms": [round(float(value), 1) for value in np.percentile(load.waits_ms or [0.0], (50, 95))],
        "judged_fps": round(n / took_s, 1), "delay_ms": round(1e3 * total_s / max(n, 1), 2),
        "cores": None if pid is None else round((cpu_seconds(pid) - cpu_s) / took_s, 3),
    }  # fmt: skip


def cpu_seconds(pid: int | None) -> float:
    """User and system time of a process."""
    if pid is None:
        return 0.0
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(url: str, pid: int | None) -> None:
    for view, viewers in cases():
        print(json.dumps(measure(url, view, viewers, pid)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
