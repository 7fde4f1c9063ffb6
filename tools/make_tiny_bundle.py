"""Write a small data set and a bundle trained on it, in seconds: `python tools/make_tiny_bundle.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from edgead.commands.train import train
from edgead.config.file import load_config
from edgead.data.synthetic.make import write_dataset
from edgead.progress import Silent


def main(folder: Path) -> None:
    """Write `folder/data` and `folder/bundle`."""
    write_dataset(folder / "data", "disc", n_train=40, n_test_good=4, n_test_per_defect=1, seed=1, size=(128, 128))
    config = load_config(
        None,
        {
            "data.root": str(folder / "data"),
            "model.image_size": 128,
            "model.levels": ["16:16"],
            "train.epochs": 1,
            "train.device": "cpu",
            # 32 images leave directions of hardly any variance, whose whitening would magnify rounding past the parity limit
            "train.ridge": 0.01,
        },
    )
    result = train(config, Silent(), out=folder / "run", runs=folder, resume=False)
    (folder / "bundle").symlink_to(result.bundle.path, target_is_directory=True)
    print(result.bundle.path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
