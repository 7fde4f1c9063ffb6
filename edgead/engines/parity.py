"""Comparison of an engine with the bundle's reference images."""

from __future__ import annotations

import dataclasses

from edgead.bundle import Bundle
from edgead.errors import CheckFailed
from edgead.evaluation.compare import PARITY_LIMIT, Comparison, compare_outputs, merge
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


def require_parity(comparison: Comparison, name: str) -> None:
    """Check an fp32 engine against `PARITY_LIMIT`.

    Raises:
        CheckFailed: If the engine differs by more than the limit or a verdict flips.
    """
    if not comparison.is_parity:
        raise CheckFailed(
            f"{name} does not reproduce the reference: largest relative difference "
            f"{comparison.max_relative_difference:.2e} (allowed {PARITY_LIMIT:.0e}), "
            f"{comparison.verdict_flips} of {comparison.n_images} verdicts flip (allowed 0).",
            hint="Run `edgead doctor` and report its output.",
        )
