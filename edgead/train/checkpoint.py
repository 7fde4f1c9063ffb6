"""Checkpoints: one safetensors file each, replaced atomically; JSON state is in its header."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgead.errors import TrainingError
from edgead.storage import atomic_path


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and JSON state to one file; after a kill it is either the old or the new one.

    Raises:
        StorageError: If it cannot be written; an existing file stays unchanged.
    """
    save_tensors(path, tensors, {"state": json.dumps(state, allow_nan=False)})


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically; tensors may share memory, like those of a conjugated layer.

    Raises:
        StorageError: If it cannot be written; an existing file stays unchanged.
    """
    separate = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(separate, temporary, metadata=metadata)
        except SafetensorError as error:  # carries the system's error as text only
            found = re.search(r"os error (\d+)", str(error))
            code = int(found[1]) if found else errno.EIO
            raise OSError(code, os.strerror(code)) from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by `save_checkpoint`.

    Raises:
        TrainingError: If the file is not such a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, state
    except Exception as error:  # the reader raises its own untyped errors
        raise TrainingError(f"{path} is not a readable checkpoint: {error}.", hint="Start a new training.") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Optimiser state as tensors named `prefix.<parameter>.<key>`."""
    tensors = {}
    for index, entry in optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            tensors[f"{prefix}.{index}.{key}"] = value
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    """Restore the state from `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
