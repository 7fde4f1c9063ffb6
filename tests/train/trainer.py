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

from edgead.config.model import ModelConfig
from edgead.models.detector import Detector
from edgead.models.zoo import assemble
from edgead.train.loop import LoopSettings, train_flow

N_FIT, N_HELD_OUT = 24, 8
LABELS = np.zeros(N_FIT + N_HELD_OUT, np.int64)
SETTINGS = LoopSettings(
    epochs=8, batch_size=2, fibers=0, learning_rate=3e-3, schedule="cosine", weight_decay=0.01, gradient_clip=1.0,
    noise=0.1, patience=8, keep="best", altub_interval=3, altub_learning_rate=0.01, altub_warm_up=0.1,
    inter_class_fraction=0.1, seed=5,
)  # fmt: skip


def make_model() -> Detector:
    """Two levels, affine, conjugated, with a learnable base: everything that a checkpoint can hold."""
    torch.manual_seed(0)
    config = ModelConfig.model_validate(
        {
            "backbone": "test_efficientnet",
            "image_size": 64,
            "levels": ("8:6", "16:5"),
            "coupling": "affine",
            "mix": "lu",
            "base": "altub",
            "kernels": ((3, 1),),
            "hidden_ratio": 2.0,
            "positions": False,
        }
    )
    return assemble(config, ("part",), None)


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
    if resume and checkpoint.exists():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)  # nothing but the checkpoint may determine how a resumed run continues
    state = train_flow(
        model, make_arrays(), LABELS, range(N_FIT), range(N_FIT, N_FIT + N_HELD_OUT), SETTINGS, checkpoint,
        resume=resume, on_step=lambda *_: None, on_epoch=lambda _: None,
    )  # fmt: skip
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    history = json.dumps([state.epoch, state.kept_epoch, state.fit_loss, state.held_out_loss])
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
