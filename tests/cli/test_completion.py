"""Completion in a shell, as `edgead --install-completion` sets it up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EDGEAD = Path(sys.executable).with_name("edgead")


@pytest.mark.skipif(shutil.which("bash") is None or not EDGEAD.exists(), reason="needs bash and an installed edgead")
@pytest.mark.parametrize(
    ("line", "expected"),
    [("edgead buil", ["build-engine"]), ("edgead stream --false-alarms", ["--false-alarms-per-hour"])],
)
def test_bash_completes_verbs_and_options(line: str, expected: list[str]) -> None:
    """The script that is installed makes bash ask edgead, which answers with the verbs and options that fit."""
    words = line.split()
    script = (
        'eval "$(_EDGEAD_COMPLETE=source_bash edgead)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n"
        "_edgead_completion edgead\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    environment = {**os.environ, "PATH": f"{EDGEAD.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == expected, done.stderr
