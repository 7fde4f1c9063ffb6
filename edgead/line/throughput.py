"""Throughput and latency of several cameras on one engine, compared with the bare engine on the same frames."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.imaging import Image
from edgead.line.cameras import make_camera
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.stream.frame import Frame
from edgead.stream.monitoring.meter import StreamSummary
from edgead.stream.pipeline import RunOptions, run_stream
from edgead.stream.scorer import Scorer
from edgead.stream.sources.memory import MemorySource

ROUNDS = 7
# Share of the maximum throughput at which latency is measured: a line does not run at its limit.
LOAD = 0.7


@dataclass(frozen=True)
class CamerasBench:
    """Throughput in frames/s and latency in ms.

    Attributes:
        cameras: Number of cameras.
        engine_fps: Throughput of the bare engine on batches of one frame per camera.
        stream_fps: Throughput of the whole stream, from frames in memory to alert decisions.
        ratio: Median of stream / engine over alternating rounds.
        load: Share of `stream_fps` at which latency was measured.
        delay_ms: Latency from capture to verdict at that load, p50 and p95 over all cameras.
        delay_when_one_dies_ms: Latency of the other cameras when one of them fails half-way.
    """

    cameras: int
    engine_fps: float
    stream_fps: float
    ratio: float
    load: float
    delay_ms: dict[str, float]
    delay_when_one_dies_ms: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The key `cameras` of `bench --json`."""
        return asdict(self)


def bench_images(bundle: Bundle) -> NDArray[np.uint8]:
    """Images of the bundle to imitate camera frames with, `(N, h, w, 3)`, uint8, RGB; of one that aligns, whole parts."""
    return bundle.overviews() if bundle.aligner is not None else bundle.reference()["images"]


def bench_cameras(
    bundle: Bundle, runner: Runner, progress: Progress, *, n_cameras: int, n_frames: int, frame_size: tuple[int, int]
) -> CamerasBench:
    """Measure on the bundle's reference images; engine and stream alternate.

    Args:
        bundle: Verified bundle.
        runner: Open engine of the bundle.
        progress: Receives progress.
        n_cameras: Number of cameras that share the engine.
        n_frames: Number of frames per camera and round.
        frame_size: `(height, width)` of the camera frames to imitate.
    """
    import cv2

    height, width = frame_size
    images = [np.asarray(cv2.resize(image, (width, height)), np.uint8) for image in bench_images(bundle)]
    engine, stream = [], []
    for done in range(1 + ROUNDS):
        engine.append(_engine_fps(bundle, runner, images, n_cameras, n_frames))
        sources = [MemorySource(images, n_frames) for _ in range(n_cameras)]
        stream.append(_run(bundle, runner, sources).fps)
        progress.update("Measuring", done + 1, 1 + ROUNDS)
    ratio = statistics.median(one / bare for one, bare in zip(stream[1:], engine[1:], strict=True))
    stream_fps = statistics.median(stream[1:])
    fps = LOAD * stream_fps / n_cameras
    return CamerasBench(
        cameras=n_cameras,
        engine_fps=round(statistics.median(engine[1:]), 2),
        stream_fps=round(stream_fps, 2),
        ratio=round(ratio, 3),
        load=LOAD,
        delay_ms=_delay(bundle, runner, images, n_cameras, fps, n_frames, dies=False),
        delay_when_one_dies_ms=_delay(bundle, runner, images, n_cameras, fps, n_frames, dies=True),
    )


def _engine_fps(bundle: Bundle, runner: Runner, images: Sequence[Image], n_cameras: int, n_frames: int) -> float:
    scorer = Scorer.of(bundle, runner)
    small = [scorer.prepare(Frame(image, 0, 0.0, "bench")).engine_input for image in images]
    batch = np.stack([small[i % len(small)] for i in range(n_cameras)])
    bias = bundle.class_bias([None] * n_cameras)
    runner.infer(batch, bias)
    start = time.perf_counter()
    for _ in range(n_frames):
        runner.infer(batch, bias)
    return n_cameras * n_frames / (time.perf_counter() - start)


def _run(bundle: Bundle, runner: Runner, sources: Sequence[MemorySource]) -> StreamSummary:
    cameras = [
        make_camera(CameraConfig(name=f"camera{index}", source="memory"), source, bundle, runner, Config())
        for index, source in enumerate(sources)
    ]
    scorer = Scorer.of(bundle, runner)
    return run_stream(
        cameras, scorer, [], RunOptions(queue_size=4, fallback_fps=25.0), stop=threading.Event()
    )  # fmt: skip


def _delay(
    bundle: Bundle, runner: Runner, images: Sequence[Image], n_cameras: int, fps: float, n_frames: int, *, dies: bool
) -> dict[str, float]:
    """Latency of all cameras, or of all but the first, which fails half-way."""
    sources = [
        MemorySource(
            images,
            n_frames // 2 if dies and index == 0 else n_frames,
            fps=fps,
            offset_s=index / fps / n_cameras,
            fails=dies and index == 0,
        )
        for index in range(n_cameras)
    ]
    summary = _run(bundle, runner, sources)
    delays = [one.delay_ms for one in summary.cameras[1 if dies else 0 :] if one.delay_ms is not None]
    return {
        "p50": round(statistics.median(delay.p50 for delay in delays), 2),
        "p95": round(max(delay.p95 for delay in delays), 2),
    }
