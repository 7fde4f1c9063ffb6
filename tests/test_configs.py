"""The example configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.config import load_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))


def test_there_are_configurations() -> None:
    """The list that the next test runs over is not empty."""
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_loads_and_says_how_to_run_it(path: Path) -> None:
    """Every YAML file is valid, and its first line is the command that uses it."""
    load_config(path, {})
    assert path.read_text().startswith("# edgead ")
    assert f"--config configs/{path.name}" in path.read_text().splitlines()[0]
