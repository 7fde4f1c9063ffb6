"""Small trainings in several processes: `python -m tests.train.worlds` answers lines on its standard input.

Each line, `{"job": ..., "folder": ..., "arguments": [one set for each process]}`, forks that many processes, which meet
as under torchrun and do the job; what they say goes to `folder/<rank>.err`, and their exit codes are printed. Forking
spares each of them the seconds that importing torch takes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from safetensors.torch import save_file
from torch.distributed import TCPStore

import edgead.commands.training.bundle_writing  # noqa: F401  # loaded before the fork, to save time
from edgead import cli
from edgead.errors import EdgeadError
from edgead.train import features
from edgead.train.distributed import World, launched_world
from edgead.train.features import extract_features
from edgead.train.loop import LoopSettings, TrainState, train_flow

from ..tiny import CPU, disturb, make_backbone, make_images, make_model

SETTINGS = LoopSettings(
    epochs=3, batch_size=5, fibers=0, learning_rate=3e-3, schedule="cosine", weight_decay=0.01, gradient_clip=1.0,
    noise=0.1, patience=8, keep="last", altub_interval=3, altub_learning_rate=0.01, altub_warm_up=0.1,
    inter_class_fraction=0.4, seed=5,
)  # fmt: skip
# model settings and loop settings of what is trained; a row more is a test more
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "usf": ({"levels": ("8:6", "16:5")}, {}),
    "fastflow": ({"levels": ("8:6", "16:5"), "coupling": "affine", "base": "altub"}, {}),
    "cflow": ({"levels": ("8:6", "16:5"), "position_channels": 8}, {"fibers": 20}),
    "uflow": ({"levels": ("8:8", "16:12")}, {}),
    "hgad": ({"levels": ("8:6",), "pyramid": (64, 32), "position_channels": 8, "components": 3}, {"fibers": 20}),
    "vae-usf": ({"levels": ("8+16:6",), "latent_size": 5, "decoded_size": 16}, {}),
}


class Interrupted(Exception):
    """A training that ends early."""


def train(
    world: World, folder: Path, *, name: str, n_fit: int, n_held_out: int, checkpoint: str, settings: dict[str, Any],
    resume: bool = False, stop_at: int = -1, die_at: int = -1,
) -> None:  # fmt: skip
    """Train on random features; the weights and the history go to `folder/<rank>.safetensors`."""
    model_settings, case_settings = CASES[name]
    model = make_model(name=name, classes=("one", "two"), **model_settings)
    torch.manual_seed(0)
    disturb(model, 0.5 if resume else 0.05)  # nothing but the checkpoint may determine how a resumed run continues
    random = np.random.default_rng(0)
    rows = n_fit + n_held_out
    arrays = [random.normal(size=(rows, level.channels, *level.size)).astype(np.float16) for level in model.levels]
    for array in arrays:
        array[:, -1] += array[:, 0] ** 2 - 1

    def on_epoch(state: TrainState) -> None:
        if state.epoch == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if state.epoch == stop_at:
            raise Interrupted

    try:
        state = train_flow(
            model, arrays, np.arange(rows) % 2, range(n_fit), range(n_fit, rows),
            replace(SETTINGS, **{**case_settings, **settings}), Path(checkpoint),
            resume=resume, on_step=lambda *_: None, on_epoch=on_epoch, world=world,
        )  # fmt: skip
    except Interrupted:
        return
    history = json.dumps([state.epoch, state.kept_epoch, state.fit_loss, state.held_out_loss])
    weights = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    save_file(weights, folder / f"{world.rank}.safetensors", metadata={"history": history})


def extract(world: World, folder: Path, *, cache: str, n_images: int) -> None:
    """Compute features in shards of 16 images; what this process sees, and how many images it read, are saved."""
    images, read = make_images(n_images), []

    def image(index: int) -> Any:
        read.append(index)
        return images[index]

    store = extract_features(
        make_backbone(), image, n_images, device=CPU, memory_limit=10**9, folder=Path(cache), key="key",
        progress=lambda *_: None, rank=world.rank, world_size=world.size, barrier=world.barrier, shard_bytes=0,
    )  # fmt: skip
    tensors = store.batch(range(n_images))
    save_file(tensors, folder / f"{world.rank}.safetensors", metadata={"read": str(len(read))})


def gather(world: World, folder: Path) -> None:
    """Exchange values by every method of `World`."""
    mine = torch.full((2, 3), float(world.rank + 1))
    copied = mine.clone()
    world.copy_from_main([copied])
    learned = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(mine)]
    learned[0].grad, learned[2].grad = mine[0, :2].clone(), mine.clone()
    world.sum_gradients(learned)
    assert learned[1].grad is None
    tensors = {
        "sum": world.sum(mine),
        "mine": mine,
        "copied": copied,
        "first": learned[0].grad,
        "last": learned[2].grad,
    }
    said = world.from_main(lambda: {"by": world.rank, "pid": os.getpid()})
    save_file(tensors, folder / f"{world.rank}.safetensors", metadata={"said": json.dumps(said)})


def command(folder: Path, argv: list[str], shard_images: int | None = None) -> None:
    """Run the command line; with `shard_images`, features lie in shards of so many images, whose number is written down."""
    os.chdir(folder)
    if shard_images is not None:
        count_shards(folder / f"{os.environ['RANK']}.shards", shard_images)
    sys.argv = ["edgead", *argv]
    cli.main()


def count_shards(file: Path, shard_images: int) -> None:
    """Make shards of `shard_images` images, and add a line to a file for each that this process computes."""
    write = features._written

    def written(*arguments: Any) -> Iterator[int]:
        with file.open("a") as lines:
            lines.write("1\n")
        yield from write(*arguments)

    features.SHARD_IMAGES, features._written = shard_images, written


JOBS: dict[str, Callable[..., None]] = {"train": train, "extract": extract, "gather": gather}


def work(job: str, folder: Path, arguments: dict[str, Any], environment: dict[str, str]) -> None:
    """Run the job of a forked process."""
    os.environ.update(environment)
    for number, ending in ((1, "out"), (2, "err")):
        descriptor = os.open(folder / f"{environment['RANK']}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    if job == "command":
        command(folder, **arguments)
        return
    try:
        with launched_world() as world:
            JOBS[job](world, folder, **arguments)
    except EdgeadError as error:
        print(error.message, file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


def fork(job: str, folder: Path, arguments: dict[str, Any], environment: dict[str, str], ports: int) -> int:
    """The process id of a new process that reads the port from a pipe, does a job and ends."""
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        port = os.read(ports, 5).decode().strip()
        work(job, folder, arguments, {**environment, "MASTER_PORT": port})
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        size = len(request["arguments"])
        ports, sink = os.pipe()
        shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        children = [
            fork(request["job"], Path(request["folder"]), arguments, {**shared, "RANK": str(rank)}, ports)
            for rank, arguments in enumerate(request["arguments"])
        ]
        # where the processes meet; made after the fork, because it has a thread, and on any free port
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(sink, f"{store.port:5}".encode() * size)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        del store
        os.close(ports)
        os.close(sink)
        print(json.dumps([os.waitstatus_to_exitcode(status) for status in statuses]), flush=True)


if __name__ == "__main__":
    main()
