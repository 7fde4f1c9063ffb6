"""Jobs for the tests of launchers; another process imports them from here."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def doubled(number: int) -> int:
    return 2 * number


def large(n_bytes: int) -> bytes:
    return b"x" * n_bytes


def environment(name: str) -> str | None:
    return os.environ.get(name)


def broken() -> None:
    raise ValueError("no luck")


def leaves(code: int) -> None:
    os._exit(code)


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def waits(folder: Path, name: str) -> None:
    """Write the process id to a file, and wait for a minute."""
    path = folder / name
    path.with_suffix(".tmp").write_text(str(os.getpid()))
    path.with_suffix(".tmp").rename(path)
    time.sleep(60)


def is_killed_once(folder: Path) -> str:
    """Be killed by the first call; the second one says which of them it is."""
    try:
        (folder / "called").mkdir()
    except FileExistsError:
        return "second"
    is_killed()
    return "never"
