"""A base bundle of a tiny backbone, and pictures of good parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.commands.export_base import export_base
from edgead.commands.teach import TeachOptions, TeachResult, teach
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.data.synthetic.make import write_dataset
from edgead.imaging import png_from_rgb
from edgead.progress import Silent
from edgead.teach.base import Base

from ..tiny import BACKBONE, SIDE, make_images, write_parts_and_weights


@pytest.fixture(scope="session")
def base_config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings of a tiny model with two levels, one of which joins two feature maps."""
    folder = write_parts_and_weights(tmp_path_factory.mktemp("weights"), 1)
    return load_config(
        None,
        {
            "model.backbone": BACKBONE,
            "model.weights": str(folder / "w.safetensors"),
            "model.image_size": SIDE,
            "model.levels": ["8+16:12", "16"],
            "train.centres": 40,
        },
    )


@pytest.fixture(scope="session")
def base(base_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A base bundle, shared by all tests; do not change its files."""
    return export_base(base_config, tmp_path_factory.mktemp("base") / "base", Silent())


@pytest.fixture(scope="session")
def pictures() -> NDArray[np.uint8]:
    """Sixteen pictures of different good parts."""
    return make_images(16)


@pytest.fixture
def write_pictures(pictures: NDArray[np.uint8], tmp_path: Path) -> Callable[[str, range], Path]:
    """Writes some of the pictures into a folder."""

    def write(name: str, numbers: range) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number in numbers:
            (folder / f"part{number}.png").write_bytes(png_from_rgb(pictures[number]))
        return folder

    return write


@pytest.fixture(scope="session")
def taught(base: Base, tmp_path_factory: pytest.TempPathFactory) -> TeachResult:
    """A teaching with eight generated parts, shared by all tests; do not change its files."""
    data = tmp_path_factory.mktemp("parts") / "parts"
    write_dataset(data, "disc", n_train=8, n_test_good=1, n_test_per_defect=1, seed=1, size=(SIDE, SIDE))
    options = TeachOptions(base.path, tmp_path_factory.mktemp("taught") / "run", data=data)
    return teach(options, load_config(None, {}), Silent())
