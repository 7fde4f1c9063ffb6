"""Training device of a process, alone or with others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edgead.errors import ConfigError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """Torch device of a name; `auto` takes cuda, then mps, then the CPU.

    Several processes that train together take a separate GPU each, for `auto` and `cuda`.

    Raises:
        ConfigError: If the device does not exist here, or does not fit training in several processes.
    """
    import torch

    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if is_launched_with_others():
        return _device_of_one(name, available)
    if torch.backends.mps.is_available():
        available.append("mps")
    if name == "auto":
        return torch.device(next((device for device in ("cuda", "mps") if device in available), "cpu"))
    if name not in available:
        raise ConfigError(
            f"train.device {name!r} is not on this machine; it has: {', '.join(available)}.",
            hint="Leave it out to train on the best of these. For an NVIDIA GPU, `nvidia-smi` must list it, and torch must be a "
            "build for CUDA.",
        )
    return torch.device(name)


def _device_of_one(name: str, available: list[str]) -> torch.device:
    """Device of this process, one of several on this machine."""
    import torch

    if name == "cpu" or (name == "auto" and "cuda" not in available):
        return torch.device("cpu")
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if name not in ("auto", "cuda") or own not in available:
        raise ConfigError(
            f"Several processes train together, and this one cannot have {own if name in ('auto', 'cuda') else name!r}; "
            f"this machine has: {', '.join(available)}.",
            hint="Start one process per GPU with train.device=cuda, or use train.device=cpu.",
        )
    device = torch.device(own)
    torch.cuda.set_device(device)
    return device


def is_launched_with_others() -> bool:
    """Whether a launcher such as torchrun started several processes to train together."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_main_process() -> bool:
    """Whether this process reports to the user: the only one, or the first of those that train together."""
    return not is_launched_with_others() or os.environ.get("RANK", "0") == "0"
