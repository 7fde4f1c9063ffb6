"""Processes with their time and memory, within a budget."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Ran:
    """A process that has ended.

    Attributes:
        code: Exit status; None = it was ended because its budget was used up.
        seconds: Wall time.
        peak_mb: Largest resident memory of the process or of one of its children; 0 if it was ended.
        started_at: Time of the start, as of `time.time`.
        output: What it printed on stdout.
        processor_s: Processor time of the process and its children, over all cores; 0 if it was ended.
    """

    code: int | None
    seconds: float
    peak_mb: float
    started_at: float
    output: str
    processor_s: float = 0.0


def run(
    command: Sequence[str | Path], log: Path, budget_s: float | None, variables: Mapping[str, str] | None = None
) -> Ran:
    """Run a command in the folder of its log and in a session of its own; end it and its children with its budget.

    They also end with this process, whatever ends it.

    Args:
        command: Words of the command.
        log: File that its stderr is added to.
        budget_s: Longest time in s; None = any.
        variables: Environment variables that are added.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    output, report = log.with_suffix(".out"), log.with_suffix(".report")
    report.unlink(missing_ok=True)
    started_at, started = time.time(), time.monotonic()
    words = [sys.executable, "-I", "-S", LAUNCHER, report, *command]
    with (
        log.open("ab") as errors,
        output.open("wb") as printed,
        subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=printed, stderr=errors, start_new_session=True,
            cwd=log.parent, env={**os.environ, **(variables or {})},
        ) as process,
    ):  # fmt: skip
        try:
            process.wait(budget_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
    text = output.read_text(encoding="utf-8", errors="replace")
    if not report.is_file():
        return Ran(None, time.monotonic() - started, 0.0, started_at, text)
    found = json.loads(report.read_text(encoding="utf-8"))
    return Ran(found["code"], found["seconds"], found["peak_mb"], started_at, text, found["processor_s"])


def last_json(ran: Ran) -> dict[str, Any]:
    """The object in the last line of a process' output.

    Raises:
        RuntimeError: If the process failed.
    """
    lines = ran.output.strip().splitlines()
    if ran.code != 0 or not lines:
        raise RuntimeError("it used up its budget" if ran.code is None else f"it ended with status {ran.code}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found
