"""AltUB (Kim et al., 2022): when the learnable base moves, where it goes, and that nothing of it is left at export."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.export.onnx_graph import DeployedModel, onnx_from_model, operator_counts
from edgead.flows.base import DiagonalBase
from edgead.models.detector import Detector, TrainingBatch
from edgead.train.loop import LoopSettings, TrainState, train_flow

from ..tiny import SIDE, disturb, fit, make_model
from .trainer import SETTINGS

N_FIT, N_HELD_OUT = 9, 3
LABELS = np.zeros(N_FIT + N_HELD_OUT, np.int64)
STEPS = 3
LOOP = replace(SETTINGS, epochs=4, batch_size=3, keep="last", altub_interval=5, altub_warm_up=0.0)
MODELS: dict[str, dict[str, Any]] = {
    "usf": {"levels": ("8:6", "16:5")},
    "fastflow": {"levels": ("8:6", "16:5"), "coupling": "affine"},
    "cflow": {"levels": ("8:6", "16:5"), "position_channels": 8, "loss": "nll"},
    "uflow": {"levels": ("8:8", "16:12"), "coupling": "affine"},
}


def altub_model(name: str = "fastflow") -> Detector:
    """Small, with a learnable base, every parameter away from its start."""
    model = make_model(name=name, base="altub", **MODELS[name])
    torch.manual_seed(3)
    disturb(model)
    return model


def make_arrays(model: Detector) -> list[NDArray[np.float16]]:
    """Training arrays that are neither centred nor of unit variance."""
    random = np.random.default_rng(0)
    shapes = [(len(LABELS), level.channels, *level.size) for level in model.levels]
    return [(0.4 + 1.7 * random.normal(size=shape)).astype(np.float16) for shape in shapes]


def run(model: Detector, checkpoint: Path, settings: LoopSettings, **callbacks: Any) -> TrainState:
    arrays, rows = make_arrays(model), range(len(LABELS))
    silent: dict[str, Any] = {"on_step": lambda *_: None, "on_epoch": lambda _: None, "resume": False}
    return train_flow(
        model, arrays, LABELS, rows[:N_FIT], rows[N_FIT:], settings, checkpoint, **{**silent, **callbacks}
    )


def changes(model: Detector, tmp_path: Path, settings: LoopSettings) -> list[set[str]]:
    """The names of the parameters that each step changed, bit for bit."""
    seen = [{name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}]

    def on_step(*_: int) -> None:
        seen.append({name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad})

    run(model, tmp_path / "c.safetensors", settings, on_step=on_step)
    return [{k for k in b if not torch.equal(a[k], b[k])} for a, b in pairwise(seen)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("warm_up", "expected"), [(0.0, {4, 9}), (0.5, {9}), (0.9, set())])
def test_base_steps_leave_the_flow_alone(name: str, warm_up: float, expected: set[int], tmp_path: Path) -> None:
    """Every fifth step of the whole training, none before the warm-up, changes the base alone; all others everything."""
    model = altub_model(name)
    base = {name for name, _ in model.named_parameters() if name.startswith("bases.")}
    everything = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(base) == 2 * len(model.levels)
    changed = changes(model, tmp_path, replace(LOOP, altub_warm_up=warm_up))
    assert len(changed) == LOOP.epochs * STEPS
    assert {step for step, names in enumerate(changed) if names == base} == expected
    assert all(names == everything for step, names in enumerate(changed) if step not in expected)


def test_a_normal_base_has_no_steps_of_its_own(tmp_path: Path) -> None:
    """Without AltUB every step changes everything."""
    model = make_model(name="fastflow", **MODELS["fastflow"])
    disturb(model)
    everything = {name for name, p in model.named_parameters() if p.requires_grad}
    assert changes(model, tmp_path, LOOP) == [everything] * LOOP.epochs * STEPS


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_the_base_alone_converges_to_the_closed_form(name: str, tmp_path: Path) -> None:
    """Behind a frozen flow the alternating steps end within 0.01 of the mean and log deviation of its latents, and 1e-4
    nats per dimension of the best loss.
    """
    model = altub_model(name)
    model.flow.requires_grad_(False)
    settings = replace(
        LOOP, epochs=250, batch_size=N_FIT, noise=0.0, learning_rate=1e-9, altub_interval=2, altub_learning_rate=0.05
    )
    state = run(model, tmp_path / "c.safetensors", settings)
    whitened = [torch.from_numpy(array[:N_FIT]).float() for array in make_arrays(model)]
    with torch.no_grad():
        latents = model.flow(whitened, model.codes())
    best = [DiagonalBase(latent.z.shape[1]) for latent in latents]
    for base, oracle, latent in zip(model.bases, best, latents, strict=True):
        oracle.fit(latent.z)
        assert isinstance(base, DiagonalBase)
        assert float(oracle.log_std.detach().abs().max()) > 0.2  # far from the start
        torch.testing.assert_close(base.mean, oracle.mean, rtol=0, atol=0.01)
        torch.testing.assert_close(base.log_std, oracle.log_std, rtol=0, atol=0.01)
        base.load_state_dict(oracle.state_dict())
    with torch.no_grad():
        batch = TrainingBatch(whitened, model.codes(), [torch.zeros(N_FIT, dtype=torch.int64)] * len(whitened))
        smallest = float(sum(model.loss_terms(batch))) + model.start_constant()
    assert state.fit_loss[-1] == pytest.approx(smallest, abs=1e-4)
    assert state.fit_loss[0] > smallest + 0.1


@pytest.mark.parametrize("coupling", ["uniform", "affine"])
@pytest.mark.parametrize("name", ["usf", "fastflow", "cflow", "uflow"])
def test_the_exported_graph_has_nothing_of_the_base(name: str, coupling: str, tmp_path: Path) -> None:
    """A learnt base adds no operator, no weight and no multiply-add to the graph of the standard normal one."""
    sizes = {**MODELS[name], "coupling": coupling}
    graphs = []
    for base in ("normal", "altub"):
        torch.manual_seed(0)
        model = fit(make_model(name=name, base=base, **sizes), tmp_path)
        graphs.append(onnx_from_model(DeployedModel(model), (SIDE, SIDE)))
    normal, altub = graphs
    assert operator_counts(altub) == operator_counts(normal)
    shapes = [sorted(tuple(tensor.dims) for tensor in graph.graph.initializer) for graph in graphs]
    assert shapes[0] == shapes[1]


class Interrupted(Exception):
    """A training that ends early."""


def test_a_resumed_training_makes_the_same_base_steps(tmp_path: Path) -> None:
    """Interrupted between two base steps and resumed, the run ends with the same bits: the interval goes over epochs."""

    def stop(state: TrainState) -> None:
        if state.epoch == 2:
            raise Interrupted

    whole, broken, resumed = altub_model(), altub_model(), altub_model()
    disturb(resumed)  # nothing but the checkpoint may determine how it continues
    settings = replace(LOOP, epochs=6)
    expected = run(whole, tmp_path / "whole.safetensors", settings)
    with pytest.raises(Interrupted):
        run(broken, tmp_path / "c.safetensors", settings, on_epoch=stop)
    assert run(resumed, tmp_path / "c.safetensors", settings, resume=True) == expected
    first: dict[str, Tensor] = dict(whole.named_parameters())
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, first[name]), name
