"""Training in several processes, one per GPU: started by `torchrun` or `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgead.errors import TrainingError

T = TypeVar("T")


class World:
    """This process among those that train together; a single process is a world of one.

    Every process draws the same random numbers and holds the same model; each works on its share of every batch, and
    gradients are summed. So the result is that of one process but for the order of additions.

    Attributes:
        rank: 0..size - 1; rank 0 writes files and speaks to the user.
        size: Number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` samples: every `size`-th from `rank`; the smallest parts may be empty."""
        return slice(self.rank, count, self.size)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place."""
        if self.size == 1:
            return
        chosen = [p for p in parameters if p.requires_grad]
        for parameter in chosen:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.reshape(-1) for p in chosen if p.grad is not None])
        dist.all_reduce(flat)
        start = 0
        for parameter in chosen:
            assert parameter.grad is not None
            parameter.grad.copy_(flat[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the tensors of rank 0, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def from_main(self, value: T | None) -> T:
        """What rank 0 has; the others give None."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, 0)
        found = values[0]
        assert found is not None
        return found

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


def join_world(device: torch.device) -> World:
    """Join the processes that a launcher announced in the environment (WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT).

    Args:
        device: Where this process computes; CUDA talks through nccl, anything else through gloo.

    Raises:
        TrainingError: If the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"The {size} processes of this training could not meet: {error}.",
                hint="Start them with `torchrun --nproc-per-node N -m edgead train` or `accelerate launch`.",
            ) from error
    return World(dist.get_rank(), dist.get_world_size())
