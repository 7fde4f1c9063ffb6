"""The Dockerfile's steps, read and run without a container engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.dockerfile import DOCKERFILE, Image, Root, expanded, instructions, main, missing


def test_lines_are_joined_and_unknown_steps_refused() -> None:
    """Comments and continued lines as an engine reads them; a step that would be skipped silently is an error."""
    assert instructions("# x\nRUN a \\\n    # y\n    && b\nUSER u\n") == [("RUN", "a && b"), ("USER", "u")]
    with pytest.raises(ValueError, match="SHELL"):
        instructions('SHELL ["sh"]\n')


def test_variables_are_replaced() -> None:
    """Both spellings of a variable are replaced; an unset one is empty."""
    assert expanded("${A}/$B/$NONE", {"A": "1", "B": "2"}) == "1/2/"


def test_copy_takes_what_the_build_gets(tmp_path: Path) -> None:
    """Files and folders land where the working directory says; what .dockerignore leaves out cannot be copied."""
    root, image = Root(tmp_path, DOCKERFILE.parents[1]), Image()
    root.apply(image, "WORKDIR", "/src")
    root.apply(image, "COPY", "pyproject.toml LICENSE ./")
    root.apply(image, "COPY", "edgead ./edgead")
    assert (tmp_path / "src/LICENSE").is_file()
    assert (tmp_path / "src/edgead/cli").is_dir()
    assert not list((tmp_path / "src").rglob("__pycache__"))
    with pytest.raises(ValueError, match="tests"):
        root.apply(image, "COPY", "tests ./tests")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif("EDGEAD_SITE_CHECKS" not in os.environ, reason="run by `make test-site`: makes a Debian root")
def test_the_steps_work_and_the_container_streams() -> None:
    """In a fresh Debian root: built, then a stream without rights on a read-only root answers the health check."""
    if reason := missing():
        pytest.skip(reason)
    assert main() == 0
