"""The examples in docstrings run as they are written."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.data.synthetic.make import make_part
from edgead.imaging import png_from_rgb

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "edgead").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
# modules that owe their readers an example
ILLUSTRATED = [
    *(f"edgead.flows.{path.stem}" for path in (ROOT / "edgead" / "flows").glob("*.py") if path.stem != "__init__"),
    "edgead.evaluation.metrics",
    "edgead.evaluation.pixel_metrics",
    "edgead.evaluation.threshold",
    "edgead.imaging",
    "edgead.model",
    "edgead.api",
]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of a user: a bundle in runs/latest, an image of a good part and one of a cracked part."""
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    (tmp_path / "runs" / "latest" / "bundle").symlink_to(ROOT / "tests" / "fixtures" / "bundle-schema-1")
    for name, seed, defect in (("good", 1, None), ("cracked", 2, "crack")):
        image, _ = make_part("disc", np.random.default_rng(seed), (64, 64), defect)
        (tmp_path / f"{name}.png").write_bytes(png_from_rgb(image))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("workshop")
@pytest.mark.parametrize("module", sorted({*MODULES, *ILLUSTRATED}))
def test_examples_run(module: str) -> None:
    """Every example of the module gives the output written below it."""
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
