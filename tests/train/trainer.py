"""A small training in a process of its own, to be killed: `python trainer.py` answers lines on its standard input.

Each line `CHECKPOINT OUT resume|new` forks a process that trains and writes its result to OUT; its process id is
printed at once, and `wait` prints its exit status. Forking spares each of them the seconds that importing torch takes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from safetensors.torch import save_file

from edgead.models.backbone import Backbone
from edgead.models.fastflow import FastFlow
from edgead.models.level import FlowSettings, LevelSpec
from edgead.train.loop import LoopSettings, train_couplings

N_FIT, N_HELD_OUT = 24, 8
SETTINGS = LoopSettings(
    epochs=8, batch_size=2, learning_rate=3e-3, weight_decay=0.01, gradient_clip=1.0, noise=0.1, patience=8, seed=5
)


def make_model() -> FastFlow:
    """Two levels, affine and conjugated: everything that a checkpoint can hold."""
    torch.manual_seed(0)
    backbone = Backbone("test_efficientnet", None, (8, 16), (64, 64))
    flow = FlowSettings("affine", "lu", blocks=2, kernels=((3, 1),), hidden_ratio=1.0, positions=False)
    return FastFlow(backbone, [LevelSpec.parse("8:6"), LevelSpec.parse("16:5")], flow, [1.0, 1.0], 0.05)


def make_arrays() -> list[np.ndarray]:
    """Curved data, so that there is something to learn in every epoch."""
    random = np.random.default_rng(0)
    arrays = []
    for channels, size in ((6, 8), (5, 4)):
        x = random.normal(size=(N_FIT + N_HELD_OUT, channels, size, size))
        x[:, -1] += x[:, 0] ** 2 - 1
        arrays.append(x.astype(np.float16))
    return arrays


def train(checkpoint: Path, out: Path, resume: bool) -> None:
    model = make_model()
    if resume:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)  # nothing but the checkpoint may decide where a resumed run goes on
    state = train_couplings(
        model, make_arrays(), range(N_FIT), range(N_FIT, N_FIT + N_HELD_OUT), SETTINGS, checkpoint,
        resume=resume, on_step=lambda *_: None, on_epoch=lambda _: None,
    )  # fmt: skip
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    history = json.dumps([state.epoch, state.best_epoch, state.fit_nll, state.held_out_nll])
    save_file(weights, out, metadata={"history": history})


def main() -> None:
    torch.set_num_threads(1)
    child = 0
    print("ready", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words == ["wait"]:
            _, status = os.waitpid(child, 0)
            print(status, flush=True)
            continue
        child = os.fork()
        if child == 0:
            try:
                train(Path(words[0]), Path(words[1]), words[2] == "resume")
            except BaseException as error:
                print(error, file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
