"""Building the ONNX Runtime engine, and installing a finished engine in its bundle."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

from edgead.bundle import Bundle
from edgead.bundle_files import file_digest
from edgead.engines.fingerprint import (
    ONNXRUNTIME,
    Device,
    EngineRecord,
    Fingerprint,
    PrecisionRecord,
    TensorRTRecord,
    machine_id,
    write_record,
)
from edgead.engines.parity import compare_to_reference, require_parity
from edgead.evaluation.compare import Comparison
from edgead.storage import replace_folder, scratch_folder

MODEL_FILE = "model.onnx"


def build_onnxruntime(bundle: Bundle) -> EngineRecord:
    """Build the fp32 engine for ONNX Runtime's CPU provider: the graph, optimised for this processor.

    The engine is installed only if it reproduces the bundle's reference maps.

    Raises:
        EngineBuildError: If ONNX Runtime cannot write the engine.
        CheckFailed: If its scores or maps differ from the reference by more than `PARITY_LIMIT`, or a verdict flips.
    """
    from edgead.engines import onnx_runner, onnx_session

    name = f"{ONNXRUNTIME}-fp32"
    started = time.monotonic()
    with scratch_folder(bundle.engines_path, name) as staging:
        file = staging / MODEL_FILE
        onnx_session.write_optimised(bundle.model_path, file)
        with onnx_runner.OnnxRunner(file, threads=0, engine_name=name) as runner:
            comparison = compare_to_reference(bundle, runner)
        require_parity(comparison, bundle, name, onnx_session.version())
        fingerprint = fingerprint_of(bundle, ONNXRUNTIME, onnx_session.version(), "fp32")
        return install_engine(bundle, staging, file, fingerprint, comparison, time.monotonic() - started)


def fingerprint_of(
    bundle: Bundle,
    backend: str,
    backend_version: str,
    precision: str,
    gpu: str | None = None,
    device: Device = "cpu",
) -> Fingerprint:
    """Fingerprint of an engine built from this bundle on this machine."""
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
    """Write the record of a finished engine and move its folder into place; an older engine is replaced.

    Args:
        bundle: Bundle the engine was built from.
        staging: Temporary folder of the engine.
        file: Engine file in that folder.
        fingerprint: Machine, bundle and backend the engine is bound to.
        comparison: Result on the bundle's reference images.
        build_s: Build time in seconds.
        request: Digest of the build request.
        tensorrt: Requirements for loading a TensorRT engine.
        lower: Accuracy and thresholds of a lower-precision engine.
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
        score_relative_difference=comparison.score_relative_difference,
        peak_relative_difference=comparison.peak_relative_difference,
        request=request,
        tensorrt=tensorrt,
        lower=lower,
    )
    write_record(staging, record)
    final = bundle.engines_path / f"{fingerprint.backend}-{fingerprint.precision}"
    replace_folder(staging, final)
    return record
