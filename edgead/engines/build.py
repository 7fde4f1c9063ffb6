"""Building an engine for this machine, and choosing among those that are there."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edgead.bundle import Bundle, file_digest
from edgead.engines.fingerprint import (
    EngineRecord,
    Fingerprint,
    PrecisionRecord,
    TensorRTRecord,
    machine_id,
    read_record,
    verify_engine,
    write_record,
)
from edgead.errors import CheckFailed, EngineMismatchError
from edgead.evaluation.compare import PARITY_LIMIT, Comparison, compare_outputs, merge
from edgead.runner import Runner
from edgead.storage import replace_folder, scratch_folder

REFERENCE = "reference"
ONNXRUNTIME = "onnxruntime"
TENSORRT = "tensorrt"
PREFERENCE = (TENSORRT, ONNXRUNTIME)
MODEL_FILE = "model.onnx"
# of fp32 engines on a GPU: TF32, on by default in TensorRT and cuDNN, has 10 bits of mantissa. A guess, until measured
GPU_LIMIT = 2e-2
DeviceChoice = Literal["auto", "cpu", "cuda"]


def build_onnxruntime(bundle: Bundle) -> EngineRecord:
    """Build the fp32 engine for ONNX Runtime's CPU provider: the graph as it is optimised for this processor.

    The engine is installed only after it reproduced the bundle's reference maps.

    Raises:
        EngineBuildError: If ONNX Runtime cannot write it.
        CheckFailed: If its maps differ from the reference by more than `PARITY_LIMIT`, or a verdict flips.
    """
    from edgead.engines import onnx_runner

    name = f"{ONNXRUNTIME}-fp32"
    started = time.monotonic()
    with scratch_folder(bundle.engines_path, name) as staging:
        file = staging / MODEL_FILE
        onnx_runner.write_optimised(bundle.model_path, file)
        with onnx_runner.OnnxRunner(file, threads=0, engine_name=name) as runner:
            comparison = compare_to_reference(bundle, runner)
        require_parity(comparison, name)
        fingerprint = fingerprint_of(bundle, ONNXRUNTIME, onnx_runner.version(), "fp32")
        return install_engine(bundle, staging, file, fingerprint, comparison, time.monotonic() - started)


def fingerprint_of(
    bundle: Bundle,
    backend: str,
    backend_version: str,
    precision: str,
    gpu: str | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Fingerprint:
    """What an engine built now, here, of this bundle is bound to."""
    return Fingerprint(
        backend=backend,
        backend_version=backend_version,
        precision=precision,
        bundle_digest=bundle.digest,
        machine=machine_id(),
        gpu=gpu,
        device=device,
    )


def install_engine(
    bundle: Bundle,
    staging: Path,
    file: Path,
    fingerprint: Fingerprint,
    comparison: Comparison,
    build_s: float,
    *,
    request: str = "",
    tensorrt: TensorRTRecord | None = None,
    lower: PrecisionRecord | None = None,
) -> EngineRecord:
    """Write the record of a finished engine and give its folder the final name; an older engine is replaced.

    Args:
        bundle: Whose engine it is.
        staging: The engine's folder under another name.
        file: The engine's file in it.
        fingerprint: What it is bound to.
        comparison: With the bundle's reference images.
        build_s: Seconds that the build took.
        request: A digest of everything that was asked for.
        tensorrt: What TensorRT needs to load it.
        lower: Of an engine of lower precision.
    """
    record = EngineRecord(
        fingerprint=fingerprint,
        file=file.name,
        sha256=file_digest(file),
        built_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        build_s=round(build_s, 3),
        size_mb=round(file.stat().st_size / 1e6, 3),
        max_relative_difference=comparison.max_relative_difference,
        verdict_flips=comparison.verdict_flips,
        n_images=comparison.n_images,
        request=request,
        tensorrt=tensorrt,
        lower=lower,
    )
    write_record(staging, record)
    final = bundle.engines_path / f"{fingerprint.backend}-{fingerprint.precision}"
    replace_folder(staging, final)
    return record


def open_engine(
    bundle: Bundle,
    name: str | None,
    *,
    threads: int,
    device: DeviceChoice = "auto",
    on_note: Callable[[str], None] | None = None,
) -> Runner:
    """Open an engine of the bundle.

    Args:
        bundle: Verified.
        name: `<backend>-<precision>`, a path, `reference`, or None for the best one present; without any, the reference.
        threads: Of ONNX Runtime; 0 = one per core.
        device: `auto` takes the one that the engine was built for, or the CPU where ONNX Runtime cannot use the GPU.
        on_note: Is told when that happens.

    Raises:
        EngineMismatchError: If the named engine is missing, foreign, stale, changed or for another device than the one
            that was named; with None such ones are skipped.
        CudaProviderError: If `cuda` was named, and ONNX Runtime cannot use the GPU.
    """
    return open_calibrated(bundle, name, threads=threads, device=device, on_note=on_note)[0]


def open_calibrated(
    bundle: Bundle,
    name: str | None,
    *,
    threads: int,
    device: DeviceChoice = "auto",
    on_note: Callable[[str], None] | None = None,
) -> tuple[Runner, Bundle]:
    """Open an engine as `open_engine` does, with the bundle as this engine sees it: an engine of lower precision has
    thresholds of its own.
    """
    from edgead.engines import onnx_runner

    def reference() -> tuple[Runner, Bundle]:
        if device == "cuda":
            raise EngineMismatchError(
                "engine.device is cuda, and the reference is computed on the CPU.",
                hint="Build an engine for the GPU (edgead build-engine --device cuda), or set engine.device=auto.",
            )
        return onnx_runner.OnnxRunner(bundle.model_path, threads=threads, engine_name=REFERENCE), bundle

    if name == REFERENCE:
        return reference()
    opening = _Opening(threads, device, on_note or (lambda text: None))
    if name is not None:
        folder = Path(name) if "/" in name else bundle.engines_path / name
        if not folder.is_dir():
            present = ", ".join([REFERENCE, *present_engines(bundle)])
            raise EngineMismatchError(
                f"The bundle has no engine {name!r} on this machine; it has: {present}.",
                hint="Build it: edgead build-engine",
            )
        return _open(bundle, folder, opening)
    for folder in preferred_engines(bundle):
        try:
            return _open(bundle, folder, opening)
        except EngineMismatchError:
            continue
    return reference()


def present_engines(bundle: Bundle) -> list[str]:
    """Names of the engine folders in the bundle, usable or not."""
    if not bundle.engines_path.is_dir():
        return []
    folders = (path for path in bundle.engines_path.iterdir() if path.is_dir())  # the log of a failed build is a file
    return sorted(path.name for path in folders if not path.name.startswith("."))


def preferred_engines(bundle: Bundle) -> list[Path]:
    """Folders of the engines, TensorRT's before ONNX Runtime's, of each the precision built last first."""
    found = []
    for name in present_engines(bundle):
        try:
            record = read_record(bundle.engines_path / name)
        except EngineMismatchError:
            continue
        if record.fingerprint.backend in PREFERENCE:
            found.append((record, bundle.engines_path / name))
    found.sort(key=lambda pair: pair[0].built_at, reverse=True)
    found.sort(key=lambda pair: PREFERENCE.index(pair[0].fingerprint.backend))
    return [folder for _, folder in found]


def compare_to_reference(bundle: Bundle, runner: Runner, *, shipped: Bundle | None = None) -> Comparison:
    """Run the bundle's reference images and compare with the stored maps and scores.

    Args:
        bundle: As the engine sees it: its own thresholds judge its scores (see `open_calibrated`).
        runner: Open.
        shipped: The bundle whose thresholds judge the stored scores; None = the same.
    """
    reference = bundle.reference()
    own = bundle.calibration().threshold.value
    theirs = (shipped or bundle).calibration().threshold.value
    parts, flips = [], 0
    for i in range(len(reference["images"])):
        one = slice(i, i + 1)
        stored = {name: reference[name][one] for name in bundle.reference_outputs}
        outputs = runner.infer(reference["images"][one])
        parts.append(compare_outputs(stored, outputs, theirs))
        flips += int((stored["pred_score"][0] > theirs) != (outputs["pred_score"][0] > own))
    return dataclasses.replace(merge(parts), verdict_flips=flips)


def require_parity(comparison: Comparison, name: str) -> None:
    """Check an fp32 engine against `PARITY_LIMIT`.

    Raises:
        CheckFailed: With what was seen and what is allowed.
    """
    if not comparison.is_parity:
        raise CheckFailed(
            f"{name} does not reproduce the reference: largest relative difference "
            f"{comparison.max_relative_difference:.2e} (allowed {PARITY_LIMIT:.0e}), "
            f"{comparison.verdict_flips} of {comparison.n_images} verdicts flip (allowed 0).",
            hint="Run `edgead doctor` and report its output.",
        )


@dataclasses.dataclass(frozen=True)
class _Opening:
    threads: int
    device: DeviceChoice
    on_note: Callable[[str], None]


def _open(bundle: Bundle, folder: Path, opening: _Opening) -> tuple[Runner, Bundle]:
    record = read_record(folder)
    own = bundle.calibrated(record.lower.calibration, record.lower.nfa) if record.lower else bundle
    if record.fingerprint.backend == TENSORRT:
        from edgead.engines.tensorrt.opening import open_tensorrt

        if opening.device == "cpu":
            raise _other_device(folder, "cuda", "cpu")
        return open_tensorrt(bundle, folder), own
    return _open_onnxruntime(bundle, folder, opening), own


def _open_onnxruntime(bundle: Bundle, folder: Path, opening: _Opening) -> Runner:
    from edgead.engines import onnx_runner

    record = read_record(folder)
    if record.fingerprint.backend != ONNXRUNTIME:
        raise EngineMismatchError(f"The engine {folder.name} needs the backend {record.fingerprint.backend!r}.")
    built_for = record.fingerprint.device
    if (
        opening.device == "cuda" and built_for == "cpu"
    ):  # it has kernels of the CPU in it; the other way round there are none
        raise _other_device(folder, "cpu", "cuda")
    file = verify_engine(folder, bundle, onnx_runner.version())
    device = built_for if opening.device == "auto" else opening.device
    try:
        return onnx_runner.OnnxRunner(file, threads=opening.threads, engine_name=folder.name, device=device)
    except onnx_runner.CudaProviderError as error:
        if opening.device == "cuda":
            raise
        opening.on_note(f"{folder.name} was built for the GPU and runs on the CPU: {error.message}. {error.hint}")
    return onnx_runner.OnnxRunner(file, threads=opening.threads, engine_name=folder.name)


def _other_device(folder: Path, built_for: str, wanted: str) -> EngineMismatchError:
    return EngineMismatchError(
        f"The engine {folder.name} was built for {built_for}, engine.device is {wanted}.",
        hint=f"Build one: edgead build-engine --device {wanted}; or set engine.device=auto.",
    )
