"""Measure the cost of the dashboard for a stream: `python tools/monitor_cost.py --frames 600 --json cost.json`.

Prints the time of the hand-over and of a whole frame with 0, 1 and 4 viewers, and the memory. Runs a paced stream of
1280×720 frames with a runner that loads the processor like a small engine, first without a monitor, then with a server
and each number of viewers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

import edgead
from edgead.heatmap import HeatmapScale
from edgead.manifest import ThresholdRecord
from edgead.runner import FakeRunner, Outputs
from edgead.stream.camera import Camera
from edgead.stream.consumers.consumer import Consumer, Item
from edgead.stream.control import Control
from edgead.stream.frame import Frame
from edgead.stream.monitoring.meter import StreamSummary
from edgead.stream.monitoring.monitor import Monitor
from edgead.stream.pipeline import RunOptions, run_stream
from edgead.stream.scorer import Scorer
from edgead.stream.sources.source import SourceReport
from edgead.stream.zone_monitor import RuleOptions, ZoneMonitor
from edgead.stream.zones import ZoneShape
from edgead.web.address import Address
from edgead.web.options import WebOptions
from edgead.web.running_stream import CameraFacts, RunningStream, StreamFacts, ZoneFacts
from edgead.web.server import WebServer
from edgead.web.token import open_token

SIZE = (720, 1280)
INPUT = (256, 256)
TOKEN = "only for this measurement"
SCALE = HeatmapScale(0.05, 0.3, 0.5)
THRESHOLD = ThresholdRecord(value=0.3, false_alarm_rate=0.01, certified=True, interval=None, n_images=99)


class BusyRunner(FakeRunner):
    """Scores brightness, and multiplies matrices for some milliseconds as an engine would."""

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        weights = np.ones((768, 768), np.float32)
        for _ in range(2):
            weights = weights @ weights * np.float32(1e-3)
        return super().infer(batch, class_bias)


class PacedSource:
    """Live camera with noisy frames."""

    name = "measured"
    live = paced = True

    def __init__(self, n: int, fps: float) -> None:
        self.fps: float | None = fps
        self.report = SourceReport()
        self._n = n
        noise = np.random.default_rng(0).integers(60, 200, (*SIZE, 3), np.uint8)
        smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)
        self._pictures = [np.ascontiguousarray(np.roll(smooth, 40 * shift, 1)) for shift in range(4)]

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        """Yield the requested number of frames at even intervals."""
        assert self.fps is not None
        start_s = time.monotonic()
        for index in range(self._n):
            if stop.wait(max(0.0, start_s + index / self.fps - time.monotonic())):
                return
            yield Frame(self._pictures[index % 4], index, time.monotonic(), self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class TimedSink:
    """A sink as it is, with the time that `wants` takes on the inference thread and `accept` on its own."""

    lossless = False

    def __init__(self, sink: Monitor) -> None:
        self.name = sink.name
        self.wants_us: list[float] = []
        self.accept_us: list[float] = []
        self._sink = sink

    def wants(self, item: Item) -> bool:
        start = time.perf_counter()
        wanted = self._sink.wants(item)
        self.wants_us.append((time.perf_counter() - start) * 1e6)
        return wanted

    def accept(self, item: Item) -> None:
        start = time.perf_counter()
        self._sink.accept(item)
        self.accept_us.append((time.perf_counter() - start) * 1e6)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class EmptyStore:
    """No alerts and no events."""

    def events(self, after: int = 0, limit: int = 100) -> list[object]:
        """None."""
        return []


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=600, help="judged per row")
    parser.add_argument("--fps", type=float, default=30.0, help="of the camera")
    parser.add_argument("--viewers", type=int, nargs="+", default=[0, 1, 4])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [_row("no monitor", _run(arguments.frames, arguments.fps, []), None, 0)]
    for viewers in arguments.viewers:
        rows.append(_watched(arguments.frames, arguments.fps, viewers))
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    print(f"history of a zone: {Monitor({'line': ['picture']}).history_bytes / 1e3:.0f} kB")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


def _run(frames: int, fps: float, sinks: Sequence[Consumer], monitor: Monitor | None = None) -> StreamSummary:
    watch = ZoneMonitor(ZoneShape(), (8, 8), (0.1,) * 99, THRESHOLD, RuleOptions())
    camera = Camera("line", PacedSource(frames, fps), [watch], pixel_threshold=0.3)
    return run_stream(
        [camera],
        Scorer(BusyRunner(INPUT), image_size=INPUT),
        sinks,
        RunOptions(queue_size=4, fallback_fps=fps),
        stop=threading.Event(),
        on_status=None if monitor is None else monitor.update,
    )


def _watched(frames: int, fps: float, viewers: int) -> dict[str, str]:
    monitor = Monitor({"line": ["picture"]})
    sink = TimedSink(monitor)
    camera = CameraFacts("line", "measured", None, SCALE, (ZoneFacts(ZoneShape(), THRESHOLD),))
    facts = StreamFacts("", edgead.__version__, "", "", (), "fake", "cpu", (camera,))
    stream = RunningStream(monitor, Control(), EmptyStore(), facts)  # type: ignore[arg-type]
    token, _ = open_token(Path(tempfile.gettempdir()), {"EDGEAD_WEB_TOKEN": TOKEN})
    with WebServer(Address("127.0.0.1", 0), stream, token, WebOptions()) as server, ExitStack() as stack:
        for _ in range(viewers):
            thread = threading.Thread(target=_look, args=(server.port,), daemon=True)
            thread.start()
            stack.callback(thread.join, 5.0)
        summary = _run(frames, fps, [sink], monitor)
        drawn = server.pictures.n_drawn
        server._context.is_closing = True
    return _row(f"{viewers} viewers", summary, sink, drawn)


def _look(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/api/v1/cameras/line/live?heatmap=1", headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    while response.read(65536):
        pass
    connection.close()


def _row(name: str, summary: StreamSummary, sink: TimedSink | None, drawn: int) -> dict[str, str]:
    end_to_end, engine, delay = summary.end_to_end_ms, summary.engine_ms, summary.delay_ms
    assert end_to_end is not None
    assert engine is not None
    assert delay is not None
    row = {
        "row": name,
        "judged": str(summary.n_processed),
        "dropped": str(summary.n_dropped),
        "engine_ms": f"{engine.p50:.2f}/{engine.p95:.2f}",
        "end_to_end_ms": f"{end_to_end.p50:.2f}/{end_to_end.p95:.2f}",
        "delay_ms": f"{delay.p50:.2f}/{delay.p95:.2f}",
    }
    if sink is not None:
        row["wants_us"] = f"{np.median(sink.wants_us):.1f}"
        row["accept_us"] = f"{np.median(sink.accept_us):.0f}/{np.percentile(sink.accept_us, 95):.0f}"
        row["drawn"] = str(drawn)
    return row


if __name__ == "__main__":
    main()
