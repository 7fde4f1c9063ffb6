"""The record beside an engine: what it was built from, and the machine it is bound to."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgead.bundle import Bundle
from edgead.bundle_files import file_digest
from edgead.errors import EngineMismatchError
from edgead.manifest import ClassThresholds, NfaRecord
from edgead.migration import upgrade_engine_record
from edgead.own_digest import BLANK, has_own_digest, with_own_digest
from edgead.storage import json_bytes, write_bytes

RECORD = "engine.json"
ONNXRUNTIME = "onnxruntime"
TENSORRT = "tensorrt"
Precision = Literal["fp32", "fp16", "int8"]
Device = Literal["cpu", "cuda"]


class Fingerprint(BaseModel):
    """Everything that must match for an engine to be loaded, and the `device` it was built for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str
    backend_version: str
    precision: str
    bundle_digest: str
    machine: str
    gpu: str | None = None
    device: Device = "cpu"


class TensorRTRecord(BaseModel):
    """Requirements of a TensorRT engine for loading, and the conditions it was tuned under.

    Attributes:
        dla_core: Core of the deep-learning accelerator (DLA) the engine was built for; None = GPU only.
        version_compatible: Whether the engine carries its own host code, so that a newer TensorRT can load it.
        driver_version: CUDA driver version at build time; newer drivers run the engine too.
        power_mode: Power mode in which kernels were chosen; in another mode results are correct, but perhaps not the fastest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dla_core: int | None
    version_compatible: bool
    driver_version: int
    power_mode: str


class GateRecord(BaseModel):
    """Measured accuracy of a lower-precision engine, beside the float32 graph.

    Attributes:
        judged_by: `pseudo-defects` made from held-out good images, or `labelled images` supplied by the user.
        n_good, n_defective: Number of images.
        reference_auroc, engine_auroc: Image AUROC of the float32 graph and of the engine.
        max_drop: Largest allowed difference between the two.
        score_correlation: Spearman correlation of the scores of all those images.
        false_alarm_rate: Share of the held-out good images above the engine's own threshold.
        false_alarm_rate_before: The same share with the float32 graph's threshold.
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
    """One layer of a lower-precision engine.

    Attributes:
        name: Name of the graph's node, or of the engine's fused layer.
        precision: `fp32`, `fp16`, `int8`.
        error: Error of INT8 in this layer alone: 1 - correlation of the anomaly maps with float32; None if not measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    precision: str
    error: float | None = None


class PrecisionRecord(BaseModel):
    """How a lower-precision engine was built, and its own thresholds.

    Attributes:
        gate: Accuracy check against the float32 graph.
        layers: Precision of each layer.
        coverage: Share of the multiply-adds computed in the lower precision.
        recipe: Calibration recipe.
        images: Names of the calibration images, each with the first digits of its pixels' SHA-256.
        reference_ms, engine_ms: Median time of one image, measured alternately.
        thresholds: Thresholds per class, from this engine's own scores.
        nfa: Segmentation from this engine's own level norms.
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
    """The content of `engine.json` beside an engine.

    The differences are those of a `Comparison` with the reference images; records of older versions lack two of them.
    `record_sha256` is the digest of the file itself; records of older versions have none.
    """

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
    score_relative_difference: float | None = None
    peak_relative_difference: float | None = None
    request: str = ""
    tensorrt: TensorRTRecord | None = None
    lower: PrecisionRecord | None = None
    record_sha256: str = ""


def machine_id() -> str:
    """Digest of the machine's id, processor and system; reveals none of them."""
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
    content = record.model_copy(update={"record_sha256": BLANK}).model_dump(mode="json")
    write_bytes(folder / RECORD, with_own_digest(json_bytes(content)))


def read_record(folder: Path) -> EngineRecord:
    """Read the record of the engine in `folder`.

    Raises:
        EngineMismatchError: If the record is missing, was changed, or does not follow the schema.
    """
    try:
        raw = (folder / RECORD).read_bytes()
        record = EngineRecord.model_validate(upgrade_engine_record(json.loads(raw)))
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        raise EngineMismatchError(
            f"{folder} does not contain an engine built by edgead.", hint="Build it here: edgead build-engine"
        ) from error
    if record.record_sha256 and not has_own_digest(raw, record.record_sha256):
        raise EngineMismatchError(
            f"{folder / RECORD} was changed after the build: it does not have the SHA-256 that it states.",
            hint="Rebuild it here: edgead build-engine --rebuild",
        )
    return record.model_copy(update={"record_sha256": ""})


def verify_engine(folder: Path, bundle: Bundle, backend_version: str, *, gpu: str | None = None) -> Path:
    """Check that this machine built the engine in `folder` from this bundle, and that its file is unchanged.

    Args:
        folder: Folder of the engine.
        bundle: Verified bundle.
        backend_version: Version of the installed backend, or the version that it accepts in place of its own.
        gpu: Name and compute capability of the GPU here; None for an engine that runs on the CPU.

    Returns:
        Path of the engine's file.

    Raises:
        EngineMismatchError: If anything differs; the message names it.
    """
    record = read_record(folder)
    found, rebuild = record.fingerprint, "Rebuild it here: edgead build-engine"
    expected = {"bundle": bundle.digest, "machine": machine_id(), "version": backend_version, "gpu": gpu}
    seen = {"bundle": found.bundle_digest, "machine": found.machine, "version": found.backend_version, "gpu": found.gpu}
    for what in expected:
        if expected[what] != seen[what]:
            raise EngineMismatchError(
                f"The engine {folder.name} was built for another {_WORDS[what]}: {_shown(seen[what])}; here it is "
                f"{_shown(expected[what])}.",
                hint=rebuild,
            )
    file = folder / Path(record.file).name
    if file.is_symlink() or not file.is_file() or file_digest(file) != record.sha256:
        raise EngineMismatchError(f"The engine file {file} is missing or was changed after the build.", hint=rebuild)
    return file


_WORDS = {"bundle": "bundle", "machine": "machine", "version": "backend version", "gpu": "GPU"}


def _shown(value: str | None) -> str:
    """Shorten a digest for a message; a GPU's name stays as it is."""
    return "none" if value is None else value if " " in value else value[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")), "")
