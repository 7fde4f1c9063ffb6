"""Cause of a parity check that fails at the export of a model, as far as it can be told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgead.errors import CheckFailed
from edgead.evaluation.compare import PARITY_LIMIT, Comparison

if TYPE_CHECKING:
    from edgead.models.detector import Detector

HALF_STEP = 2.0**-24  # largest relative rounding error of a float32


def parity_failure(model: Detector, folded: Comparison, exported: Comparison) -> CheckFailed:
    """Error for a model of which folded torch or ONNX Runtime give other scores than unfolded torch.

    Args:
        model: Trained model, not folded.
        folded: Folded torch against unfolded torch.
        exported: ONNX Runtime against unfolded torch.
    """
    said = f"Folded torch: {folded.describe()}. ONNX Runtime: {exported.describe()}."
    if not all(math.isfinite(found.max_absolute_difference) for found in (folded, exported)):
        return CheckFailed(
            "The model's maps or scores are not finite, so it cannot be exported.",
            hint="Check that the images are real pictures, lower train.learning_rate, or raise train.ridge.",
        )
    shown = rounding(model)
    if shown > PARITY_LIMIT / 10:
        return CheckFailed(
            "The exported graph does not give the model's scores, because the model magnifies rounding: in some directions "
            f"the features of the training images hardly vary, and whitening these turns the rounding of float32 into up to "
            f"{shown:.1e} standard deviations. {said}",
            hint="Train on more images that differ from each other, or raise train.ridge, for example --set train.ridge=0.01.",
        )
    if not folded.is_parity:
        return CheckFailed(
            f"Folding changes the model's scores, which only a defect of edgead explains. {said}",
            hint="Report it with the settings of the run (run.json).",
        )
    return CheckFailed(
        f"ONNX Runtime computes other scores from the exported graph than torch. {said}",
        hint="Install another version of ONNX Runtime, or report it with the settings of the run (run.json).",
    )


def rounding(model: Detector) -> float:
    """Estimated error of whitened features from the rounding of their inputs, in standard deviations."""
    from edgead.flows.linear import PositionLinear

    found = [0.0]
    for level in model.levels:
        if isinstance(level.start, PositionLinear):
            # (P, C, C) and (P, C): every input of a row is off by half a step of its size
            errors = (level.start.weight.abs() * level.start.mean.abs()[:, None, :]).square().sum(dim=2).sqrt()
            found.append(float(errors.max()) * HALF_STEP)
    return max(found)
