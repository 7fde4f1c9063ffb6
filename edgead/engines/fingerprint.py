"""What an engine was built from and for; it runs nowhere else."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgead.bundle import Bundle, file_digest
from edgead.errors import EngineMismatchError
from edgead.manifest import ClassThresholds, NfaRecord
from edgead.migration import upgrade_engine_record
from edgead.storage import write_json

RECORD = "engine.json"
ONNXRUNTIME = "onnxruntime"
TENSORRT = "tensorrt"
Precision = Literal["fp32", "fp16", "int8"]
Device = Literal["cpu", "cuda"]


class Fingerprint(BaseModel):
    """Everything that must be the same for an engine to be loaded; `device` is what it was built for: `cpu` or `cuda`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str
    backend_version: str
    precision: str
    bundle_digest: str
    machine: str
    gpu: str | None = None
    device: Device = "cpu"


class TensorRTRecord(BaseModel):
    """What an engine of TensorRT needs to be loaded, and what it was tuned under.

    Attributes:
        dla_core: The deep-learning accelerator's core that it was built for.
        version_compatible: Whether it carries host code of its own, for a newer TensorRT.
        driver_version: CUDA's, when it was built; it also runs with a newer one.
        power_mode: When its kernels were chosen; under another one it is right, but perhaps not the fastest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dla_core: int | None
    version_compatible: bool
    driver_version: int
    power_mode: str


class GateRecord(BaseModel):
    """What an engine of lower precision was measured to do, beside the float32 graph.

    Attributes:
        judged_by: `pseudo-defects` made from the held-out good images, or `labelled images` that the user gave.
        n_good, n_defective: How many images.
        reference_auroc, engine_auroc: Image AUROC of the float32 graph and of the engine.
        max_drop: Largest difference of the two that was allowed.
        score_correlation: Spearman's, of the scores of all those images.
        false_alarm_rate: Share of the held-out good images above the engine's own threshold.
        false_alarm_rate_before: The same with the float32 graph's threshold.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    judged_by: Literal["pseudo-defects", "labelled images"]
    n_good: int
    n_defective: int
    reference_auroc: float
    engine_auroc: float
    max_drop: float
    score_correlation: float
    false_alarm_rate: float
    false_alarm_rate_before: float

    @property
    def drop(self) -> float:
        return self.reference_auroc - self.engine_auroc


class LayerRecord(BaseModel):
    """One layer of an engine of lower precision.

    Attributes:
        name: Of the graph's node, or of the engine's fused layer.
        precision: `fp32`, `fp16`, `int8`.
        error: Of INT8 in this layer alone: 1 - correlation of the anomaly maps with float32; None if not measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    precision: str
    error: float | None = None


class PrecisionRecord(BaseModel):
    """How an engine of lower precision was made, and its own thresholds.

    Attributes:
        gate: Its check against the float32 graph.
        layers: Precision of each.
        coverage: Share of the multiply-adds that are done in the lower precision.
        recipe: Of its calibration.
        images: Names of the calibration images, each with the start of its pixels' SHA-256.
        reference_ms, engine_ms: Median time of one image, measured in turns.
        thresholds: Per class, from this engine's own scores.
        nfa: Segmentation from its own level norms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: GateRecord
    layers: tuple[LayerRecord, ...]
    coverage: float
    recipe: dict[str, Any]
    images: tuple[str, ...]
    reference_ms: float
    engine_ms: float
    thresholds: dict[str, ClassThresholds]
    nfa: NfaRecord | None


class EngineRecord(BaseModel):
    """The content of `engine.json` beside an engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: Fingerprint
    file: str
    sha256: str
    built_at: str
    build_s: float
    size_mb: float
    max_relative_difference: float
    verdict_flips: int
    n_images: int
    request: str = ""
    tensorrt: TensorRTRecord | None = None
    lower: PrecisionRecord | None = None


def machine_id() -> str:
    """A digest of this machine: its own id, processor and system; says nothing about it."""
    parts = [platform.node(), platform.machine(), platform.system()]
    for source in ("/etc/machine-id", "/proc/device-tree/model"):
        try:
            parts.append(Path(source).read_text(encoding="utf-8", errors="replace").strip())
        except OSError:
            parts.append("")
    parts.append(_processor())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def write_record(folder: Path, record: EngineRecord) -> None:
    """Write the record of the engine in `folder`."""
    write_json(folder / RECORD, record.model_dump(mode="json"))


def read_record(folder: Path) -> EngineRecord:
    """Read the record of the engine in `folder`.

    Raises:
        EngineMismatchError: If there is none, or it does not follow the schema.
    """
    try:
        content = json.loads((folder / RECORD).read_bytes())
        return EngineRecord.model_validate(upgrade_engine_record(content))
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        raise EngineMismatchError(
            f"{folder} holds no engine that edgead built.", hint="Build it here: edgead build-engine"
        ) from error


def verify_engine(folder: Path, bundle: Bundle, backend_version: str, *, gpu: str | None = None) -> Path:
    """Check that the engine in `folder` was built by this machine, from this bundle, and was not changed since.

    Args:
        folder: Of the engine.
        bundle: Verified.
        backend_version: Installed here, or the one that this stands for.
        gpu: Name and compute capability of the GPU here; None for an engine that runs on the CPU.

    Returns:
        The engine's file.

    Raises:
        EngineMismatchError: Naming what differs.
    """
    record = read_record(folder)
    found, rebuild = record.fingerprint, "Rebuild it here: edgead build-engine"
    expected = {"bundle": bundle.digest, "machine": machine_id(), "version": backend_version, "gpu": gpu}
    seen = {"bundle": found.bundle_digest, "machine": found.machine, "version": found.backend_version, "gpu": found.gpu}
    for what in expected:
        if expected[what] != seen[what]:
            raise EngineMismatchError(
                f"The engine {folder.name} was built for another {_WORDS[what]}: {_shown(seen[what])}, here it is "
                f"{_shown(expected[what])}.",
                hint=rebuild,
            )
    file = folder / Path(record.file).name
    if file.is_symlink() or not file.is_file() or file_digest(file) != record.sha256:
        raise EngineMismatchError(
            f"The engine file {file} was changed after it was built, or is missing.", hint=rebuild
        )
    return file


_WORDS = {"bundle": "bundle", "machine": "machine", "version": "version of its backend", "gpu": "GPU"}


def _shown(value: str | None) -> str:
    """Enough of a digest to tell it from another; a GPU's name as it is."""
    return "none" if value is None else value if " " in value else value[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")), "")
