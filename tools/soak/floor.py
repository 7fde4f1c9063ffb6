"""Factory floor of the soak test: all parts together, observed from outside."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import yaml
from typing_extensions import Self

from edgead.config.stream import SpoolConfig
from edgead.stream.spool.options import SpoolOptions
from edgead.stream.spool.spool import Spool
from tools.soak.parts import ADDRESS, Broker, Camera, Part, Received, Receiver, Subscriber, free_port

TOKEN = "soak-token-of-this-machine-alone"
SECRET = "soak-secret"
SAMPLE_S = 0.5
SPOOL = SpoolConfig(min_free_mb=20.0, evidence_mb=50.0)  # well within the disk


class Floor:
    """Two cameras, a broker, a receiver and the stream over them.

    Args:
        folder: Folder for logs and configuration.
        alerts: Folder of the spool, on a disk of its own.
        bundle: Bundle that judges the frames.
        fps: Frame rate of the cameras.
        python: Interpreter with GStreamer, for the cameras.
    """

    def __init__(self, folder: Path, alerts: Path, bundle: Path, *, fps: float, python: str) -> None:
        self.alerts = alerts
        self.folder = folder
        self.camera = Camera("camera", folder, fps=fps, python=python)
        self.other = Camera("other-camera", folder, fps=fps, python=python)
        self.broker = Broker(folder)
        self.receiver = Receiver(SECRET)
        self.subscriber = Subscriber(self.broker.port)
        self._port = free_port()
        config = folder / "soak.yaml"
        config.write_text(yaml.safe_dump(self._config(fps), sort_keys=False))
        self.stream = Part(
            "stream",
            [
                sys.executable, "-m", "edgead", "stream", str(bundle), "--engine", "reference", "--config", str(config),
                "--alerts", str(alerts), "--web", f"{ADDRESS}:{self._port}",
            ],
            folder,
            {"EDGEAD_WEB_TOKEN": TOKEN, "SOAK_SECRET": SECRET},
        )  # fmt: skip
        self.memory: list[tuple[float, float]] = []
        self.starts: list[float] = []
        self._judged: list[tuple[float, dict[str, float]]] = []
        self._marked_s = 0.0
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        for part in (self.camera, self.other, self.broker, self.receiver):
            part.start()
        self.subscriber.start()
        self.start_stream()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.stream.stop()
        if self._watcher.ident is not None:
            self._watcher.join()
        self.subscriber.stop()
        for part in (self.camera, self.other, self.broker, self.receiver):
            part.stop()

    def start_stream(self) -> None:
        self.starts.append(time.monotonic())
        self.stream.start()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Until both cameras have been judged; ends the soak where that does not happen."""
        until_s = time.monotonic() + timeout_s
        self.mark()
        while time.monotonic() < until_s and self.stream.is_running:
            if self.judged_since_mark("line") and self.judged_since_mark("other"):
                return
            time.sleep(0.2)
        raise SystemExit(f"The stream does not judge both cameras: see {self.folder / 'stream.log'}.")

    def break_receiver(self, is_broken: bool) -> None:
        self.receiver.is_broken = is_broken

    # What the stream shows

    def mark(self) -> None:
        """From here on is new."""
        self._marked_s = time.monotonic()

    def judged_since_mark(self, camera: str) -> bool:
        """Whether a frame of a camera was judged between two checks after the mark."""
        new = [judged.get(camera, 0.0) for at_s, judged in self._judged if at_s > self._marked_s]
        return len(new) > 1 and new[-1] > new[0]

    def longest_gap_s(self, camera: str, since_s: float) -> float:
        """Without a judged frame of a camera, as far as the looks can tell."""
        looks = [(at_s, judged.get(camera, 0.0)) for at_s, judged in self._judged if at_s >= since_s]
        longest, last_s = 0.0, since_s
        for (_, before), (at_s, count) in itertools.pairwise(looks):
            longest = max(longest, at_s - last_s)
            if count > before:
                last_s = at_s
        return longest

    def has_new(self, taken: Sequence[Received]) -> bool:
        return bool(taken) and taken[-1].at_s > self._marked_s

    def said(self, kind: str) -> bool:
        """Whether an event of a kind came since the mark; the receiver hears of everything."""
        return any(
            one.kind == kind and one.at_s > self._marked_s for one in (*self.receiver.taken, *self.subscriber.taken)
        )

    def depth(self, sink: str) -> int:
        """Events that a sink has still to get; 0 while the stream does not answer."""
        sinks = (self._get("/api/v1/info") or {}).get("sinks", [])
        return sum(one["depth"] for one in sinks if one["name"].startswith(sink))

    def evidence_ok(self) -> bool:
        return bool(((self._get("/api/v1/info") or {}).get("spool") or {}).get("evidence_ok", False))

    def has_new_pictures(self) -> bool:
        marked = time.time() - (time.monotonic() - self._marked_s)
        return any(path.stat().st_mtime > marked for path in self.alerts.glob("*-snapshot.jpg"))

    def written(self) -> dict[int, str]:
        """Key of every event in the spool by its number; the stream must have ended."""
        written: dict[int, str] = {}
        with Spool(self.alerts, SpoolOptions(**SPOOL.model_dump())) as spool:
            while page := spool.events(after=max(written, default=0), limit=1000):
                written |= {event.sequence: event.key for event in page}
        return written

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            now_s = time.monotonic()
            if (memory := self.stream.rss_mb()) is not None:
                self.memory.append((now_s, memory))
            cameras = self._get("/api/v1/cameras")
            if cameras is not None:
                self._judged.append((now_s, {one["name"]: one["n_judged"] for one in cameras}))

    def _get(self, path: str) -> Any:
        request = Request(f"http://{ADDRESS}:{self._port}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
        try:
            with urlopen(request, timeout=2) as answer:
                return json.load(answer)
        except (URLError, OSError, ValueError):
            return None

    def _config(self, fps: float) -> dict[str, Any]:
        alerts = {"open_frames": 2, "window_frames": 3, "close_frames": 3}
        stream = {
            "open_timeout_s": 3.0,
            "read_timeout_s": 2.0,
            "max_restarts": 1000,
            "record_fps": fps,
            "frozen_s": 4.0,
        }
        return {
            "alerts": alerts,
            "stream": stream,
            "spool": SPOOL.model_dump(),
            "clips": {"seconds_before": 1.0, "seconds_after": 1.0},
            "cameras": [
                {"name": "line", "source": self.camera.url},
                {"name": "other", "source": self.other.url},
            ],
            "sinks": [
                {"kind": "mqtt", "name": "mqtt", "host": ADDRESS, "port": self.broker.port, "retry_max_s": 2.0},
                {
                    "kind": "webhook", "name": "webhook", "url": self.receiver.url, "secret_env": "SOAK_SECRET",
                    "retry_max_s": 2.0,
                },
                {"kind": "jsonl", "name": "jsonl", "path": str(self.folder / "events.jsonl")},
            ],
            "engine": {"threads": max(1, (os.cpu_count() or 2) - 1)},
        }  # fmt: skip
