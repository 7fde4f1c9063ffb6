"""The training loop: what it keeps, when it stops, and that it says when numbers go wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgead.errors import TrainingError
from edgead.models.detector import Detector, TrainingBatch
from edgead.train.checkpoint import load_checkpoint, save_checkpoint
from edgead.train.distributed import World
from edgead.train.loop import LoopSettings, TrainState, _Trainer, learned_state, train_flow
from edgead.train.start import whitened_arrays

from ..tiny import disturb, make_images, make_model, store_of
from .trainer import LABELS, N_FIT, N_HELD_OUT, SETTINGS, make_arrays
from .trainer import make_model as make_trained_model

FIT, HELD_OUT = range(N_FIT), range(N_FIT, N_FIT + N_HELD_OUT)


def run(
    model: Detector,
    checkpoint: Path,
    settings: LoopSettings,
    arrays: list[NDArray[np.float16]] | None = None,
    *,
    resume: bool = False,
) -> tuple[TrainState, list[TrainState]]:
    seen: list[TrainState] = []

    def on_epoch(state: TrainState) -> None:
        seen.append(replace(state, fit_loss=list(state.fit_loss), held_out_loss=list(state.held_out_loss)))

    state = train_flow(
        model, arrays or make_arrays(), LABELS, FIT, HELD_OUT, settings, checkpoint,
        resume=resume, on_step=lambda *_: None, on_epoch=on_epoch,
    )  # fmt: skip
    return state, seen


def held_out_loss(model: Detector, arrays: list[NDArray[np.float16]]) -> float:
    whitened = [torch.from_numpy(array[list(HELD_OUT)]).float() for array in arrays]
    labels = [torch.zeros(N_HELD_OUT, dtype=torch.int64)] * len(arrays)
    with torch.no_grad():
        terms = model.loss_terms(TrainingBatch(whitened, model.codes(), labels))
    return float(sum(terms)) + model.start_constant()


@pytest.mark.parametrize("name", ["usf", "uflow"])
@pytest.mark.parametrize("positions", [True, False])
def test_the_loss_is_the_models_likelihood(name: str, positions: bool) -> None:
    """Training on whitened features, plus the start's volume, is `model.nll` on the images per dimension: one likelihood."""
    images = make_images(6)
    model = make_model(("8:16",) if name == "usf" else ("8:8", "16:12"), name=name, positions=positions, base="altub")
    disturb(model)
    for level in model.levels:
        for tensor in [*level.start.buffers(), *level.start.parameters()]:
            tensor.add_(0.1 * torch.randn_like(tensor))
    rows = np.arange(6)
    with torch.no_grad():
        expected = model.nll(torch.from_numpy(images)).mean() / sum(
            level.channels * level.size[0] * level.size[1] for level in model.levels
        )
    arrays = whitened_arrays(model, store_of(model, images), list(rows), memory_limit=10**9, folder=Path())
    settings = replace(SETTINGS, noise=0.0)
    trainer = _Trainer(model, arrays, np.zeros(6, np.int64), rows, rows, settings, Path("unused"), World())
    assert trainer.mean_loss(rows, 1) + model.start_constant() == pytest.approx(float(expected), rel=2e-3)


def test_the_kept_epoch_is_kept_and_patience_stops(tmp_path: Path) -> None:
    """With a step far too large, training stops `patience` epochs after the best one and the model holds that one."""
    settings = replace(SETTINGS, learning_rate=0.3, epochs=40, patience=3, noise=0.0)
    model = make_trained_model()
    state, seen = run(model, tmp_path / "c.safetensors", settings)
    assert state.epoch == state.kept_epoch + 3 < 40
    assert state.held_out_loss[state.kept_epoch] == min(state.held_out_loss)
    assert state.held_out_loss[-1] > state.kept_loss
    assert held_out_loss(model, make_arrays()) == pytest.approx(state.kept_loss, abs=1e-5)
    assert [s.epoch for s in seen] == list(range(state.epoch + 1))
    assert len(state.fit_loss) == len(state.held_out_loss) == state.epoch + 1


def test_no_epoch_better_than_the_start_keeps_the_start(tmp_path: Path) -> None:
    """A training that only gets worse returns the closed-form start, bit for bit."""
    model = make_trained_model()
    before = {name: tensor.clone() for name, tensor in learned_state(model).items()}
    arrays = make_arrays()
    for array in arrays:
        array[list(FIT)] = array[list(FIT)] * 4 + 7  # what is learned from these does not fit the others
    state, _ = run(model, tmp_path / "c.safetensors", replace(SETTINGS, patience=2), arrays)
    assert state.kept_epoch == 0
    assert state.epoch == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in learned_state(model).items())


def test_zero_epochs_is_the_start(tmp_path: Path) -> None:
    """With no epochs the start is measured, saved and returned."""
    state, seen = run(make_trained_model(), tmp_path / "c.safetensors", replace(SETTINGS, epochs=0))
    assert (state.epoch, state.kept_epoch, len(seen)) == (0, 0, 1)
    assert (tmp_path / "c.safetensors").is_file()


def test_training_lowers_the_likelihood_of_unseen_images(tmp_path: Path) -> None:
    """On curved data the held-out NLL falls well below that of the start, and so does the fitted one."""
    state, _ = run(make_trained_model(), tmp_path / "c.safetensors", SETTINGS)
    assert state.kept_loss < state.held_out_loss[0] - 0.01
    assert state.fit_loss[-1] < state.fit_loss[0] - 0.01


def test_a_loss_that_is_not_finite_stops_and_the_checkpoint_survives(tmp_path: Path) -> None:
    """A NaN among the fitted features is a TrainingError naming the epoch; the last checkpoint loads and is finite."""
    arrays = make_arrays()
    arrays[0][3, 0, 0, 0] = np.inf
    arrays[0][N_FIT, 0, 0, 0] = 1.0
    checkpoint = tmp_path / "c.safetensors"
    run(make_trained_model(), checkpoint, replace(SETTINGS, epochs=8, patience=8), make_arrays())
    state_before = load_checkpoint(checkpoint)[1]
    tensors, state = load_checkpoint(checkpoint)
    state["epoch"] = 2
    for key in ("fit_loss", "held_out_loss"):
        state[key] = state[key][:3]
    state["kept_epoch"] = min(state["kept_epoch"], 2)
    save_checkpoint(checkpoint, tensors, state)
    with pytest.raises(TrainingError, match="epoch 3, step"):
        run(make_trained_model(), checkpoint, SETTINGS, arrays, resume=True)
    tensors, after = load_checkpoint(checkpoint)
    assert after == state != state_before
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


@pytest.mark.parametrize("row", [0, N_FIT], ids=["fitted", "held-out"])
def test_features_that_are_not_finite_are_found_before_the_first_step(row: int, tmp_path: Path) -> None:
    """An infinity in either part is a TrainingError at once, and no checkpoint is written."""
    arrays = make_arrays()
    arrays[1][row, 0, 0, 0] = np.inf
    with pytest.raises(TrainingError, match="epoch 0"):
        run(make_trained_model(), tmp_path / "c.safetensors", SETTINGS, arrays)
    assert not list(tmp_path.iterdir())


def test_a_diverging_training_is_an_error(tmp_path: Path) -> None:
    """A learning rate that explodes ends in a TrainingError that names the remedy, not in NaN weights."""
    settings = replace(SETTINGS, learning_rate=1e6, gradient_clip=1e12, epochs=20, patience=20)
    with pytest.raises(TrainingError, match="loss became") as caught:
        run(make_trained_model(), tmp_path / "c.safetensors", settings)
    assert "learning_rate" in caught.value.hint


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    """Resuming with another architecture says so instead of mixing weights."""
    checkpoint = tmp_path / "c.safetensors"
    run(make_trained_model(), checkpoint, replace(SETTINGS, epochs=1))
    other = make_model(("8:6", "16:5"), blocks=1)
    with pytest.raises(TrainingError, match="belongs to another model"):
        run(other, checkpoint, SETTINGS, resume=True)


def test_resuming_a_finished_run_gives_its_result(tmp_path: Path) -> None:
    """Nothing more is trained, and the model holds the best epoch."""
    checkpoint = tmp_path / "c.safetensors"
    first, second = make_trained_model(), make_trained_model()
    state, _ = run(first, checkpoint, SETTINGS)
    again, seen = run(second, checkpoint, SETTINGS, resume=True)
    assert again == state
    assert len(seen) == 1
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_memory_mapped_features_train_to_the_same_weights(tmp_path: Path) -> None:
    """The location of the features does not change a single bit of the result."""
    arrays, mapped = make_arrays(), []
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
        mapped.append(np.load(tmp_path / f"{number}.npy", mmap_mode="r"))
    first, second = make_trained_model(), make_trained_model()
    settings = replace(SETTINGS, epochs=2)
    run(first, tmp_path / "a.safetensors", settings, arrays)
    run(second, tmp_path / "b.safetensors", settings, mapped)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_learning_rate_rises_then_falls_to_one_percent() -> None:
    """A tenth of the run warms up; the last step is at 1 % of the largest."""
    from edgead.train.loop import _set_learning_rate

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = []
    for done in np.linspace(0, 1, 101):
        _set_learning_rate(optimizer, SETTINGS, float(done))
        rates.append(optimizer.param_groups[0]["lr"] / SETTINGS.learning_rate)
    assert rates[0] == pytest.approx(0.01)
    assert int(np.argmax(rates)) in (9, 10)
    assert max(rates) > 0.95
    assert rates[-1] == pytest.approx(0.01)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert math.isclose(rates[55], 0.505, abs_tol=0.01)


def test_only_the_subnets_weights_decay() -> None:
    """Weight decay touches the convolutions and nothing else, and every learning parameter is in one group."""
    from edgead.train.loop import _groups

    model = make_trained_model()
    decayed, free = _groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(".subnet." in names[id(p)] and names[id(p)].endswith("weight") for p in decayed["params"])
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    together = [id(p) for p in [*decayed["params"], *free["params"]]]
    assert len(together) == len(set(together))
    assert set(together) == {id(p) for p in model.parameters() if p.requires_grad}
