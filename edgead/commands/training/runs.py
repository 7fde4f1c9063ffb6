"""Folders of training runs: creation, record, and the link to the newest."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.config.root import Config
from edgead.errors import ConfigError
from edgead.migration import upgrade_settings
from edgead.storage import write_json

if TYPE_CHECKING:  # reading images needs OpenCV, and `edgead doctor` must run where OpenCV is broken
    from edgead.commands.training.data import TrainingData

RUNS = Path("runs")
LATEST = "latest"
BUNDLE = "bundle"
CHECKPOINT = "checkpoint.safetensors"
RUN_FILE = "run.json"
PACKAGES = ("edgead", "torch", "timm", "numpy", "opencv-python", "onnx", "onnxruntime", "safetensors")


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
    """Newest run without a bundle.

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
    """Point the link `latest` beside the run at it, atomically."""
    link = run.parent / LATEST
    if link.exists() and not link.is_symlink():
        return
    temporary = run.parent / f".{LATEST}.{uuid.uuid4().hex[:8]}"
    os.symlink(run.name, temporary)
    temporary.replace(link)


def default_bundle() -> Path:
    """Bundle of the newest finished run below the current folder."""
    return RUNS / LATEST / BUNDLE


def open_run(config: Config, data: TrainingData, out: Path | None, runs: Path, resume: bool) -> Path:
    """Make the folder of a run, or check that the run to resume had the same settings and images.

    Raises:
        ConfigError: If they differ, or a new run would overwrite one.
    """
    # the device and the location of the data may change, the digest of the data may not
    settings = config.model_dump(mode="json", include={"data", "model", "train"})
    for place in ("root", "good", "bad", "masks"):
        settings["data"].pop(place)
    settings["train"].pop("device")
    record = {"settings": settings, "data_digest": data.digest}
    if resume:
        run = out or unfinished_run(runs)
        try:
            before = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{run} cannot be resumed: {RUN_FILE} is missing or damaged.") from error
        before["settings"] = upgrade_settings(before.get("settings"))
        changed = [key for key in record if before.get(key) != record[key]]
        if changed:
            raise ConfigError(
                f"{run} was started with other {' and '.join(changed).replace('_', ' ')}; resuming needs the same.",
                hint="Use the same options and data, or start a new run without --resume.",
            )
        return run
    if out is not None and (out / RUN_FILE).exists():
        raise ConfigError(
            f"{out} already contains a run.", hint="Add --resume to continue it, or choose another --out."
        )
    run = out or new_run(runs, config.model.name)
    description = {"description": data.description, "versions": package_versions(), "git": _git_revision()}
    write_json(run / RUN_FILE, {**record, "config": config.model_dump(mode="json"), **description})
    return run


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the numbers."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_revision() -> str | None:
    """Commit of the current folder, if it is a git repository."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
