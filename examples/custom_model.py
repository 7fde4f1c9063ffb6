"""Add a model of your own: a description, a function that assembles it, and it trains, exports and streams like the others.

    python examples/custom_model.py DATA

The model is one Gaussian per position of the feature map and nothing else (PaDiM, Defard et al., 2021, arXiv:2011.08785): the
closed-form start of the default model without its couplings. Needs the extra `train`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import edgead
from edgead.config.model import ModelConfig
from edgead.flows.flow import FlowSequence
from edgead.flows.linear import ActNorm
from edgead.flows.multiscale import ParallelFlow
from edgead.models.backbone import Backbone
from edgead.models.detector import Detector
from edgead.models.level import Level
from edgead.models.scoring import ScoreHead

PADIM = edgead.ModelFamily(
    name="padim",
    summary="One Gaussian per position, without training",
    model={"levels": ("16+32:64",), "couplings": "always"},
    train={"epochs": 0},
)


def padim(backbone: Backbone, levels: Sequence[Level], settings: ModelConfig, classes: Sequence[str]) -> Detector:
    """Assemble the detector: each level is whitened per position, and its flow is the identity."""
    channels = [level.channels for level in levels]
    flow = ParallelFlow([FlowSequence([ActNorm(count)]) for count in channels], channels)
    head = ScoreHead([level.size for level in levels], [1.0] * len(levels), settings.top_fraction)
    return Detector(backbone, levels, flow, [FlowSequence([]) for _ in levels], head)


edgead.register_family(PADIM, padim)


def main(data: str, runs: str = "runs", settings: Mapping[str, Any] | None = None) -> edgead.Bundle:
    """Train it on a data set and measure it there."""
    result = edgead.train_bundle(data, settings={"model.name": "padim", **(settings or {})}, runs=runs)
    print(edgead.evaluate(result.bundle.path, data).result.mean)
    return result.bundle


if __name__ == "__main__":
    main(sys.argv[1])
