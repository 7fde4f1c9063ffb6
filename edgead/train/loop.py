"""Maximum-likelihood training of the couplings on cached features, resumable to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgead.errors import TrainingError
from edgead.flows.linear import ActNorm
from edgead.models.fastflow import FastFlow, level_nll
from edgead.models.level import Level
from edgead.train.checkpoint import load_checkpoint, optimizer_tensors, restore_optimizer, save_checkpoint

FINAL_LEARNING_RATE = 0.01
WARM_UP = 0.1
EVALUATION_BATCH = 32
BETAS = (0.9, 0.99)
Arrays = Sequence[NDArray[np.float16]]


@dataclass(frozen=True)
class LoopSettings:
    """Of the optimiser and of stopping; see `TrainConfig` for the meaning of each."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    gradient_clip: float
    noise: float
    patience: int
    seed: int


@dataclass
class TrainState:
    """Where training stands; epoch 0 is the closed-form start.

    Attributes:
        epoch: Epochs done.
        best_epoch: The epoch with the smallest held-out NLL.
        fit_nll, held_out_nll: Per epoch, from epoch 0; nats per dimension, under training noise. The former is the
            running mean during the epoch.
    """

    epoch: int = 0
    best_epoch: int = 0
    fit_nll: list[float] = field(default_factory=list)
    held_out_nll: list[float] = field(default_factory=list)

    @property
    def best_nll(self) -> float:
        return self.held_out_nll[self.best_epoch]


def train_couplings(
    model: FastFlow,
    arrays: Arrays,
    fit: Sequence[int],
    held_out: Sequence[int],
    settings: LoopSettings,
    checkpoint: Path,
    *,
    resume: bool,
    on_step: Callable[[int, int, int], None],
    on_epoch: Callable[[TrainState], None],
) -> TrainState:
    """Train until the held-out NLL stops falling, and leave the best epoch's weights in `model`.

    Args:
        model: After `fit_start` (or anything, when a checkpoint is resumed).
        arrays: From `started_arrays`, one per level.
        fit: Rows to learn from.
        held_out: Rows that decide when to stop; neither the threshold's nor the test's images.
        settings: See `LoopSettings`.
        checkpoint: File that is replaced after each epoch.
        resume: Whether to go on from `checkpoint` when it is there.
        on_step: Called with epoch, step and number of steps.
        on_epoch: Called after each epoch and once at the start.

    Raises:
        TrainingError: If the loss is not finite, naming epoch and step.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(_groups(model, settings.weight_decay), lr=settings.learning_rate, betas=BETAS)
    if resume and checkpoint.is_file():
        state, best = _restore(model, optimizer, checkpoint)
        objective = _Objective(model, arrays, settings.noise, settings.seed)
    else:
        objective = _Objective(model, arrays, settings.noise, settings.seed)
        state = TrainState(fit_nll=[objective.mean(fit)], held_out_nll=[objective.mean(held_out)])
        _require_finite(torch.tensor([state.fit_nll[0], state.held_out_nll[0]]).sum(), 0, 0)
        best = _weights(model)
        _save(model, optimizer, state, best, checkpoint)
    on_epoch(state)
    steps = math.ceil(len(fit) / settings.batch_size)
    while state.epoch < settings.epochs and state.epoch - state.best_epoch < settings.patience:
        epoch = state.epoch + 1
        random = np.random.default_rng((settings.seed, epoch))
        noise = torch.Generator(objective.device).manual_seed(int(random.integers(2**62)))
        total = 0.0
        for step, rows in enumerate(np.array_split(random.permutation(np.asarray(fit)), steps)):
            _set_learning_rate(optimizer, settings, (epoch - 1 + step / steps) / settings.epochs)
            loss = objective(rows, noise).mean()
            _require_finite(loss, epoch, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
            optimizer.step()
            total += float(loss.detach()) * len(rows)
            on_step(epoch, step + 1, steps)
        state.epoch = epoch
        state.fit_nll.append(total / len(fit))
        state.held_out_nll.append(objective.mean(held_out))
        _require_finite(torch.tensor(state.held_out_nll[-1]), epoch, steps - 1)
        if state.held_out_nll[-1] < state.best_nll:
            state.best_epoch, best = epoch, _weights(model)
        _save(model, optimizer, state, best, checkpoint)
        on_epoch(state)
    _load_weights(model, best)
    return state


class _Objective:
    """NLL of rows of the cached arrays under training noise, nats per dimension, summed over the levels.

    Fitted and held-out images are measured with the same noise, so that their difference is over-fitting and nothing
    else: the scale that is best for noisy features is not the one that is best for clean ones.
    """

    def __init__(self, model: FastFlow, arrays: Arrays, noise: float, seed: int) -> None:
        self.levels = model.levels
        self.arrays = arrays
        self.noise = noise
        self.seed = seed
        self.device = next(model.parameters()).device
        self.constant = sum(_start_log_det(level) for level in self.levels)

    def __call__(self, rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """Per row, `(N,)`."""
        terms = []
        for level, array in zip(self.levels, self.arrays, strict=True):
            u = self._batch(array, rows)
            if self.noise:
                u = u + self.noise * torch.randn(u.shape, generator=generator, device=self.device)
            terms.append(level_nll(level.couplings, u))
        return torch.stack(terms).sum(dim=0) - self.constant

    @torch.no_grad()
    def mean(self, rows: Sequence[int]) -> float:
        """Over many rows, with the same noise at every call."""
        generator = torch.Generator(self.device).manual_seed(self.seed)
        total = 0.0
        for start in range(0, len(rows), EVALUATION_BATCH):
            chunk = np.asarray(rows[start : start + EVALUATION_BATCH])
            total += float(self(chunk, generator).cpu().double().sum())
        return total / len(rows)

    def _batch(self, array: NDArray[np.float16], rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[rows])).to(self.device, torch.float32)


@torch.no_grad()
def _start_log_det(level: Level) -> float:
    """Log |det| of the frozen start, nats per dimension."""
    if isinstance(level.start, ActNorm):
        return float(level.start.log_scale.cpu().double().mean())
    return float(torch.linalg.slogdet(level.start.weight.cpu().double()).logabsdet.sum()) / level.start.mean.numel()


def _groups(model: FastFlow, weight_decay: float) -> list[dict[str, Any]]:
    """Decay the convolutions of the subnets only: scales, offsets and linear maps of a flow have no natural zero."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (decayed if isinstance(module, nn.Conv2d) and name == "weight" else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _set_learning_rate(optimizer: torch.optim.Optimizer, settings: LoopSettings, done: float) -> None:
    cosine = 0.5 * (1.0 + math.cos(math.pi * max(0.0, done - WARM_UP) / (1.0 - WARM_UP)))
    share = FINAL_LEARNING_RATE + (1.0 - FINAL_LEARNING_RATE) * cosine
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * min(share, FINAL_LEARNING_RATE + done / WARM_UP)


def _require_finite(loss: Tensor, epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        raise TrainingError(
            f"The loss became {float(loss.detach())} in epoch {epoch}, step {step + 1}.",
            hint="Train anew with a lower rate, for example --set train.learning_rate=0.0005; this run keeps its last checkpoint.",
        )


def learned_state(model: FastFlow) -> dict[str, Tensor]:
    """Every tensor of the model but the backbone's."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("backbone.")}


def _weights(model: FastFlow) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def _load_weights(model: FastFlow, weights: dict[str, Tensor]) -> None:
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


def _save(
    model: FastFlow, optimizer: torch.optim.Optimizer, state: TrainState, best: dict[str, Tensor], path: Path
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in learned_state(model).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    save_checkpoint(path, tensors | optimizer_tensors(optimizer), asdict(state))


def _restore(model: FastFlow, optimizer: torch.optim.Optimizer, path: Path) -> tuple[TrainState, dict[str, Tensor]]:
    tensors, state = load_checkpoint(path)
    own = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    expected = learned_state(model)
    if own.keys() != expected.keys() or any(own[name].shape != expected[name].shape for name in own):
        raise TrainingError(f"{path} belongs to another model.", hint="Resume with the run's own configuration.")
    model.load_state_dict(own, strict=False)
    restore_optimizer(optimizer, tensors)
    best = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
    return TrainState(**state), best
