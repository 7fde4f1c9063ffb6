"""The examples in docstrings run as they are written."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

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
]


@pytest.mark.parametrize("module", sorted({*MODULES, *ILLUSTRATED}))
def test_examples_run(module: str) -> None:
    """Every example of the module gives the output written below it."""
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
