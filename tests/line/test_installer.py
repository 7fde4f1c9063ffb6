"""Installation beside a stream: what its process says, how it fails, and that it ends with the stream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.line import installer
from edgead.line.installer import INCOMING, Installer
from edgead.line.model_store import ModelStore


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Installer]:
    """Begin an installation whose process is a shell script."""

    def begun(script: str) -> Installer:
        store = ModelStore(tmp_path / "models")
        folder = store.folder / INCOMING / "new"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bundle.json").touch()
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        monkeypatch.setattr(installer.sys, "executable", str(program))
        one = Installer(store)
        one.begin("new", "ann", "new lens")
        return one

    return begun


def ended(one: Installer) -> installer.Installation:
    end_s = time.monotonic() + 60.0
    while one.last is None or one.last.state == "running":
        assert time.monotonic() < end_s
        time.sleep(0.01)
    return one.last


@pytest.mark.parametrize(
    ("script", "words", "hint"),
    [
        ("echo building >&2; echo 'error: The disk is full.' >&2; echo 'hint: Free some.' >&2; exit 1",
         "The disk is full.", "Free some."),
        ("kill -9 $$", "killed by signal 9", "free memory"),
        ("exit 3", "ended with code 3", ""),
        ("echo nonsense", "ended with code 0", ""),
    ],
)  # fmt: skip
def test_a_failure_is_said(install: Callable[[str], Installer], script: str, words: str, hint: str) -> None:
    """In the words of the command, or by its exit; the next one may begin."""
    one = install(script)
    found = ended(one)
    assert found.state == "failed"
    assert words in found.error
    assert hint in found.hint
    assert found.model is None
    assert one.begin("new", "ann", "").state == "running"
    ended(one)


def test_it_has_the_lowest_priority_and_ends_with_the_stream(
    install: Callable[[str], Installer], tmp_path: Path
) -> None:
    """A build beside the cameras yields to them; nothing of it goes on after the end, not even what it has started."""
    one = install(f"sleep 600 & echo $! > {tmp_path / 'pid'}; wait")
    end_s = time.monotonic() + 60.0
    while not (tmp_path / "pid").exists() or not (text := (tmp_path / "pid").read_text().strip()):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    child = int(text)
    assert one._process is not None
    assert os.getpriority(os.PRIO_PROCESS, one._process.pid) == 19
    one.close()
    assert ended(one).state == "failed"
    assert is_gone(child)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or is only waited for."""
    end_s = time.monotonic() + 10.0
    while time.monotonic() < end_s:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False
