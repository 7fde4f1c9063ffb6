"""Several processes train what one would, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from edgead.models.zoo import read_weights

from ..tiny import BACKBONE, SIDE, write_parts_and_weights
from .worlds import CASES

# every test starts processes that import torch
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
LONGEST = 120.0


class Worlds:
    """The process in `worlds.py`."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "error", "-m", "tests.train.worlds"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def run(self, job: str, folder: Path, *arguments: dict[str, Any]) -> list[int]:
        """Do a job in as many processes as there are arguments; their exit codes."""
        folder.mkdir(exist_ok=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"job": job, "folder": str(folder), "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        return list(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    running = Worlds()
    yield running
    running.close()


def said(folder: Path, rank: int) -> str:
    return (folder / f"{rank}.err").read_text()


def trained(worlds: Worlds, folder: Path, size: int, **arguments: Any) -> list[Path]:
    """Train in `size` processes that must all end well; the result of each."""
    job = {"checkpoint": str(folder / "c.safetensors"), "settings": {}, **arguments}
    codes = worlds.run("train", folder, *[job] * size)
    assert codes == [0] * size, [said(folder, rank) for rank in range(size)]
    return [folder / f"{rank}.safetensors" for rank in range(size)]


def history(path: Path) -> list[Any]:
    with safe_open(path, framework="pt") as file:
        return list(json.loads(file.metadata()["history"]))


def assert_same_training(one: Path, other: Path) -> None:
    """Weights and losses agree but for the order of additions."""
    expected, found = history(one), history(other)
    assert found[:2] == expected[:2]
    assert found[2:] == [pytest.approx(losses, rel=1e-5, abs=1e-6) for losses in expected[2:]]
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


BATCHES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "odd batches": (10, 3, {}),
    "batches of one": (3, 1, {"batch_size": 2}),
    "one vector of the coarse level": (2, 1, {"fibers": 3}),
}


@pytest.mark.parametrize(
    ("name", "batches"),
    [
        (name, kind)
        for name in CASES
        for kind in BATCHES
        if "fibers" in CASES[name][1] or "fibers" not in BATCHES[kind][2]
    ],
)
def test_two_processes_train_what_one_does(name: str, batches: str, worlds: Worlds, tmp_path: Path) -> None:
    """Weights, fitted and held-out losses are those of one process, where a process has less of a batch or nothing too."""
    n_fit, n_held_out, settings = BATCHES[batches]
    arguments = {"name": name, "n_fit": n_fit, "n_held_out": n_held_out, "settings": settings}
    (alone,) = trained(worlds, tmp_path / "alone", 1, **arguments)
    together = trained(worlds, tmp_path / "together", 2, **arguments)
    assert_same_training(alone, together[0])
    assert together[0].read_bytes() == together[1].read_bytes()
    assert history(alone)[2][-1] < history(alone)[2][0]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_training_goes_on_in_another_number_of_processes(
    before: int, after: int, worlds: Worlds, tmp_path: Path
) -> None:
    """Interrupted and resumed by more or fewer processes, a run ends as the undisturbed one."""
    arguments = {"name": "fastflow", "n_fit": 10, "n_held_out": 3}
    (whole,) = trained(worlds, tmp_path / "whole", 1, **arguments)
    folder = tmp_path / "broken"
    trained(worlds, folder, before, **arguments, stop_at=1)
    assert not (folder / "0.safetensors").exists()
    for result in trained(worlds, folder, after, **arguments, resume=True):
        assert_same_training(whole, result)


def test_processes_share_the_extraction(worlds: Worlds, tmp_path: Path) -> None:
    """Two processes write the shards that one would, each computes its own part, and both see all features."""
    for size in (1, 2):
        arguments = {"cache": str(tmp_path / f"cache{size}"), "n_images": 40}
        # one process keeps its features in memory, so the one here has no room for them
        assert worlds.run("extract", tmp_path / str(size), *[arguments] * size) == [0] * size
    alone = load_file(tmp_path / "1" / "0.safetensors")
    read = []
    for rank in (0, 1):
        path = tmp_path / "2" / f"{rank}.safetensors"
        with safe_open(path, framework="pt") as file:
            read.append(int(file.metadata()["read"]))
        shared = load_file(path)
        assert all(torch.equal(shared[key], alone[key]) for key in alone)
    assert sum(read) == 40
    assert min(read) >= 8


def test_what_processes_exchange(worlds: Worlds, tmp_path: Path) -> None:
    """Sums, copies and objects arrive everywhere; arguments stay as they were, and absent gradients absent."""
    assert worlds.run("gather", tmp_path, *[{}] * 3) == [0] * 3
    said = []
    for rank in range(3):
        path = tmp_path / f"{rank}.safetensors"
        found = load_file(path)
        for name, value in {"sum": 6, "mine": rank + 1, "copied": 1, "first": 6, "last": 6}.items():
            assert bool((found[name] == value).all()), name
        with safe_open(path, framework="pt") as file:
            said.append(json.loads(file.metadata()["said"]))
    assert said[0]["by"] == 0
    assert said == [said[0]] * 3


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_one_process_ends_the_other(victim: int, worlds: Worlds, tmp_path: Path) -> None:
    """When one is killed in the middle, the other says so at once and does not wait for it."""
    job = {"name": "usf", "n_fit": 10, "n_held_out": 3, "checkpoint": str(tmp_path / "c"), "settings": {"epochs": 9}}
    jobs = [job, job]
    jobs[victim] = {**job, "die_at": 1}
    started = time.monotonic()
    codes = worlds.run("train", tmp_path, *jobs)
    assert time.monotonic() - started < 90
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] == 1
    assert said(tmp_path, 1 - victim).startswith(f"Process {1 - victim} of 2 lost the others")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parts, and weights of a small backbone."""
    return write_parts_and_weights(tmp_path_factory.mktemp("place"), n_train=24)


def train_command(place: Path, run: Path, *more: str, couplings: str | None = "always") -> list[str]:
    options = {"--data": place / "data", "--backbone": BACKBONE, "--weights": place / "w.safetensors", "--out": run}
    settings = ["model.levels=[8:8+16:4]", "train.ridge=0.1"]
    if couplings is not None:
        settings += [f"model.couplings={couplings}", "train.epochs=2"]
    words = ["train", "--image-size", str(SIDE), "--device", "cpu"]
    words += [str(word) for pair in options.items() for word in pair]
    return [*words, *(word for setting in settings for word in ("--set", setting)), *more]


def assert_same_run(one: Path, other: Path) -> None:
    first, second = (
        read_weights(run / "bundle" / "weights.safetensors", run / "bundle" / "model.onnx") for run in (one, other)
    )
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-4)


def test_the_command_in_two_processes(place: Path, worlds: Worlds, tmp_path: Path) -> None:
    """The bundle is that of one process, nothing else is left in the run's folder, and the first process alone speaks."""
    for size in (1, 2):
        argv = {"argv": train_command(place, tmp_path / f"run{size}")}
        codes = worlds.run("command", tmp_path / str(size), *[argv] * size)
        assert codes == [0] * size, said(tmp_path / str(size), 0)
    assert_same_run(tmp_path / "run1", tmp_path / "run2")
    assert sorted(os.listdir(tmp_path / "run1")) == sorted(os.listdir(tmp_path / "run2"))
    assert "Held-out loss" in said(tmp_path / "2", 0)
    assert "Next: " in (tmp_path / "2" / "0.out").read_text()
    assert said(tmp_path / "2", 1) == (tmp_path / "2" / "1.out").read_text() == ""


@pytest.mark.parametrize("model", ["usf", "hgad"])
def test_a_closed_form_in_two_processes(model: str, place: Path, worlds: Worlds, tmp_path: Path) -> None:
    """Both processes compute features, the first one fits them, and the bundle is that of one process."""
    more = ["--model", model, "--set", "train.pseudo_defects=1", "--set", "train.forms=[positions]"]
    for size in (1, 2):
        argv = {"argv": train_command(place, tmp_path / f"run{size}", *more, couplings=None), "shard_images": 16}
        codes = worlds.run("command", tmp_path / str(size), *[argv] * size)
        assert codes == [0] * size, [said(tmp_path / str(size), rank) for rank in range(size)]
    assert_same_run(tmp_path / "run1", tmp_path / "run2")
    assert sorted(os.listdir(tmp_path / "run1")) == sorted(os.listdir(tmp_path / "run2"))
    shards = [len((tmp_path / "2" / f"{rank}.shards").read_text().splitlines()) for rank in (0, 1)]
    assert min(shards) > 0
    assert not (tmp_path / "1" / "0.shards").exists(), "one process keeps its features in memory"
    assert "Next: " in (tmp_path / "2" / "0.out").read_text()
    assert said(tmp_path / "2", 1) == (tmp_path / "2" / "1.out").read_text() == ""


def test_an_error_of_all_processes_is_said_once(place: Path, worlds: Worlds, tmp_path: Path) -> None:
    """A device that none of them has is one message and one hint."""
    argv = {"argv": train_command(place, tmp_path / "run", "--device", "cuda:7")}
    codes = worlds.run("command", tmp_path, argv, argv)
    assert sorted(codes) == [1, 2]
    both = said(tmp_path, 0) + said(tmp_path, 1)
    assert both.count("error: ") == both.count("hint: ") == 1
    assert "'cuda:7'" in both


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_ends_all(rank: int, place: Path, worlds: Worlds, tmp_path: Path) -> None:
    """The process whose weights are missing says so; the other ends in silence."""
    good = {"argv": train_command(place, tmp_path / "run")}
    bad = {"argv": train_command(place, tmp_path / "run", "--weights", str(tmp_path / "none.safetensors"))}
    codes = worlds.run("command", tmp_path, *((bad, good) if rank == 0 else (good, bad)))
    assert codes[rank] in (1, 2)
    assert codes[1 - rank] == 1
    assert "none.safetensors" in said(tmp_path, rank)
    assert "error" not in said(tmp_path, 1 - rank)


def launch(launcher: list[str], argv: list[str], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *launcher, "-m", "edgead", *argv]
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_launchers(launcher: str, place: Path, tmp_path: Path) -> None:
    """`torchrun` and `accelerate launch` end with code 0, one bundle and one report."""
    if launcher == "accelerate":
        pytest.importorskip("accelerate")
    words = TORCHRUN if launcher == "torchrun" else [*ACCELERATE, "--mixed_precision", "no", "--dynamo_backend", "no"]
    out, err = (process := launch(words, train_command(place, tmp_path / "run"), tmp_path)).communicate(timeout=LONGEST)
    assert process.returncode == 0, err
    assert (tmp_path / "run" / "bundle" / "bundle.json").is_file()
    assert out.count("Next: ") == err.count("Run folder: ") == 1
    assert "on disk" in err  # several processes did train: one would keep its features in memory


def test_ctrl_c_ends_every_process(place: Path, tmp_path: Path) -> None:
    """An interrupt of torchrun in the middle of the training ends it and its processes; the run resumes."""
    argv = train_command(place, tmp_path / "run", "--epochs", "2000")
    process = launch(TORCHRUN, argv, tmp_path)
    until = time.monotonic() + LONGEST
    while not (tmp_path / "run" / "history.json").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode != 0
    assert len(children) == 2
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert "This is a bug" not in err
    assert "lost the others" not in err
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
