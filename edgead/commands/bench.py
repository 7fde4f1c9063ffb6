"""`edgead bench`: latency per frame, of the engine alone and end to end."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.engines.onnx_runner import OnnxRunner
from edgead.engines.operator_times import OperatorTime, operator_times
from edgead.engines.tensorrt.runner import TensorRTRunner
from edgead.errors import ConfigError
from edgead.evaluation.segmentation import segmenter_of
from edgead.line.throughput import CamerasBench, bench_cameras, bench_images
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.stream.frame import Frame
from edgead.stream.scorer import Scorer
from edgead.tiled_runner import TiledRunner

if TYPE_CHECKING:
    from edgead.commands.roofline import Roofline

WARM_UP = 10


@dataclass(frozen=True)
class GpuBench:
    """Measurements of a TensorRT engine besides wall time.

    Attributes:
        compute_ms: GPU compute time per call, without copies and waiting.
        uses_graph: Whether each call was launched as one CUDA graph.
        graph_note: Reason why no CUDA graph was used.
        power_note: Reason why the engine may be slower than one built now.
    """

    compute_ms: list[float]
    uses_graph: bool
    graph_note: str
    power_note: str

    def to_json(self) -> dict[str, Any]:
        """The key `gpu` of `bench --json`."""
        return {
            "gpu_ms": percentiles(self.compute_ms),
            "cuda_graph": self.uses_graph,
            "cuda_graph_note": self.graph_note or None,
            "power_note": self.power_note or None,
        }


@dataclass(frozen=True)
class BenchResult:
    """Latencies of n frames in ms; `gpu` for TensorRT engines, `operators`, `cameras` and `roofline` on request.

    `multiply_adds` are of one input, of which a frame in tiles has several.
    """

    engine: str
    device: str
    engine_ms: list[float]
    end_to_end_ms: list[float]
    stages_ms: dict[str, list[float]]
    startup_s: float
    rss_mb: float
    multiply_adds: int
    inputs_per_frame: int = 1
    gpu: GpuBench | None = None
    operators: list[OperatorTime] | None = None
    cameras: CamerasBench | None = None
    roofline: Roofline | None = None

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `bench --json`."""
        return {
            "engine": self.engine,
            "device": self.device,
            "engine_ms": percentiles(self.engine_ms),
            "end_to_end_ms": percentiles(self.end_to_end_ms),
            "stages_ms": {name: percentiles(values) for name, values in self.stages_ms.items()},
            "fps": round(1e3 / statistics.mean(self.end_to_end_ms), 2),
            "rss_mb": self.rss_mb,
            "startup_s": self.startup_s,
            "multiply_adds": self.multiply_adds,
            "inputs_per_frame": self.inputs_per_frame,
            "gpu": self.gpu.to_json() if self.gpu else None,
            "cameras": self.cameras.to_json() if self.cameras else None,
            "operators": None if self.operators is None else [asdict(one) for one in self.operators],
            "roofline": None if self.roofline is None else self.roofline.to_json(),
        }


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99."""
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 95, 99)}


def bench(
    bundle: Bundle,
    runner: Runner,
    progress: Progress,
    *,
    n_frames: int,
    frame_size: tuple[int, int],
    startup_s: float,
    operators: bool = False,
    n_cameras: int = 1,
    with_roofline: bool = False,
    threads: int = 0,
) -> BenchResult:
    """Measure on the bundle's reference images, alternating engine-only and end-to-end runs on the same frames.

    Args:
        bundle: Verified bundle.
        runner: Open engine of the bundle.
        progress: Receives progress.
        n_frames: Number of measured frames, after a warm-up of 10.
        frame_size: `(height, width)` of the camera frames to imitate.
        startup_s: Seconds taken to open bundle and engine.
        operators: Whether to measure each operator of the engine's graph too, in separate runs.
        n_cameras: Number of cameras; above 1, a stream of this many is measured too.
        with_roofline: Whether to compare the layers of the bundle's float32 graph with the processor's measured peak too.
        threads: Number of CPU threads for that comparison; 0 = one per core this process may use.

    Raises:
        ConfigError: If `operators` is requested for an engine that ONNX Runtime does not run on the CPU.
    """
    engine = runner.engine if isinstance(runner, TiledRunner) else runner
    if operators and not (isinstance(engine, OnnxRunner) and engine.device == "cpu"):
        raise ConfigError(
            f"--operators measures engines of ONNX Runtime on the CPU, not {runner.engine_name} on {runner.device}.",
            hint="Add --engine reference; for TensorRT use `trtexec --loadEngine=... --dumpProfile`.",
        )
    frames = _frames(bundle, frame_size)
    nfa = bundle.manifest.nfa
    scorer = Scorer.of(bundle, runner)
    segmenter = segmenter_of(nfa, None) if nfa else None
    engine_ms, end_to_end_ms, prepare_ms, segment_ms = [], [], [], []
    tensorrt = engine if isinstance(engine, TensorRTRunner) else None
    gpu_ms = []
    for i in range(WARM_UP + n_frames):
        frame = Frame(frames[i % len(frames)], i, time.monotonic(), "bench")
        start = time.perf_counter()
        prepared = scorer.prepare(frame)
        middle = time.perf_counter()
        outputs = scorer.score([prepared])
        seen = time.perf_counter()
        if segmenter is not None:
            segmenter.segment(outputs)
        end = time.perf_counter()
        batch = prepared.engine_input[None]
        bare = time.perf_counter()
        runner.infer(batch)
        done = time.perf_counter()
        if i >= WARM_UP:
            prepare_ms.append((middle - start) * 1e3)
            segment_ms.append((end - seen) * 1e3)
            end_to_end_ms.append((end - start) * 1e3)
            engine_ms.append((done - bare) * 1e3)
            if tensorrt is not None:
                gpu_ms.append(tensorrt.gpu_ms or 0.0)
        progress.update("Measuring", i + 1, WARM_UP + n_frames)
    return BenchResult(
        engine=runner.engine_name,
        device=runner.device,
        engine_ms=engine_ms,
        end_to_end_ms=end_to_end_ms,
        stages_ms={"prepare": prepare_ms, "engine": engine_ms, **({"segment": segment_ms} if nfa else {})},
        startup_s=round(startup_s, 3),
        rss_mb=round(peak_rss_mb(), 1),
        multiply_adds=bundle.manifest.cost.multiply_adds,
        inputs_per_frame=1 if bundle.grid is None else bundle.grid.n_tiles,
        cameras=None
        if n_cameras == 1
        else bench_cameras(
            bundle,
            runner,
            progress,
            n_cameras=n_cameras,
            n_frames=max(10, n_frames // n_cameras),
            frame_size=frame_size,
        ),
        operators=_operators(engine, bundle, n_frames) if operators else None,
        roofline=_roofline(bundle, progress, threads) if with_roofline else None,
        gpu=GpuBench(gpu_ms, tensorrt.uses_graph, tensorrt.graph_note, tensorrt.power_note) if tensorrt else None,
    )


def _operators(runner: Runner, bundle: Bundle, n_frames: int) -> list[OperatorTime]:
    assert isinstance(runner, OnnxRunner)
    return operator_times(runner, bundle.reference()["images"][:1], runs=n_frames)


def _roofline(bundle: Bundle, progress: Progress, threads: int) -> Roofline:
    from edgead.commands.roofline import roofline  # imports onnx, which would count as memory of the engine

    return roofline(bundle, progress, threads=threads)


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _frames(bundle: Bundle, frame_size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    import cv2

    height, width = frame_size
    return [np.asarray(cv2.resize(image, (width, height)), np.uint8) for image in bench_images(bundle)]
