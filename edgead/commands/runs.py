"""The folder of runs: where a new one goes, which is the newest."""

from __future__ import annotations

import datetime
import os
import uuid
from pathlib import Path

from edgead.errors import ConfigError

RUNS = Path("runs")
LATEST = "latest"
BUNDLE = "bundle"
CHECKPOINT = "checkpoint.safetensors"
RUN_FILE = "run.json"


def new_run(runs: Path, model: str) -> Path:
    """Make `runs/<model>-<date>-<n>` with the first free n."""
    runs.mkdir(parents=True, exist_ok=True)
    prefix = f"{model}-{datetime.date.today():%Y%m%d}"
    number = 1
    while True:
        path = runs / f"{prefix}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            continue
        return path


def unfinished_run(runs: Path) -> Path:
    """The newest run that has no bundle yet.

    Raises:
        ConfigError: If there is none.
    """
    if runs.is_dir():
        candidates = [path for path in runs.iterdir() if (path / RUN_FILE).is_file() and not path.is_symlink()]
        open_runs = [path for path in candidates if not (path / BUNDLE).is_dir()]
        if open_runs:
            return max(open_runs, key=lambda path: (path / RUN_FILE).stat().st_mtime)
    raise ConfigError(
        f"There is no unfinished run in {runs}/ to resume.", hint="Leave out --resume, or name it: --out DIR"
    )


def mark_latest(run: Path) -> None:
    """Let `latest` beside the run point at it, in one step."""
    link = run.parent / LATEST
    if link.exists() and not link.is_symlink():
        return
    temporary = run.parent / f".{LATEST}.{uuid.uuid4().hex[:8]}"
    os.symlink(run.name, temporary)
    temporary.replace(link)


def default_bundle() -> Path:
    """The bundle of the newest finished run below the current folder."""
    return RUNS / LATEST / BUNDLE
