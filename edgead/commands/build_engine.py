"""`edgead build-engine`: the best engine that this machine can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgead.bundle import Bundle
from edgead.commands.progress import Progress
from edgead.engines.build import ONNXRUNTIME, TENSORRT, build_onnxruntime, has_tensorrt
from edgead.engines.fingerprint import EngineRecord
from edgead.errors import EngineBuildError

Precision = Literal["fp32", "fp16", "int8"]
Backend = Literal["auto", "tensorrt", "onnxruntime"]


@dataclass(frozen=True)
class BuiltEngine:
    """The engine that was built, and what was asked for.

    Attributes:
        name: `<backend>-<precision>`.
        record: Its record.
        requested: The precision that was asked for; another one than the record's was not possible here.
        reason: Why, in one or two sentences; empty when the request was met.
    """

    name: str
    record: EngineRecord
    requested: Precision
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `build-engine --json`."""
        record = self.record
        return {
            "engine": self.name,
            "backend": record.fingerprint.backend,
            "precision": record.fingerprint.precision,
            "requested_precision": self.requested,
            "reason": self.reason or None,
            "gate": {
                "max_relative_difference": record.max_relative_difference,
                "verdict_flips": record.verdict_flips,
                "n_images": record.n_images,
            },
            "layers": [],
            "size_mb": record.size_mb,
            "build_s": record.build_s,
        }


def build_engine(bundle: Bundle, precision: Precision, backend: Backend, progress: Progress) -> BuiltEngine:
    """Build an engine, falling back to fp32 on ONNX Runtime where the request cannot be met, and saying so.

    Args:
        bundle: Verified.
        precision: Wanted.
        backend: `auto` falls back; a named one that cannot be had is an error.
        progress: Gets notes.

    Raises:
        EngineBuildError: If the named backend cannot build.
        CheckFailed: If the engine does not reproduce the reference; it is then not installed.
    """
    if backend == TENSORRT:
        raise EngineBuildError(
            f"This version of edgead cannot build TensorRT engines yet (TensorRT found here: {_yes(has_tensorrt())}).",
            hint="Leave out --backend: the ONNX Runtime engine runs on this machine.",
        )
    reason = _why_not(precision)
    if reason:
        progress.note(reason)
    record = build_onnxruntime(bundle)
    return BuiltEngine(f"{ONNXRUNTIME}-fp32", record, precision, reason)


def _why_not(precision: Precision) -> str:
    if precision == "fp32":
        return ""
    found = (
        "TensorRT is installed here, but this version of edgead does not drive it yet"
        if has_tensorrt()
        else "TensorRT is not installed on this machine"
    )
    detail = (
        "ONNX Runtime's CPU provider has no fp16 arithmetic, so an fp16 engine would be no faster"
        if precision == "fp16"
        else "int8 for ONNX Runtime is not available in this version"
    )
    return f"No {precision} engine: {found}, and {detail}. Building the fp32 engine for ONNX Runtime instead."


def _yes(value: bool) -> str:
    return "yes" if value else "no"
