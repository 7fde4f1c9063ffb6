"""Completion in a shell, as `edgead --install-completion` sets it up, and what it offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from edgead.cli import app
from edgead.cli.options import complete_engine
from edgead.errors import ConfigError

EDGEAD = Path(sys.executable).with_name("edgead")


@pytest.mark.skipif(shutil.which("bash") is None or not EDGEAD.exists(), reason="needs bash and an installed edgead")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("edgead buil", ["build-engine"]),
        ("edgead stream --false-alarms", ["--false-alarms-per-hour"]),
        ("edgead train --model fast", ["fastflow"]),
    ],
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


def test_engines_and_parts_are_offered(tmp_path: Path) -> None:
    """Completion offers the engines of the bundle or run that is named, and the parts of the demo."""
    (tmp_path / "bundle" / "engines" / "onnxruntime-int8").mkdir(parents=True)
    command = typer.main.get_command(app)
    for named in (tmp_path, tmp_path / "bundle"):
        context = command.commands["eval"].make_context("eval", [str(named)])  # type: ignore[attr-defined]
        assert complete_engine(context, "") == ["reference", "onnxruntime-int8"]
        assert complete_engine(context, "onnx") == ["onnxruntime-int8"]
    part = next(p for p in command.commands["demo"].params if p.name == "part")  # type: ignore[attr-defined]
    assert [item.value for item in part.shell_complete(typer.Context(command), "c")] == ["cap"]


def test_the_folder_of_images_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`edgead train data` is `edgead train --data data`; two different folders are an error."""
    asked: list[Any] = []
    monkeypatch.setattr("edgead.cli.training._dry_run", lambda config, asked_, *rest: asked.append(asked_["data.root"]))
    for line in (["pictures"], ["--data", "pictures"], ["pictures", "--data", "pictures"]):
        app(["train", "--dry-run", *line], standalone_mode=False)
    assert asked == ["pictures"] * 3
    with pytest.raises(ConfigError, match="one folder"):
        app(["train", "--dry-run", "a", "--data", "b"], standalone_mode=False)
