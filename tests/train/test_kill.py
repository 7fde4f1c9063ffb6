"""A killed training resumes bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from edgead.train.checkpoint import load_checkpoint

KILLED = 9


class Trainer:
    """The process in `trainer.py`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("trainer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def start(self, checkpoint: Path, out: Path, *, resume: bool) -> int:
        return int(self._ask(f"{checkpoint} {out} {'resume' if resume else 'new'}"))

    def wait(self) -> int:
        """The raw exit status of the last one started: 9 when it was killed, 0 when it ended well."""
        return int(self._ask("wait"))

    def _ask(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def trainer() -> Iterator[Trainer]:
    running = Trainer()
    yield running
    running.close()


@pytest.fixture(scope="module")
def uninterrupted(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Result of an undisturbed training, and its duration in seconds."""
    folder = tmp_path_factory.mktemp("whole")
    started = time.monotonic()
    trainer.start(folder / "c.safetensors", folder / "out.safetensors", resume=False)
    assert trainer.wait() == 0
    return folder / "out.safetensors", time.monotonic() - started


def assert_same_result(first: Path, second: Path) -> None:
    with safe_open(first, framework="pt") as a, safe_open(second, framework="pt") as b:
        assert a.metadata() == b.metadata()
        assert list(a.keys()) == list(b.keys())
        for name in a.keys():
            assert torch.equal(a.get_tensor(name), b.get_tensor(name)), name


@pytest.mark.slow
def test_a_seed_gives_one_result(trainer: Trainer, uninterrupted: tuple[Path, float], tmp_path: Path) -> None:
    """Two runs with the same seed have the same weights and history, bit for bit."""
    trainer.start(tmp_path / "c.safetensors", tmp_path / "out.safetensors", resume=False)
    assert trainer.wait() == 0
    assert_same_result(uninterrupted[0], tmp_path / "out.safetensors")
    with safe_open(uninterrupted[0], framework="pt") as file:
        epoch, best_epoch, _, held_out = json.loads(file.metadata()["history"])
    assert epoch == 8
    assert best_epoch > 2
    assert held_out[best_epoch] < held_out[0] - 0.01


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_random_moments(
    seed: int, trainer: Trainer, uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    """Killed again and again at random moments and resumed, a run ends with the weights of the undisturbed one."""
    moments, kills = random.Random(seed), 0
    checkpoint, out = tmp_path / "c.safetensors", tmp_path / "out.safetensors"
    # the measured time may be that of a busier moment: small parts of it, until there were enough kills
    for attempt in range(8):
        process = trainer.start(checkpoint, out, resume=attempt > 0)
        time.sleep(moments.uniform(0.05, 0.3) * uninterrupted[1])
        os.kill(process, signal.SIGKILL)
        kills += trainer.wait() == KILLED
        if checkpoint.exists():
            load_checkpoint(checkpoint)
        if kills == 3:
            break
    assert kills >= 2
    trainer.start(checkpoint, out, resume=True)
    assert trainer.wait() == 0
    assert_same_result(uninterrupted[0], out)


def test_killed_while_a_checkpoint_is_written(
    trainer: Trainer, uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    """A kill between the first byte of a new checkpoint and its final name leaves the old one whole."""
    checkpoint, out, hits = tmp_path / "c.safetensors", tmp_path / "out.safetensors", 0
    for attempt in range(4):
        process = trainer.start(checkpoint, out, resume=attempt > 0)
        left_over = set(os.listdir(tmp_path))
        until = time.monotonic() + 60
        while time.monotonic() < until and not out.exists():
            # a checkpoint must be there before, or the moment is not the interesting one
            new = {name for name in set(os.listdir(tmp_path)) - left_over if ".tmp" in name}
            if new and checkpoint.exists():
                os.kill(process, signal.SIGKILL)
                break
        trainer.wait()
        hits += any(name not in left_over and ".tmp" in name for name in os.listdir(tmp_path))
        load_checkpoint(checkpoint)
    assert hits >= 1, "no kill fell into a write"
    trainer.start(checkpoint, out, resume=True)
    assert trainer.wait() == 0
    assert_same_result(uninterrupted[0], out)
