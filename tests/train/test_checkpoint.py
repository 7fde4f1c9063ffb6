"""Checkpoints: what goes in comes out, and a failed write leaves the one before."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from edgead.errors import StorageError, TrainingError
from edgead.train.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    save_tensors,
)

STATE = {"epoch": 3, "held_out_loss": [0.1, 1e-17]}


def test_round_trip(tmp_path: Path) -> None:
    """Tensors come back bit for bit, whatever their layout, and the state exactly."""
    tensors = {"a": torch.randn(3, 4).T, "b": torch.tensor(7), "c": torch.randn(2).half()}
    save_checkpoint(tmp_path / "c.safetensors", tensors, STATE)
    loaded, state = load_checkpoint(tmp_path / "c.safetensors")
    assert state == STATE
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_no_pickle_is_inside(tmp_path: Path) -> None:
    """The file is a length, a JSON header and raw numbers: nothing in it can run."""
    save_checkpoint(tmp_path / "c.safetensors", {"a": torch.ones(2)}, STATE)
    content = (tmp_path / "c.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert set(header) == {"__metadata__", "a"}
    assert content[8 + length :] == torch.ones(2).numpy().tobytes()


def test_shared_tensors_are_written_twice(tmp_path: Path) -> None:
    """Tensors that share memory, as in a conjugated layer, are no obstacle."""
    shared = torch.randn(3)
    save_tensors(tmp_path / "t.safetensors", {"a": shared, "b": shared}, {})
    assert (tmp_path / "t.safetensors").stat().st_size > 2 * shared.numel() * 4


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"PK\x03\x04 a pickle"], ids=["empty", "zeros", "zip"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    """A file that is no checkpoint is an error that names it."""
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"c\.safetensors is not a readable checkpoint"):
        load_checkpoint(path)
    save_tensors(path, {"a": torch.ones(1)}, {})
    with pytest.raises(TrainingError):
        load_checkpoint(path)


def test_a_full_disk_leaves_the_old_checkpoint(small_disk: Path) -> None:
    """When the disk is full the error says so, the old checkpoint is whole, and nothing half-written is left."""
    path = small_disk / "c.safetensors"
    save_checkpoint(path, {"a": torch.ones(1000)}, STATE)
    with pytest.raises(StorageError, match="disk is full"):
        save_checkpoint(path, {"a": torch.ones(30_000_000)}, {"epoch": 4})
    assert load_checkpoint(path)[1] == STATE
    assert [file.name for file in small_disk.iterdir()] == ["c.safetensors"]


@pytest.mark.usefixtures("limit_file_size")
def test_a_size_limit_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """The same where a quota, not the disk, is the limit."""
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"a": torch.ones(1000)}, STATE)
    with pytest.raises(StorageError, match="could not be written"):
        save_checkpoint(path, {"a": torch.ones(300_000)}, {"epoch": 4})
    assert load_checkpoint(path)[1] == STATE
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


def test_the_optimizer_goes_on_where_it_was(tmp_path: Path) -> None:
    """After saving and restoring, the next step of AdamW is the step that it would have made."""

    def step(layer: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    first = nn.Linear(3, 2)
    one = torch.optim.AdamW(first.parameters(), lr=0.1)
    for _ in range(3):
        step(first, one)
    save_checkpoint(tmp_path / "c.safetensors", {**first.state_dict(), **optimizer_tensors(one, "optimizer")}, {})
    tensors, _ = load_checkpoint(tmp_path / "c.safetensors")
    second = nn.Linear(3, 2)
    second.load_state_dict({name: tensors[name] for name in ("weight", "bias")})
    two = torch.optim.AdamW(second.parameters(), lr=0.1)
    restore_optimizer(two, tensors, "optimizer")
    step(first, one)
    step(second, two)
    assert torch.equal(first.weight, second.weight)
