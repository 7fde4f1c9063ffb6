"""What every test runs under: one thread per library, a fixed seed, no deadline for slow machines."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before torch is imported: a small test takes 100 times longer with threads
# FFmpeg reads it once, at the first video of the process, and here a test may come before the code that sets it
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell starts its background jobs so, and the processes of tests that interrupt them would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "edgead", deadline=None, max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgead")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """The same random numbers in any order of the tests; torch is not imported for the tests that do without."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what a dependency may use
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 80 MB; only root can make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def limit_file_size() -> Iterator[None]:
    """No file of this process may grow beyond 100 kB: what a quota does, without root."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
