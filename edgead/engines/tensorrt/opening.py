"""Building a TensorRT engine for this machine, and opening one from its folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from edgead.bundle import Bundle
from edgead.engines.fingerprint import TensorRTRecord, read_record, verify_engine
from edgead.engines.tensorrt import available
from edgead.engines.tensorrt.builder import BuiltPlan, build_plan
from edgead.engines.tensorrt.compatible import may_load
from edgead.engines.tensorrt.cuda import Gpu, GpuContext, find_gpu
from edgead.engines.tensorrt.decision import BuildStrategy
from edgead.engines.tensorrt.options import BuildOptions
from edgead.engines.tensorrt.power import power_mode
from edgead.engines.tensorrt.progress import BuildProgress
from edgead.engines.tensorrt.runner import RunnerOptions, TensorRTRunner
from edgead.errors import EngineBuildError, EngineMismatchError

BACKEND = "tensorrt"


def require_tensorrt() -> Gpu:
    """Return the GPU that engines are built for.

    Raises:
        EngineBuildError: If TensorRT cannot be used here; the message gives the reason.
    """
    reason = available()
    if reason is not None:
        raise EngineBuildError(
            f"No TensorRT engine can be built here: {reason}.", hint="Leave out --backend to build for ONNX Runtime."
        )
    return find_gpu()


def version() -> str:
    """Version of the installed TensorRT."""
    import tensorrt as trt

    return str(trt.__version__)


def machine_state(gpu: Gpu) -> dict[str, str]:
    """Conditions that kernel timings depend on; the key of the timing cache."""
    return {"gpu": gpu.identity, "tensorrt": version(), "power_mode": power_mode()}


def build_tensorrt_plan(
    graph: bytes, how: BuildStrategy, options: BuildOptions, *, kept: Collection[str], progress: BuildProgress
) -> BuiltPlan:
    """Build a serialized engine for this machine; see `build_plan`.

    Raises:
        EngineBuildError: If TensorRT cannot be used here, or the build fails (`LoggedBuildError`).
    """
    gpu = require_tensorrt()
    return build_plan(
        graph, how, options, kept=kept, machine=machine_state(gpu), memory_bytes=gpu.total_bytes, progress=progress
    )


def record_of(options: BuildOptions) -> TensorRTRecord:
    """Requirements for loading an engine built now with `options`."""
    return TensorRTRecord(
        dla_core=options.dla_core,
        version_compatible=options.version_compatible,
        driver_version=find_gpu().driver_version,
        power_mode=power_mode(),
    )


def runner_of(plan: bytes, *, engine_name: str, record: TensorRTRecord) -> TensorRTRunner:
    """Open a plan that this process built, or that was verified.

    Raises:
        EngineError: See `TensorRTRunner`.
    """
    options = RunnerOptions(
        dla_core=record.dla_core, host_code_allowed=record.version_compatible, power_mode=record.power_mode
    )
    return TensorRTRunner(plan, GpuContext(find_gpu()), engine_name=engine_name, options=options)


def open_tensorrt(bundle: Bundle, folder: Path) -> TensorRTRunner:
    """Open the engine in `folder` after checking its record and its file.

    Raises:
        EngineMismatchError: If the engine was built by another machine, for another GPU or bundle, or by another TensorRT
            (unless it is version compatible with the installed one), if its file was changed, or TensorRT is missing.
        EngineError: If the GPU cannot be used.
    """
    record = read_record(folder)
    if record.fingerprint.backend != BACKEND or record.tensorrt is None:
        raise EngineMismatchError(
            f"The engine {folder.name} was built by the backend {record.fingerprint.backend!r}, not by TensorRT.",
            hint="Build it here: edgead build-engine",
        )
    reason = available()
    if reason is not None:
        raise EngineMismatchError(
            f"The engine {folder.name} cannot be used here: {reason}.",
            hint="Use another one: --engine onnxruntime-fp32",
        )
    built = record.fingerprint.backend_version
    is_loadable = record.tensorrt.version_compatible and may_load(built, version())
    file = verify_engine(folder, bundle, built if is_loadable else version(), gpu=find_gpu().identity)
    return runner_of(file.read_bytes(), engine_name=folder.name, record=record.tensorrt)
