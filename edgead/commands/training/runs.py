"""Folders of training runs: creation, record, and the link to the newest."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.config.root import Config
from edgead.errors import ConfigError
from edgead.migration import upgrade_settings
from edgead.storage import exclusive_folder, remove_temporaries, write_json

if TYPE_CHECKING:  # reading images needs OpenCV, and `edgead doctor` must run where OpenCV is broken
    from edgead.commands.training.data import TrainingData

RUNS = Path("runs")
LATEST = "latest"
BUNDLE = "bundle"  # where `edgead.bundle_files.bundle_folder` looks; that module needs OpenCV
CHECKPOINT = "checkpoint.safetensors"
RUN_FILE = "run.json"
SHORT_DIGEST = 16
# sections of the settings that decide the result of a training, and what in them may change when it is resumed
RECORDED = ("data", "model", "train")
MOVABLE = {"data": ("root", "good", "bad", "masks", "known_defects"), "train": ("device",)}
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


def read_run(run: Path) -> dict[str, Any]:
    """Read the record of a run.

    Raises:
        ConfigError: If it is missing or damaged.
    """
    try:
        record = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        if isinstance(record, dict):
            return record
    except (OSError, ValueError) as error:
        raise _unreadable(run) from error
    raise _unreadable(run)


def _unreadable(run: Path) -> ConfigError:
    return ConfigError(
        f"{run} cannot be resumed: its record {RUN_FILE} is missing or damaged.",
        hint="Check the path of the run, or start a new run in another folder.",
    )


def open_run(config: Config, data: TrainingData, run: Path, resume: bool) -> None:
    """Write the record of a new run, or check that the run to resume had the same settings and images.

    The caller holds the lock of the run. What a killed process left unfinished in its folder is removed.

    Raises:
        ConfigError: If they differ, or a new run would overwrite one.
    """
    settings = config.model_dump(mode="json", include=set(RECORDED))
    for section, keys in MOVABLE.items():
        for key in keys:
            settings[section].pop(key, None)
    record = {"settings": settings, "data_digest": data.digest}
    if data.known is not None:
        record["known_defects"] = data.known.digest
    if resume:
        _check_same(run, record, data)
        remove_temporaries(run)
        return
    if (run / RUN_FILE).exists():
        raise ConfigError(
            f"{run} already contains a run.", hint="Add --resume to continue it, or choose another --out."
        )
    description = {"description": data.description, "versions": package_versions(), "git": _git_revision()}
    images = {"images": _short_digests(data)}
    write_json(run / RUN_FILE, {**record, "config": config.model_dump(mode="json"), **description, **images})


def differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Settings by section and key in which `other` differs from a run's own, each as a part of a sentence."""
    return [
        f"{section}.{key} is {own[section].get(key)!r}, not {value!r}"
        for section, values in other.items()
        for key, value in values.items()
        if key not in MOVABLE.get(section, ()) and own[section].get(key) != value
    ]


def _check_same(run: Path, record: dict[str, Any], data: TrainingData) -> None:
    before = read_run(run)
    settings = upgrade_settings(before.get("settings"))
    if settings != record["settings"]:
        # keys that the run does not have were added by a later version: their defaults are the rules of before
        own = {name: {**record["settings"][name], **values} for name, values in settings.items()}
        if changed := differences(own, record["settings"]):
            raise ConfigError(
                f"{run} was started with other settings: {'; '.join(changed)}.",
                hint="Use the run's own settings, or start a new run without --resume.",
            )
    if before.get("data_digest") != record["data_digest"]:
        raise ConfigError(
            f"{run} was started with other images{_other_images(before.get('images'), _short_digests(data))}.",
            hint="Restore the images of the run, or start a new run without --resume.",
        )
    if before.get("known_defects") != record.get("known_defects"):
        raise ConfigError(
            f"{run} was started with other known defects.",
            hint="Restore their pictures, or start a new run without --resume.",
        )


def _short_digests(data: TrainingData) -> dict[str, str]:
    return {sample.name: data.scan.digests[sample.path][:SHORT_DIGEST] for sample in data.scan.readable}


def _other_images(before: Any, now: dict[str, str]) -> str:
    """Names of some images that were added, removed or changed, for a message; empty if the run did not record them."""
    if not isinstance(before, dict):
        return ""
    parts = {
        "added": sorted(now.keys() - before.keys()),
        "removed": sorted(before.keys() - now.keys()),
        "changed": sorted(name for name in now.keys() & before.keys() if now[name] != before[name]),
    }
    said = [f"{len(names)} {what}, such as {names[0]}" for what, names in parts.items() if names]
    return f": {'; '.join(said)}" if said else ""


@contextmanager
def locked_run(run: Path) -> Iterator[None]:
    """Hold the lock of a run, so that one process at a time trains in its folder.

    Raises:
        StorageError: If another process has it.
    """
    hint = "Wait until it has finished, or name another run: --out DIR"
    with exclusive_folder(run, f"trains in {run}", hint=hint):
        yield


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
