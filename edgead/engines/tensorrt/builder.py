"""An ONNX graph as a serialized TensorRT engine.

Checked against the names and signatures of the bindings 8.6 to 11.4 and run on fakes with those signatures; see
`tests/engines/tensorrt`. Whatever needs the library itself is unchecked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgead.engines.tensorrt.decision import BuildStrategy
from edgead.engines.tensorrt.layers import LayerInfo, layers_of
from edgead.engines.tensorrt.messages import quoted, shared_log, shared_logger
from edgead.engines.tensorrt.options import BatchRange, BuildOptions, workspace_limit
from edgead.engines.tensorrt.parsing import ParsedNetwork, network_from_onnx
from edgead.engines.tensorrt.placement import check_dla, layers_of_nodes, pin_float32, place_on_dla
from edgead.engines.tensorrt.progress import TASK, BuildProgress, attach_monitor, run_cancellable
from edgead.engines.tensorrt.timing_cache import attach_cache, cache_path, save_cache
from edgead.errors import EngineBuildError

if TYPE_CHECKING:
    import tensorrt as trt

_MEMORY_WORDS = ("out of memory", "outofmemory", "insufficient memory", "bad_alloc", "failed to allocate")


@dataclass(frozen=True)
class BuiltPlan:
    """A serialized engine with the log and the layers of its build.

    Attributes:
        plan: Serialized engine, for this machine only.
        layers: Type and precision of every fused layer.
        log: TensorRT's messages, oldest first.
        notes: Deviations from the request and other remarks, one sentence each.
        build_s: Build time in seconds.
    """

    plan: bytes
    layers: tuple[LayerInfo, ...]
    log: tuple[str, ...]
    notes: tuple[str, ...]
    build_s: float


@dataclass
class _Job:
    """State shared by the steps of one build."""

    options: BuildOptions
    machine: dict[str, str]
    memory_bytes: int
    notes: list[str] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def note(self, text: str) -> None:
        if text:
            self.notes.append(text)


def build_plan(
    graph: bytes,
    how: BuildStrategy,
    options: BuildOptions,
    *,
    kept: Collection[str],
    machine: dict[str, str],
    memory_bytes: int,
    progress: BuildProgress,
) -> BuiltPlan:
    """Build a serialized engine.

    Args:
        graph: Serialized ONNX model of the variant that `how` requires; the first axis of every input is the batch.
        how: Build strategy from `decide`.
        options: Batch, memory, accelerator and caches.
        kept: Names of the graph nodes that must compute in float32; pinned if the graph's own types do not bind
            TensorRT, and never placed on the DLA.
        machine: Conditions that kernel timings depend on (`machine_state`); the key of the timing cache.
        memory_bytes: GPU memory, of which the workspace is a part.
        progress: Receives TensorRT's progress, or one note a minute from a version that reports none.

    Raises:
        EngineBuildError: If TensorRT rejects the graph, an option is not available here, or TensorRT returns no engine;
            quotes TensorRT's last errors and carries the whole log in `log`.
        KeyboardInterrupt: After Ctrl-C, once TensorRT has stopped if it supports that.
    """
    started = time.monotonic()
    job = _Job(options, machine, memory_bytes)
    with shared_log().recording() as lines:
        try:
            plan, layers = _build(graph, how, kept, job, progress, lines)
        except EngineBuildError as error:
            raise LoggedBuildError(error.message, hint=error.hint, log=tuple(lines)) from error
    return BuiltPlan(plan, tuple(layers), tuple(lines), tuple(job.notes), round(time.monotonic() - started, 3))


class LoggedBuildError(EngineBuildError):
    """A failed build with TensorRT's whole log; the caller writes `log` to a file."""

    def __init__(self, message: str, *, hint: str, log: tuple[str, ...]) -> None:
        super().__init__(message, hint=hint)
        self.log = log


def _build(
    graph: bytes, how: BuildStrategy, kept: Collection[str], job: _Job, progress: BuildProgress, lines: deque[str]
) -> tuple[bytes, list[LayerInfo]]:
    parsed = network_from_onnx(graph, how.network_flags)
    builder: trt.Builder = parsed.builder
    config: trt.IBuilderConfig = builder.create_builder_config()
    configure(config, how, job.options, workspace_limit(job.options.workspace_bytes, job.memory_bytes))
    _add_profile(parsed, config, job.options.batch)
    must_know = how.needs_pins or job.options.dla_core is not None
    flow = layers_of_nodes(parsed.layers, kept, parsed.node_names) if must_know else frozenset()
    if how.needs_pins and flow:
        job.note(f"{pin_float32(parsed.layers, flow)} layers are pinned to float32.")
    if job.options.dla_core is not None:
        check_dla(builder, job.options.dla_core, how.precision, job.options.batch)
        placed, before = place_on_dla(config, parsed.layers, job.options.dla_core, flow)
        job.note(f"{placed} of the {before} layers before the flow run on DLA core {job.options.dla_core}.")
    path = cache_path(job.options.timing_cache, job.machine) if job.options.timing_cache else None
    if path is not None:
        job.note(attach_cache(config, path, job.machine))
    can_stop = attach_monitor(config, progress, job.cancelled)
    if not can_stop:
        progress.note("This TensorRT reports no progress; building takes minutes on a small board.")
    progress.update(TASK, 0, 1)
    plan = run_cancellable(lambda: _serialized(parsed, config, lines), job.cancelled, progress, can_stop=can_stop)
    if path is not None:
        job.note(save_cache(config, path, job.machine))
    return plan, _layers(plan, job)


def configure(config: trt.IBuilderConfig, how: BuildStrategy, options: BuildOptions, workspace_bytes: int) -> None:
    """Set every builder option that does not depend on the network."""
    import tensorrt as trt

    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in how.builder_flags:
        config.set_flag(flag)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.version_compatible:
        if not hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
            raise EngineBuildError(
                f"TensorRT {trt.__version__} cannot build version-compatible engines; 8.6 and later can.",
                hint="Leave out --version-compatible.",
            )
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _add_profile(parsed: ParsedNetwork, config: trt.IBuilderConfig, batch: BatchRange) -> None:
    """One optimization profile with the batch range on the first axis of every input that has one."""
    builder: trt.Builder = parsed.builder
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    needed = False
    for tensor in parsed.inputs:
        first, *rest = tuple(tensor.shape)
        if any(size < 0 for size in rest):
            raise EngineBuildError(
                f"Only the batch axis may be dynamic; the input {tensor.name!r} has the shape {(first, *rest)}.",
                hint="Export the bundle again: edgead export.",
            )
        if first < 0:
            needed = True
            profile.set_shape(tensor.name, (batch.least, *rest), (batch.tuned, *rest), (batch.most, *rest))
        elif not batch.least <= first <= batch.most:
            raise EngineBuildError(
                f"The graph takes {first} images per call, but {batch.least} to {batch.most} were requested.",
                hint="Export the bundle again: its graph will take any number of images.",
            )
    if needed and config.add_optimization_profile(profile) < 0:
        raise EngineBuildError(
            f"TensorRT refused the batch range {batch}.", hint="Build for one fixed number of images."
        )


def _serialized(parsed: ParsedNetwork, config: trt.IBuilderConfig, lines: deque[str]) -> bytes:
    import tensorrt as trt

    builder: trt.Builder = parsed.builder
    try:
        plan = builder.build_serialized_network(parsed.network, config)
    except (RuntimeError, MemoryError, TypeError) as error:
        raise EngineBuildError(
            f"TensorRT {trt.__version__} failed: {error}. {quoted(lines)}", hint=_hint(lines)
        ) from error
    if plan is None:
        raise EngineBuildError(f"TensorRT {trt.__version__} built no engine. {quoted(lines)}", hint=_hint(lines))
    return bytes(plan)


def _hint(lines: deque[str]) -> str:
    text = " ".join(lines).lower()
    if any(word in text for word in _MEMORY_WORDS):
        return "Memory ran out: reduce --workspace-mb or --batch, and stop other programs that use the GPU."
    return "Read the build log; building with --fp32 shows whether the precision is the cause."


def _layers(plan: bytes, job: _Job) -> list[LayerInfo]:
    """Layers of the finished engine, which is loaded once more to read them; failure to do so does not fail the build."""
    import tensorrt as trt

    try:
        runtime: trt.Runtime = trt.Runtime(shared_logger())
        if job.options.version_compatible:
            runtime.engine_host_code_allowed = True
        if job.options.dla_core is not None:
            runtime.DLA_core = job.options.dla_core
        layers = _inspected(runtime, plan)
    except (RuntimeError, TypeError, MemoryError) as error:
        job.note(f"The layers' precisions are unknown: {error}.")
        return []
    if not layers:
        job.note("The layers' precisions are unknown: TensorRT reported none.")
    return layers


def _inspected(runtime: trt.Runtime, plan: bytes) -> list[LayerInfo]:
    """Inspect the engine in a separate function, so that it is freed before its runtime."""
    engine = runtime.deserialize_cuda_engine(plan)
    return layers_of(engine) if engine is not None else []
