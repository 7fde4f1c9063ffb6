"""Training of the flow on cached features, resumable bit for bit, in one process or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgead.errors import TrainingError
from edgead.models.detector import Detector, TrainingBatch
from edgead.train.batches import Arrays, count_fiber_steps, load_batch, share_batch, split_fibers
from edgead.train.checkpoint import load_checkpoint, optimizer_tensors, restore_optimizer, save_checkpoint
from edgead.train.distributed import World

FINAL_LEARNING_RATE = 0.01
WARM_UP = 0.1
EVALUATION_BATCH = 32
BETAS = (0.9, 0.99)
MAIN, BASE = "optimizer", "base_optimizer"


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the optimiser and of stopping; see `TrainConfig` for the meaning of each."""

    epochs: int
    batch_size: int
    fibers: int
    learning_rate: float
    schedule: Literal["cosine", "constant"]
    weight_decay: float
    gradient_clip: float
    noise: float
    patience: int
    keep: Literal["best", "last"]
    altub_interval: int
    altub_learning_rate: float
    altub_warm_up: float
    inter_class_fraction: float
    seed: int


@dataclass
class TrainState:
    """Progress of the training; epoch 0 is the closed-form start.

    Attributes:
        epoch: Number of epochs done.
        kept_epoch: Epoch whose weights are kept: the one with the smallest held-out loss, or the last.
        fit_loss, held_out_loss: Loss per epoch, from epoch 0, under training noise; nats per dimension if the loss is a
            likelihood. The former is the running mean during the epoch.
    """

    epoch: int = 0
    kept_epoch: int = 0
    fit_loss: list[float] = field(default_factory=list)
    held_out_loss: list[float] = field(default_factory=list)

    @property
    def kept_loss(self) -> float:
        """Held-out loss of the kept epoch."""
        return self.held_out_loss[self.kept_epoch]


def train_flow(
    model: Detector,
    arrays: Arrays,
    labels: NDArray[np.int64],
    fit: Sequence[int],
    held_out: Sequence[int],
    settings: LoopSettings,
    checkpoint: Path,
    *,
    resume: bool,
    on_step: Callable[[int, int, int], None],
    on_epoch: Callable[[TrainState], None],
    world: World | None = None,
) -> TrainState:
    """Train the flow; afterwards `model` has the weights of the kept epoch.

    Learnable base distributions are trained as in AltUB (Kim et al., 2022, arXiv:2210.14913): after a warm-up, every
    `altub_interval`-th step updates them alone, at their own large learning rate; all other steps update everything.

    Args:
        model: Model after `fit_start`; its values do not matter if a checkpoint is resumed.
        arrays: Result of `whitened_arrays`, one array per level.
        labels: Class index of each row, `(n,)`.
        fit: Rows to train on.
        held_out: Rows that decide when to stop; never threshold or test images.
        settings: Settings, see `LoopSettings`.
        checkpoint: File that is replaced after each epoch.
        resume: Whether to continue from `checkpoint` if it exists.
        on_step: Callback with epoch, step and number of steps.
        on_epoch: Callback after each epoch, and once at the start.
        world: Processes that train together; None = this one alone.

    Raises:
        TrainingError: If the loss is not finite; the error names epoch and step.
    """
    return _Trainer(model, arrays, labels, fit, held_out, settings, checkpoint, world or World()).run(
        resume, on_step, on_epoch
    )


class _Trainer:
    def __init__(
        self,
        model: Detector,
        arrays: Arrays,
        labels: NDArray[np.int64],
        fit: Sequence[int],
        held_out: Sequence[int],
        settings: LoopSettings,
        checkpoint: Path,
        world: World,
    ) -> None:
        self.model, self.arrays, self.labels = model, arrays, labels
        self.fit, self.held_out = np.asarray(fit), np.asarray(held_out)
        self.settings, self.checkpoint, self.world = settings, checkpoint, world
        self.device = next(model.parameters()).device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            _groups(model, settings.weight_decay), lr=settings.learning_rate, betas=BETAS
        )
        base = model.base_parameters()
        self.base_optimizer = torch.optim.Adam(base, lr=settings.altub_learning_rate) if base else None
        self.constant = 0.0

    def run(
        self, resume: bool, on_step: Callable[[int, int, int], None], on_epoch: Callable[[TrainState], None]
    ) -> TrainState:
        settings = self.settings
        restored = self._restore() if resume and self.world.from_main(self.checkpoint.is_file) else None
        self.constant = self.model.start_constant()
        if restored is not None:
            state, kept = restored
        else:
            state = TrainState(fit_loss=[self.mean_loss(self.fit, 1)], held_out_loss=[self.mean_loss(self.held_out, 1)])
            _require_finite(torch.tensor([state.fit_loss[0], state.held_out_loss[0]]).sum(), 0, 0)
            kept = self._weights()
            self._save(state, kept)
        on_epoch(state)
        while state.epoch < settings.epochs:
            if settings.keep == "best" and state.epoch - state.kept_epoch >= settings.patience:
                break
            epoch = state.epoch + 1
            state.fit_loss.append(self._epoch(epoch, on_step))
            state.held_out_loss.append(self.mean_loss(self.held_out, epoch))
            state.epoch = epoch
            _require_finite(torch.tensor(state.held_out_loss[-1]), epoch, 0)
            if settings.keep == "last" or state.held_out_loss[-1] < state.kept_loss:
                state.kept_epoch, kept = epoch, self._weights()
            self._save(state, kept)
            on_epoch(state)
        _load_weights(self.model, kept)
        return state

    @torch.no_grad()
    def mean_loss(self, rows: NDArray[np.int64], epoch: int) -> float:
        """Mean loss over whole maps of the rows, with the same noise at every call."""
        random = torch.Generator(self.device).manual_seed(self.settings.seed)
        total = torch.zeros((), dtype=torch.float64)
        for start in range(0, len(rows), EVALUATION_BATCH):
            chunk = rows[start : start + EVALUATION_BATCH]
            batch = load_batch(self.model, self.arrays, self.labels, chunk, self.settings.noise, random)
            part, shares = share_batch(batch, self.world)
            total += float(self._loss(part, shares, epoch).double()) * len(chunk)
        return float(self.world.sum(total)) / len(rows) + self.constant

    def _epoch(self, epoch: int, on_step: Callable[[int, int, int], None]) -> float:
        random = np.random.default_rng((self.settings.seed, epoch))
        generator = torch.Generator(self.device).manual_seed(int(random.integers(2**62)))
        chunks = math.ceil(len(self.fit) / self.settings.batch_size)
        batches = np.array_split(random.permutation(self.fit), chunks)
        per_batch = 1
        if self.settings.fibers:
            per_batch = count_fiber_steps(self.model, [len(rows) for rows in batches], self.settings.fibers)
        steps = chunks * per_batch
        total, step = 0.0, 0
        for rows in batches:
            for batch in self._batches(rows, per_batch, generator):
                loss = self._step(batch, epoch, step, steps)
                total += loss * len(rows) / per_batch
                step += 1
                on_step(epoch, step, steps)
        return total / len(self.fit) + self.constant

    def _batches(self, rows: NDArray[np.int64], steps: int, generator: torch.Generator) -> Iterator[TrainingBatch]:
        batch = load_batch(self.model, self.arrays, self.labels, rows, self.settings.noise, generator)
        if self.settings.fibers:
            yield from split_fibers(batch, steps, generator)
        else:
            yield batch

    def _step(self, batch: TrainingBatch, epoch: int, step: int, steps: int) -> float:
        settings = self.settings
        done = (epoch - 1 + step / steps) / settings.epochs
        base_only = (
            self.base_optimizer is not None
            and done >= settings.altub_warm_up
            and ((epoch - 1) * steps + step + 1) % settings.altub_interval == 0
        )
        part, shares = share_batch(batch, self.world)
        loss = self._loss(part, shares, epoch)
        value = self.world.sum(loss.detach())
        _require_finite(value, epoch, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.world.sum_gradients(self.parameters)
        if base_only:
            assert self.base_optimizer is not None
            nn.utils.clip_grad_norm_(self.model.base_parameters(), settings.gradient_clip)
            self.base_optimizer.step()
        else:
            _set_learning_rate(self.optimizer, settings, done)
            nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clip)
            self.optimizer.step()
        return float(value)

    def _loss(self, part: TrainingBatch, shares: list[float], epoch: int) -> Tensor:
        """Contribution of this process to the loss of the whole batch."""
        inter_class_epochs = round(self.settings.inter_class_fraction * self.settings.epochs)
        terms = self.model.loss_terms(part, stage=1 if epoch <= inter_class_epochs else 2)
        return torch.stack([term * share for term, share in zip(terms, shares, strict=False)]).sum()

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}

    def _save(self, state: TrainState, kept: dict[str, Tensor]) -> None:
        if self.world.is_main:
            tensors = {f"model.{name}": tensor for name, tensor in learned_state(self.model).items()}
            tensors |= {f"kept.{name}": tensor for name, tensor in kept.items()}
            tensors |= optimizer_tensors(self.optimizer, MAIN)
            if self.base_optimizer is not None:
                tensors |= optimizer_tensors(self.base_optimizer, BASE)
            save_checkpoint(self.checkpoint, tensors, asdict(state))
        self.world.barrier()

    def _restore(self) -> tuple[TrainState, dict[str, Tensor]]:
        path = self.checkpoint
        tensors, state = load_checkpoint(path)
        own = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        expected = learned_state(self.model)
        if own.keys() != expected.keys() or any(own[name].shape != expected[name].shape for name in own):
            raise TrainingError(f"{path} belongs to another model.", hint="Resume with the configuration of the run.")
        self.model.load_state_dict(own, strict=False)
        restore_optimizer(self.optimizer, tensors, MAIN)
        if self.base_optimizer is not None:
            restore_optimizer(self.base_optimizer, tensors, BASE)
        kept = {name.removeprefix("kept."): tensor for name, tensor in tensors.items() if name.startswith("kept.")}
        return TrainState(**state), kept


def _groups(model: Detector, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: only subnet convolutions decay; scales, offsets and linear maps have no natural zero."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (decayed if isinstance(module, nn.Conv2d) and name == "weight" else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _set_learning_rate(optimizer: torch.optim.Optimizer, settings: LoopSettings, done: float) -> None:
    cosine = 0.5 * (1.0 + math.cos(math.pi * max(0.0, done - WARM_UP) / (1.0 - WARM_UP)))
    share = FINAL_LEARNING_RATE + (1.0 - FINAL_LEARNING_RATE) * cosine if settings.schedule == "cosine" else 1.0
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * min(share, FINAL_LEARNING_RATE + done / WARM_UP)


def _require_finite(loss: Tensor, epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        raise TrainingError(
            f"The loss became {float(loss.detach())} in epoch {epoch}, step {step + 1}.",
            hint="Retrain with a lower learning rate, for example --set train.learning_rate=0.0005; this run keeps its last checkpoint.",
        )


def learned_state(model: Detector) -> dict[str, Tensor]:
    """All tensors of the model except those of the backbone."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("backbone.")}


def _load_weights(model: Detector, weights: dict[str, Tensor]) -> None:
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
