"""Setup common to all tests: one thread per library, a fixed seed, no Hypothesis deadline."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    # the same of a run behind nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

if TYPE_CHECKING:
    from edgead.bundle import Bundle
    from edgead.commands.train import TrainResult

settings.register_profile(
    "edgead", deadline=None, max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgead")


# minutes each, much of them waiting: begun last, they would keep one process busy alone
LONGEST = ("test_soak.py", "test_end_to_end.py", "test_kill.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; all others keep their order."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """The same random numbers in any order of the tests; torch is not imported for the tests that do without."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what a dependency may use
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _umask_restored() -> Iterator[None]:
    """A command run in this process keeps its files private, and so would every test after it."""
    mask = os.umask(0o022)
    yield
    os.umask(mask)


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


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty good parts and a test set."""
    from edgead.data.synthetic.make import write_dataset

    from .tiny_run import SIDE

    root = tmp_path_factory.mktemp("tiny") / "disc"
    write_dataset(root, "disc", n_train=40, n_test_good=5, n_test_per_defect=2, seed=1, size=(SIDE, SIDE))
    return root


@pytest.fixture(scope="session")
def tiny_result(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A tiny run trained on them, shared by all tests; do not change its files."""
    from edgead.commands.train import train
    from edgead.progress import Silent

    from .tiny_run import tiny_config

    runs = tmp_path_factory.mktemp("runs")
    return train(tiny_config(tiny_data), Silent(), out=None, runs=runs, resume=False)


@pytest.fixture
def bundle_copy(tiny_result: TrainResult, tmp_path: Path) -> Callable[[], Bundle]:
    """Makes a copy of the bundle that a test may change."""

    def copy() -> Bundle:
        from edgead.bundle import open_bundle

        target = tmp_path / "bundle"
        shutil.copytree(tiny_result.bundle.path, target)
        return open_bundle(target)

    return copy
