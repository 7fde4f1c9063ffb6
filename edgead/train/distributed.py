"""Training in several processes, one per GPU, launched by `torchrun` or `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from edgead.errors import TrainingError

T = TypeVar("T")

MEETING_TIME = timedelta(minutes=5)
# timeout of processes that wait while one extracts features or exports; a process that ends is noticed at once
PATIENCE = timedelta(days=2)
_FAILURES = "edgead/failures"


class World:
    """Place of this process among those that train together; a single process is a world of one.

    Every process draws the same random numbers and has the same model; each works on its share of every batch, and
    gradients are summed. The result is that of one process up to the order of additions.

    Attributes:
        rank: Index 0..size - 1; rank 0 writes files and reports to the user.
        size: Number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports to the user."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Slice of `count` samples for this process: every `size`-th from `rank`; it may be empty."""
        return slice(self.rank, count, self.size)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of all processes, in place; a parameter must have a gradient in all processes or in none."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        summed = self.sum(torch.cat([g.reshape(-1) for g in gradients]))
        for gradient, part in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, value: Tensor) -> Tensor:
        """Sum of a tensor over all processes."""
        if self.size > 1:
            value = value.clone()
            with self._contact():
                dist.all_reduce(value)
        return value

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Copy the tensors of rank 0 to every process, in place."""
        if self.size > 1:
            with self._contact():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def from_main(self, make: Callable[[], T]) -> T:
        """Result of `make`, called in rank 0 alone; it must be picklable."""
        values = [make() if self.is_main else None]
        if self.size > 1:
            with self._contact():
                dist.broadcast_object_list(values, 0, device=torch.device("cpu"))
        return values[0]  # type: ignore[return-value]

    def barrier(self) -> None:
        """Wait until every process calls this."""
        self.sum(torch.zeros(()))  # on the CPU: nccl's barrier keeps a GPU busy while it waits

    @contextmanager
    def _contact(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(
                f"Process {self.rank} of {self.size} lost the others: one of them has ended.",
                hint="Without another error it may have been killed, for example for lack of memory.",
            ) from error


@contextmanager
def launched_world() -> Iterator[World]:
    """Join the processes that a launcher announced in the environment (WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT).

    The end of one process ends all. The first error of any process leaves this context unchanged, to be reported by its
    process; in the others, which failed for the same reason or as a consequence, it becomes a silent exit.

    Raises:
        TrainingError: If the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    world, store = _meet(size)
    try:
        yield world
        world.barrier()
    except BaseException as error:
        if _is_first(store):
            raise
        raise SystemExit(1) from error
    dist.destroy_process_group()


def _meet(size: int) -> tuple[World, Store]:
    # gloo for tensors on the CPU, nccl for tensors on GPUs
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=MEETING_TIME))
        store.set(f"edgead/here/{rank}", "")
        store.wait([f"edgead/here/{other}" for other in range(size)], MEETING_TIME)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"The {size} processes of this training could not meet: {str(error).splitlines()[0]}.",
            hint="Start them with `torchrun --nproc-per-node N -m edgead train` or `accelerate launch`.",
        ) from error
    return World(rank, size), store


def _is_first(store: Store) -> bool:
    """Whether this process is the first to fail; also true if the store is gone with the process that held it."""
    try:
        return store.add(_FAILURES, 1) == 1
    except RuntimeError:
        return True
