"""Setup common to all tests: one thread per library, a fixed seed, no Hypothesis deadline."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

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

T = TypeVar("T")

settings.register_profile(
    "edgead", deadline=None, max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgead")


# The files that take longest, by the default tests or by the slow ones. Begun last, one would keep a process busy alone.
LONGEST = (
    "export/test_real_graphs.py", "test_real_data.py", "tools/test_soak.py", "stream/delivery/test_kill.py",
    "web/test_openapi.py", "launch/test_ray.py", "commands/test_train_each.py", "builder/test_build_tensorrt.py",
    "engines/test_hostile_bundles.py", "engines/test_tensorrt_surface.py", "tools/test_run.py", "train/test_end_to_end.py",
    "line/test_dashboard.py",
    "test_api.py", "train/test_distributed.py", "commands/test_build_engine.py", "stream/sources/test_rtsp.py",
    "config/test_configs.py", "train/test_altub.py", "builder/test_build_faults.py", "tools/test_gpu_check.py",
    "tools/test_precision.py", "stream/test_frame_faults.py", "commands/training/test_closed_form.py",
    "train/test_kill.py", "commands/test_stopping.py", "cli/test_cli.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Let the order below hold in several processes too: pytest-xdist would begin with the files of the most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; all others keep their order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


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
def ahead_of_other_work() -> Iterator[None]:
    """What this test does and starts has the processor before other work of the machine, where the user may ask for that:
    cameras and devices have a processor of their own.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    yield
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, before)


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


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """What `make` gives for an empty folder, made by the first of all processes of a test run that asks; the others wait."""
    import fcntl

    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = folder / "made.pickle"
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that did not get to the end
            folder.mkdir()
            kept.write_bytes(pickle.dumps(make(folder)))
        return cast("T", pickle.loads(kept.read_bytes()))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty good parts and a test set; do not change its files."""

    def make(folder: Path) -> Path:
        from edgead.data.synthetic.make import write_dataset

        from .tiny_run import SIDE

        root = folder / "disc"
        write_dataset(root, "disc", n_train=40, n_test_good=5, n_test_per_defect=2, seed=1, size=(SIDE, SIDE))
        return root

    return made_once(tmp_path_factory, "tiny", make)


@pytest.fixture(scope="session")
def tiny_result(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A tiny run trained on them, shared by all tests; do not change its files."""

    def make(folder: Path) -> TrainResult:
        from edgead.commands.train import train
        from edgead.progress import Silent

        from .tiny_run import tiny_config

        return train(tiny_config(tiny_data), Silent(), out=None, runs=folder / "runs", resume=False)

    return made_once(tmp_path_factory, "tiny-run", make)


@pytest.fixture(scope="session")
def int8_path(tiny_result: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle with an INT8 engine made from four images, whatever accuracy it costs; do not change its files."""

    def make(folder: Path) -> Path:
        from edgead.builder.lower_precision import LowerOptions
        from edgead.bundle import open_bundle
        from edgead.commands.build_engine import EngineOptions, build_engine
        from edgead.precision.recipe import Recipe
        from edgead.progress import Silent

        path = folder / "bundle"
        shutil.copytree(tiny_result.bundle.path, path)
        options = EngineOptions(LowerOptions(max_drop=1.0, recipe=Recipe(images=4)))
        build_engine(open_bundle(path), "int8", "onnxruntime", Silent(), options)
        return path

    return made_once(tmp_path_factory, "int8", make)


@pytest.fixture
def bundle_copy(tiny_result: TrainResult, tmp_path: Path) -> Callable[[], Bundle]:
    """Makes a copy of the bundle that a test may change."""

    def copy() -> Bundle:
        from edgead.bundle import open_bundle

        target = tmp_path / "bundle"
        shutil.copytree(tiny_result.bundle.path, target)
        return open_bundle(target)

    return copy
