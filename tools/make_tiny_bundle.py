"""Write a small data set and a bundle trained on it, in seconds: `python tools/make_tiny_bundle.py FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edgead.commands.train import train
from edgead.config.file import load_config
from edgead.data.synthetic.make import write_dataset
from edgead.progress import Silent


def make_tiny_bundle(folder: Path, *, image_size: int = 128) -> Path:
    """Write `folder/data` and `folder/bundle`, a link to the bundle that is returned."""
    size = (image_size, image_size)
    write_dataset(folder / "data", "disc", n_train=40, n_test_good=4, n_test_per_defect=1, seed=1, size=size)
    config = load_config(
        None,
        {
            "data.root": str(folder / "data"),
            "model.image_size": image_size,
            "model.levels": ["16:16"],
            "train.epochs": 1,
            "train.device": "cpu",
            # 32 images leave directions of hardly any variance, whose whitening would magnify rounding past the parity limit
            "train.ridge": 0.01,
        },
    )
    result = train(config, Silent(), out=folder / "run", runs=folder, resume=False)
    # relative, so that the folder can be moved and mounted
    (folder / "bundle").symlink_to(os.path.relpath(result.bundle.path, folder), target_is_directory=True)
    return result.bundle.path


if __name__ == "__main__":
    print(make_tiny_bundle(Path(sys.argv[1])))
