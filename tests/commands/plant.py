"""A folder of small products, and `edgead train --each-class` on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgead.data.synthetic.make import write_dataset

SIDE = 64
SETTINGS: dict[str, Any] = {
    "model.image_size": SIDE,
    "model.levels": ["16:8"],
    "model.blocks": 2,
    "model.couplings": "always",
    "model.positions": False,
    "train.epochs": 1,
    "train.device": "cpu",
    "train.calibration_images": 2,
    "train.reference_images": 2,
}
PARTS = {"disc": "disc", "cap": "cap", "cover": "cap"}


def write_plant(root: Path, names: tuple[str, ...] = tuple(PARTS), n_train: int = 24) -> Path:
    """Write a data set of each product."""
    for seed, name in enumerate(names):
        write_dataset(
            root / name, PARTS[name], n_train=n_train, n_test_good=2, n_test_per_defect=1, seed=seed, size=(SIDE, SIDE)
        )  # fmt: skip
    return root


def command(root: Path, out: Path, *words: str, **changes: Any) -> list[str]:
    """The command line with the small settings."""
    settings = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    assigned = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return [
        sys.executable, "-m", "edgead", "train", str(root), "--each-class", "--out", str(out), "--jobs", "2", *words, *assigned
    ]  # fmt: skip


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """The command as a process in a folder without settings, in a session of its own."""
    search = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        words, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": search},
    )  # fmt: skip


def holders(path: Path) -> list[int]:
    """Processes that have a file open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.resolve() == path.resolve():
                found.append(int(link.parts[2]))
        except (OSError, RuntimeError):
            continue
    return found
