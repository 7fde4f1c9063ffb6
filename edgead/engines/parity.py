"""Comparison of an engine with the bundle's reference images."""

from __future__ import annotations

import dataclasses
import math
import platform

from edgead.bundle import Bundle
from edgead.errors import CheckFailed
from edgead.evaluation.compare import Comparison, compare_outputs, merge
from edgead.runner import Runner

# limit for fp32 engines on a GPU: TF32, on by default in TensorRT and cuDNN, has a 10-bit mantissa. A guess, until measured
GPU_LIMIT = 2e-2


def compare_to_reference(bundle: Bundle, runner: Runner, *, shipped: Bundle | None = None) -> Comparison:
    """Run the bundle's reference images and compare the results with the stored maps and scores.

    Args:
        bundle: Bundle with the thresholds for the engine's scores (see `open_with_thresholds`).
        runner: Open engine.
        shipped: Bundle with the thresholds for the stored scores; None = the same.
    """
    reference = bundle.reference()
    own = bundle.thresholds().threshold.value
    theirs = (shipped or bundle).thresholds().threshold.value
    parts, flips = [], 0
    for i in range(len(reference["images"])):
        one = slice(i, i + 1)
        stored = {name: reference[name][one] for name in bundle.reference_outputs}
        outputs = runner.infer(reference["images"][one])
        parts.append(compare_outputs(stored, outputs, theirs))
        flips += int((stored["pred_score"][0] > theirs) != (outputs["pred_score"][0] > own))
    return dataclasses.replace(merge(parts), verdict_flips=flips)


def require_parity(comparison: Comparison, bundle: Bundle, name: str, version: str) -> None:
    """Check an fp32 engine on the CPU against `PARITY_LIMIT`.

    Args:
        comparison: Result on the bundle's reference images.
        bundle: Bundle of the engine.
        name: Name of the engine.
        version: Version of the ONNX Runtime that computed it.

    Raises:
        CheckFailed: If scores or maps differ by more than the limit, or a verdict flips; the error says what is known of
            the cause.
    """
    if comparison.is_parity:
        return
    if not math.isfinite(comparison.max_absolute_difference):
        raise CheckFailed(
            f"{name} gives maps or scores that are not finite.",
            hint="Reinstall ONNX Runtime; run `edgead doctor` and report its output if that does not help.",
        )
    made = bundle.manifest.provenance.versions.get("onnxruntime", "of an unknown version")
    raise CheckFailed(
        f"{name} does not reproduce the reference: {comparison.describe()}. The reference is from ONNX Runtime {made}, the "
        f"engine from {version} on {platform.machine()}.",
        hint="Install the ONNX Runtime that the bundle was made with, or report the output of `edgead doctor`.",
    )
