"""Two small data sets for the tests of the tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.data.synthetic.make import write_dataset
from tests.commands.plant import SIDE


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the data sets `disc` and `cap`; do not change its files."""
    root = tmp_path_factory.mktemp("data")
    for name in ("disc", "cap"):
        write_dataset(root / name, name, n_train=30, n_test_good=3, n_test_per_defect=1, seed=1, size=(SIDE, SIDE))
    return root
