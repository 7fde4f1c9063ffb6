"""Environments of their own for anomalib and for edgead's device side, and their sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.bench_peer.running import run

ROOT = Path(__file__).parents[2]
PEERS = ("anomalib[cpu,openvino]==2.7.0", "onnxscript")
STAMP = ".installed"
HELP_RUNS = 3
HELP_BUDGET_S = 300.0


def python_of(folder: Path) -> Path:
    """Interpreter of an environment."""
    return folder / "bin" / "python"


def make_environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """Make an environment with these packages unless it is complete, and return its interpreter."""
    python = python_of(folder)
    if not (folder / STAMP).is_file():
        if not python.is_file():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--progress-bar", "off", *packages], check=True, stdout=sys.stderr
        )
        (folder / STAMP).touch()
    return python


def footprint(peer: Path, own: Path, work: Path) -> dict[str, Any]:
    """Size, number of packages, and time and memory of `--help` of both, measured in turns."""
    commands = {"anomalib": peer / "bin" / "anomalib", "edgead": own / "bin" / "edgead"}
    folders = {"anomalib": peer, "edgead": own}
    found: dict[str, Any] = {
        name: {"install_mb": size_mb(folder), "packages": n_packages(folder)} for name, folder in folders.items()
    }
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(HELP_RUNS):
        for name, command in commands.items():
            ran = run([command, "--help"], work / f"help-{name}.log", HELP_BUDGET_S)
            runs[name].append((ran.seconds, ran.peak_mb))
    for name, values in runs.items():
        seconds, peaks = zip(*values, strict=True)
        found[name] |= {"help_s": sorted(seconds)[len(seconds) // 2], "help_mb": max(peaks)}
    return found


def size_mb(folder: Path) -> float:
    """Bytes on disk below a folder in MB, each file once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values()) / 1e6


def n_packages(folder: Path) -> int:
    """Installed distributions."""
    return len(list(folder.glob("lib/python3*/site-packages/*.dist-info")))


def make_own_environment(folder: Path) -> Path:
    """An environment with edgead's device side as it is now, and its interpreter."""
    python = make_environment(folder, (str(ROOT),))
    renew = ["--quiet", "--force-reinstall", "--no-deps", str(ROOT)]
    subprocess.run([str(python), "-m", "pip", "install", *renew], check=True, stdout=sys.stderr)
    return python
