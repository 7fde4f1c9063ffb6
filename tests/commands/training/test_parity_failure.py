"""A parity check that fails at export says why, as far as it can be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.commands.training.bundle_writing import check_parity, write_graph
from edgead.commands.training.parity_failure import parity_failure, rounding
from edgead.errors import CheckFailed
from edgead.evaluation.compare import Comparison
from edgead.export.onnx_graph import DeployedModel
from edgead.models.detector import Detector
from tests.tiny import SIDE, fit, make_images, make_model

SAME, OTHER = Comparison(0.0, 0.0, 0.0, 0, 4), Comparison(0.5, 0.5, 3e-3, 0, 4, 4e-3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A fitted detector."""
    return fit(make_model(), tmp_path_factory.mktemp("model"))


def test_a_detector_of_different_images_keeps_rounding_small(model: Detector) -> None:
    """Whitening of images that differ leaves the rounding of float32 below the limit."""
    assert 0.0 < rounding(model) < 1e-5


def test_few_directions_are_named_as_the_cause(tmp_path: Path) -> None:
    """A model that whitens directions without variance names the images and the ridge, with both comparisons."""
    model = fit(make_model(), tmp_path)
    model.levels[0].start.weight.mul_(1e4)
    assert rounding(model) > 1e-4
    error = parity_failure(model, SAME, OTHER)
    assert "magnifies rounding" in error.message
    assert "3.0e-03 relative" in error.message
    assert "train.ridge" in error.hint


def test_values_that_are_not_finite_are_named_as_such(model: Detector, tmp_path: Path) -> None:
    """A model with a NaN is not called a difference between two programs."""
    broken = fit(make_model(), tmp_path)
    broken.levels[0].start.weight[0, 0, 0] = torch.nan
    deployed = DeployedModel(model)
    write_graph(tmp_path / "model.onnx", deployed, (SIDE, SIDE))
    with pytest.raises(CheckFailed, match="not finite"):
        check_parity(broken, deployed, tmp_path / "model.onnx", make_images(2), 1.0)


def test_a_wrong_graph_is_told_from_wrong_folding(model: Detector) -> None:
    """The error says which of the two forms of a healthy model differs."""
    assert "ONNX Runtime computes other scores" in parity_failure(model, SAME, OTHER).message
    assert parity_failure(model, OTHER, OTHER).message.startswith("Folding changes")


def test_a_healthy_model_passes(model: Detector, tmp_path: Path) -> None:
    """Its record has the differences of scores and peaks that the limit is for."""
    deployed = DeployedModel(model)
    write_graph(tmp_path / "model.onnx", deployed, (SIDE, SIDE))
    parity, outputs = check_parity(model, deployed, tmp_path / "model.onnx", make_images(2), 1.0)
    assert 0.0 < max(parity.scores, parity.peaks) < 1e-4
    assert np.isfinite(outputs["pred_score"]).all()
