"""NLL and latent norm: one ranking for uniform flows, two for affine ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.commands.evaluate import evaluate_bundle, measure_alignment
from edgead.commands.train import train
from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.engines.opening import open_engine
from edgead.errors import ConfigError, DataError
from edgead.models.zoo import load_model
from edgead.progress import Silent
from tests.tiny_run import tiny_config

# every case is a training with couplings
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("coupling", ["uniform", "affine"])
def test_only_a_uniform_flow_ranks_by_its_norm(coupling: str, tiny_data: Path, tmp_path: Path) -> None:
    """Trained and stored, the uniform flow has both correlations 1 and no spread of the volume; the affine one has spread."""
    config = tiny_config(
        tiny_data, model__name="fastflow", model__coupling=coupling, model__levels=["8:8", "16:8"], model__blocks=4,
        train__epochs=3, train__learning_rate=0.01,
    )  # fmt: skip
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    found = measure_alignment(result.bundle, load_model(result.bundle), find_dataset(tiny_data).test, Silent())
    assert found.is_uniform is (coupling == "uniform")
    assert found.n_images > 10
    if coupling == "uniform":
        assert found.spearman == pytest.approx(1.0, abs=1e-9)
        assert found.pearson == pytest.approx(1.0, abs=1e-9)
        assert found.log_det_spread < 1e-7
    else:
        assert found.log_det_spread > 1e-5
    with open_engine(result.bundle, "reference", threads=1) as runner:
        evaluation = evaluate_bundle(
            result.bundle, runner, tiny_data, Silent(), false_alarm_rate=None, report=None, alignment=True
        )
    assert evaluation.to_json()["alignment"] == found.to_json()
    assert f"{found.n_images} images" in found.describe()
    with pytest.raises(DataError, match="at least 2: 0 of 1 can be used"):
        measure_alignment(
            result.bundle, load_model(result.bundle), [Sample(tmp_path / "none.png", "none.png", "part")], Silent()
        )


def test_a_mixture_has_no_such_norm(tiny_data: Path, tmp_path: Path) -> None:
    """HGAD's likelihood is no function of a norm, and the error says so before any image is read."""
    config = tiny_config(
        tiny_data, model__name="hgad", model__levels=["16:8"], model__pyramid=[128], model__blocks=1,
        model__position_channels=8, train__epochs=1, train__fibers=0,
    )  # fmt: skip
    result = train(config, Silent(), out=tmp_path / "run", runs=tmp_path, resume=False)
    with (
        open_engine(result.bundle, "reference", threads=1) as runner,
        pytest.raises(ConfigError, match=r"--alignment does not apply .*a mixture of several"),
    ):
        evaluate_bundle(
            result.bundle, runner, Path("nowhere"), Silent(), false_alarm_rate=None, report=None, alignment=True
        )
