"""`edgead build-engine`: build and check an engine for this machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edgead.builder.backends import Backend, OnnxRuntimeBackend, TensorRTBackend
from edgead.builder.choice import BackendName, Choice, choose
from edgead.builder.lower_precision import LowerOptions, build_lower, request_of
from edgead.bundle import Bundle
from edgead.engines.fingerprint import ONNXRUNTIME, EngineRecord, Precision, read_record, verify_engine
from edgead.engines.installing import build_onnxruntime, fingerprint_of, install_engine
from edgead.engines.opening import DeviceChoice, open_engine
from edgead.engines.parity import GPU_LIMIT, compare_to_reference
from edgead.errors import CheckFailed, ConfigError, EngineMismatchError
from edgead.precision.recipe import read_recipe
from edgead.progress import Progress
from edgead.runner import REFERENCE
from edgead.storage import exclusive, require_free_space, scratch_folder

if TYPE_CHECKING:
    from edgead.engines.tensorrt.options import BuildOptions

LOCK = ".lock"


@dataclass(frozen=True)
class BuiltEngine:
    """The engine that was built, and the request.

    Attributes:
        name: `<backend>-<precision>`.
        record: Record of the engine.
        requested: Requested precision; the record's differs if it was not possible here.
        reason: Reason for a different precision, in one or two sentences; empty if the request was met.
        reused: Whether an engine from the same request already existed.
    """

    name: str
    record: EngineRecord = field(repr=False)
    requested: Precision
    reason: str
    reused: bool = False

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `build-engine --json`."""
        record = self.record
        gate: dict[str, Any] = {
            "max_relative_difference": record.max_relative_difference,
            "score_relative_difference": record.score_relative_difference,
            "peak_relative_difference": record.peak_relative_difference,
            "verdict_flips": record.verdict_flips,
            "n_images": record.n_images,
        }
        values: dict[str, Any] = {
            "engine": self.name,
            "backend": record.fingerprint.backend,
            "device": record.fingerprint.device,
            "precision": record.fingerprint.precision,
            "requested_precision": self.requested,
            "reason": self.reason or None,
            "reused": self.reused,
            "gate": gate,
            "layers": [],
            "size_mb": record.size_mb,
            "build_s": record.build_s,
        }
        if record.lower is not None:
            gate |= {**record.lower.gate.model_dump(), "drop": record.lower.gate.drop}
            values["layers"] = [layer.model_dump() for layer in record.lower.layers]
            values["coverage"] = record.lower.coverage
            values["reference_ms"], values["engine_ms"] = record.lower.reference_ms, record.lower.engine_ms
            values["thresholds"] = {n: c.threshold.value for n, c in record.lower.thresholds.items()}
        return values


@dataclass(frozen=True)
class EngineOptions:
    """User options besides precision and backend.

    Attributes:
        lower: Calibration and gate of FP16 and INT8 engines.
        tensorrt: Batch, memory and accelerator for TensorRT; None = the defaults of `BuildOptions`.
        rebuild: Whether to build again even if the same request was built before.
        device: Device the engine runs on; `auto` = the GPU if a backend can use it.
        opens_graph: Whether to open the bundle's own graph first; False if this process has run it already.
    """

    lower: LowerOptions = field(default_factory=LowerOptions)
    tensorrt: BuildOptions | None = None
    rebuild: bool = False
    device: DeviceChoice = "auto"
    opens_graph: bool = True


def engine_options(
    *,
    calib: Path | None,
    data: Path | None,
    recipe: Path | None,
    max_drop: float,
    batch: str,
    workspace_mb: int | None,
    dla_core: int | None,
    version_compatible: bool,
    rebuild: bool,
    device: str,
) -> EngineOptions:
    """Parse the options of the command line.

    Raises:
        ConfigError: If an option is invalid.
        EngineBuildError: If a batch range does not grow.
    """
    from edgead.engines.tensorrt.options import BatchRange, BuildOptions

    if not 0.0 <= max_drop <= 1.0:
        raise ConfigError(f"--max-drop must be from 0 to 1, got {max_drop}.", hint="0.01 is one point of AUROC.")
    if device not in get_args(DeviceChoice):
        raise ConfigError(f"--device must be one of {', '.join(get_args(DeviceChoice))}, got {device!r}.")
    words = batch.split(":")
    if len(words) not in (1, 3) or not all(word.isdigit() for word in words):
        raise ConfigError(f"--batch must be N or MIN:USUAL:MAX, got {batch!r}.", hint="For example 4, or 1:2:4.")
    sizes = [int(word) for word in words] * (3 if len(words) == 1 else 1)
    tensorrt = BuildOptions(
        batch=BatchRange(*sizes),
        workspace_bytes=None if workspace_mb is None else workspace_mb * 10**6,
        dla_core=dla_core,
        version_compatible=version_compatible,
        timing_cache=timing_cache_folder(),
    )
    lower = LowerOptions(max_drop=max_drop, recipe=read_recipe(recipe), calib=calib, labelled=data)
    return EngineOptions(lower, tensorrt, rebuild, device)  # type: ignore[arg-type]


def timing_cache_folder() -> Path:
    """Folder in the user's cache for TensorRT's measured kernel times, shared by all builds."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgead" / "tensorrt"


def build_engine(
    bundle: Bundle, precision: Precision, backend: BackendName, progress: Progress, options: EngineOptions | None = None
) -> BuiltEngine:
    """Build an engine and check it; a lower-precision engine also gets its own thresholds.

    Args:
        bundle: Verified bundle.
        precision: Requested precision.
        backend: `auto` = TensorRT if it can be used, else ONNX Runtime; see `choose`.
        progress: Receives notes and progress.
        options: Further options; None = the defaults.

    Raises:
        EngineBuildError: If the backend cannot build.
        CheckFailed: If the engine misses its gate; it is not installed, and an older one stays.
        StorageError: If another process is building an engine of this bundle, or the disk is full.
    """
    options = options or EngineOptions()
    chosen = choose(precision, backend, options.device)
    reason = chosen.reason
    for text in (reason, chosen.note):
        if text:
            progress.note(text)
    with exclusive(bundle.engines_path / LOCK, "builds an engine of this bundle"):
        if options.opens_graph:
            # refuses a graph that no backend should see
            with open_engine(bundle, REFERENCE, threads=0):
                pass
        if chosen.is_plain:
            _require_room(bundle)
            return BuiltEngine(f"{ONNXRUNTIME}-fp32", build_onnxruntime(bundle), precision, reason)
        made = _backend(chosen, options, progress)
        name = f"{made.name}-{made.precision}"
        request = request_of(bundle, made, options.lower)
        if not options.rebuild and (old := _same(bundle, made, name, request)) is not None:
            progress.note(
                f"{name} was already built from the same bundle, options and images; --rebuild builds it again."
            )
            return BuiltEngine(name, old, precision, reason, reused=True)
        _require_room(bundle)
        if made.precision == "fp32":
            return BuiltEngine(name, _build_fp32(bundle, made, request), precision, reason)
        return BuiltEngine(name, build_lower(bundle, made, options.lower, progress), precision, reason)


def _require_room(bundle: Bundle) -> None:
    """Check the free disk space before minutes of calibration; an engine is roughly as large as the graph."""
    require_free_space(bundle.engines_path, bundle.model_path.stat().st_size, purpose="Building an engine")


def _backend(chosen: Choice, options: EngineOptions, progress: Progress) -> Backend:
    if chosen.backend == ONNXRUNTIME:
        return OnnxRuntimeBackend(chosen.precision, chosen.device)
    from edgead.engines.tensorrt.options import BuildOptions

    return TensorRTBackend(chosen.precision, options.tensorrt or BuildOptions(), progress)


def _same(bundle: Bundle, backend: Backend, name: str, request: str) -> EngineRecord | None:
    """Record of an existing, usable engine built from the same request; None if there is none."""
    folder = bundle.engines_path / name
    try:
        record = read_record(folder)
        if record.request == request:
            verify_engine(folder, bundle, backend.version, gpu=backend.gpu)
            return record
    except EngineMismatchError:
        pass
    return None


def _build_fp32(bundle: Bundle, backend: Backend, request: str) -> EngineRecord:
    """Build a GPU engine of the unchanged graph and check it on the reference images."""
    started = time.monotonic()
    with scratch_folder(bundle.engines_path, f"{backend.name}-fp32") as staging:
        with backend.build(bundle.model_path.read_bytes(), frozenset(), staging) as runner:
            comparison = compare_to_reference(bundle, runner)
        if comparison.max_relative_difference > GPU_LIMIT or comparison.verdict_flips:
            raise CheckFailed(
                f"{backend.name}-fp32 does not reproduce the reference: largest relative difference "
                f"{comparison.max_relative_difference:.2e} (allowed {GPU_LIMIT:.0e}), "
                f"{comparison.verdict_flips} of {comparison.n_images} verdicts flip (allowed 0).",
                hint="The engine was not kept; without it the bundle runs with `--engine reference`. Run `edgead doctor`, and "
                "report this message with its output.",
            )
        fingerprint = fingerprint_of(bundle, backend.name, backend.version, "fp32", backend.gpu, backend.device)
        return install_engine(
            bundle, staging, staging / backend.file, fingerprint, comparison, time.monotonic() - started,
            request=request, tensorrt=backend.record(),
        )  # fmt: skip
