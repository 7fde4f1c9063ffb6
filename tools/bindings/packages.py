"""Packages behind the tables, and their download through pip into a cache outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One release of one package; `api` is what it is the Python side of."""

    api: str
    name: str
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


# one per TensorRT generation that a JetPack carries or that a desktop installs; the newest is where names go away
TENSORRT = (
    Package("tensorrt", "tensorrt-bindings", "8.6.1"),
    Package("tensorrt", "tensorrt-cu12-bindings", "10.3.0"),
    Package("tensorrt", "tensorrt-cu12-bindings", "10.13.3.9"),
    Package("tensorrt", "tensorrt-cu12-bindings", "10.16.1.11"),
    Package("tensorrt", "tensorrt-cu12-bindings", "11.4.0.106"),
)
# the oldest with files for aarch64, and a new one
CUDA_BINDINGS = (
    Package("cuda.bindings", "cuda-bindings", "12.8.0"),
    Package("cuda.bindings", "cuda-bindings", "13.5.0"),
)
# the oldest that the `jetson` extra allows, and a new one
PYCUDA = (Package("pycuda", "pycuda", "2024.1"), Package("pycuda", "pycuda", "2026.1"))
PATHFINDER = Package("cuda.pathfinder", "cuda-pathfinder", "1.5.0")  # cuda.bindings does not import without it


class DownloadError(Exception):
    """pip could not bring a file: no network, or no wheel for this Python."""


def default_cache() -> Path:
    """The user's cache folder for downloads."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgead-bindings"


def fetch(package: Package, cache: Path, *, source: bool = False) -> Path:
    """The unpacked files of `package`; downloaded once.

    Raises:
        DownloadError: If pip finds nothing for this Python and platform, or no network.
    """
    folder = cache / f"{package.name}-{package.version}-{sys.implementation.cache_tag}"
    files = folder / "files"
    if files.is_dir():
        return files
    folder.mkdir(parents=True, exist_ok=True)
    only = [f"--no-binary={package.name}"] if source else ["--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", *only]
    done = subprocess.run([*command, "--dest", str(folder), str(package)], capture_output=True, text=True, check=False)
    archives = [path for path in folder.iterdir() if path.suffix in (".whl", ".gz")]
    if not archives:
        raise DownloadError(f"{package}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    _unpack(archives[0], files)
    return files


def _unpack(archive: Path, target: Path) -> None:
    """Unpack under another name first, so that an interrupted run leaves nothing that looks whole."""
    half = target.with_suffix(".half")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(half)
    else:
        with tarfile.open(archive) as source:
            source.extractall(half, filter="data")
    half.rename(target)
