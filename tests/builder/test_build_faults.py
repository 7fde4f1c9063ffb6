"""State left by a build that is stopped, runs out of disk space or meets another build, in real processes."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgead.builder.lower_precision import LowerOptions
from edgead.bundle import Bundle, open_bundle
from edgead.commands.build_engine import EngineOptions, build_engine
from edgead.engines.opening import open_engine
from edgead.precision.recipe import Recipe
from edgead.progress import Silent

NAME = "onnxruntime-int8"
OPTIONS = EngineOptions(LowerOptions(max_drop=1.0, recipe=Recipe(images=4)))
Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def template(int8_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an INT8, an FP16 and an FP32 engine; do not change its files."""
    path = tmp_path_factory.mktemp("faults") / "bundle"
    shutil.copytree(int8_path, path)
    for precision in ("fp32", "fp16"):
        build_engine(open_bundle(path), precision, "onnxruntime", Silent(), OPTIONS)  # type: ignore[arg-type]
    return path


@pytest.fixture
def bundle(template: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(template, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


class Builds:
    """`edgead build-engine` in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._running = folder, list[subprocess.Popen[str]]()
        self._recipe = folder / "quick.yaml"
        self._recipe.write_text("images: 4\n")

    def start(self, bundle: Bundle, precision: str, setup: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        words = [f"--{precision}", "--backend", "onnxruntime", "--max-drop", "1", "--recipe", str(self._recipe)]
        process = subprocess.Popen(
            [sys.executable, "-m", "edgead", "build-engine", str(bundle.path), "--rebuild", *words],
            cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=setup,
        )  # fmt: skip
        self._running.append(process)
        return process

    def run(self, bundle: Bundle, precision: str, setup: Callable[[], None] | None = None) -> tuple[int, str]:
        """Exit code and what was written to stderr."""
        process = self.start(bundle, precision, setup)
        _, stderr = process.communicate(timeout=120)
        return process.returncode, stderr

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate(timeout=60)


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[Builds]:
    found = Builds(tmp_path)
    yield found
    found.close()


def installed(bundle: Bundle) -> Contents:
    """Every file of the engines."""
    files = bundle.engines_path.glob("[!.]*/*")
    return {str(path.relative_to(bundle.engines_path)): path.read_bytes() for path in files}


def left_over(bundle: Bundle) -> list[str]:
    return [path.name for path in bundle.engines_path.iterdir() if path.name.endswith(".tmp")]


def wait_until_it_works(bundle: Bundle, process: subprocess.Popen[str], abandoned: str = "") -> None:
    """Until the build has a folder for its engine, another one than the abandoned."""
    deadline = time.monotonic() + 60
    while not set(left_over(bundle)) - {abandoned}:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_runs(bundle: Bundle) -> None:
    with open_engine(bundle, NAME, threads=1) as runner:
        runner.infer(bundle.reference()["images"][:1])


def test_ctrl_c_leaves_the_old_engine(bundle: Bundle, builds: Builds) -> None:
    """Exit code 130, no traceback, nothing half-made, and the engine from before still runs."""
    before, process = installed(bundle), builds.start(bundle, "int8")
    wait_until_it_works(bundle, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert left_over(bundle) == []
    assert installed(bundle) == before
    assert_runs(bundle)


@pytest.mark.slow
def test_a_killed_build_is_cleaned_up_by_the_next_which_runs_alone(bundle: Bundle, builds: Builds) -> None:
    """After SIGKILL the old engine runs and no lock is held; a second build beside the next one is refused."""
    before, killed = installed(bundle), builds.start(bundle, "int8")
    wait_until_it_works(bundle, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    (abandoned,) = left_over(bundle)
    assert installed(bundle) == before
    assert_runs(bundle)

    following = builds.start(bundle, "int8")
    wait_until_it_works(bundle, following, abandoned)
    code, stderr = builds.run(bundle, "fp32")
    assert (code, following.poll()) == (1, None), stderr
    assert "error: Another edgead process builds an engine of this bundle." in stderr
    assert "hint: Wait until it has finished." in stderr
    _, stderr = following.communicate(timeout=120)
    assert following.returncode == 0, stderr
    assert left_over(bundle) == []
    assert installed(bundle).keys() == before.keys()
    assert installed(bundle)[f"{NAME}/engine.json"] != before[f"{NAME}/engine.json"]
    assert_runs(bundle)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_size_limit_is_told_as_what_it_is(bundle: Bundle, builds: Builds, precision: str) -> None:
    """ONNX Runtime says "Protobuf serialization failed" when it cannot write; the error says why it could not."""
    before = installed(bundle)
    code, stderr = builds.run(bundle, precision, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)))
    assert code == 1, stderr
    assert "could not be written: File too large" in stderr
    assert "ulimit -f" in stderr
    assert installed(bundle) == before
    assert left_over(bundle) == []


@pytest.mark.slow
def test_a_full_disk_is_told_before_the_work(template: Path, small_disk: Path, builds: Builds) -> None:
    """The error gives the space needed, the free space and a hint; the previous engine still runs and is reused."""
    shutil.copytree(template, small_disk / "bundle")
    bundle = open_bundle(small_disk / "bundle")
    before, fill = installed(bundle), small_disk / "fill"
    fill.write_bytes(bytes(shutil.disk_usage(small_disk).free - 2_000_000))
    code, stderr = builds.run(bundle, "int8")
    assert code == 1, stderr
    assert f"Building an engine needs 12 MB in {bundle.engines_path}, but only 2 MB are free." in stderr
    assert "hint: Free some space" in stderr
    assert "Calibration" not in stderr
    assert installed(bundle) == before
    assert_runs(bundle)
    assert build_engine(bundle, "int8", "onnxruntime", Silent(), OPTIONS).reused
    fill.unlink()
    assert builds.run(bundle, "fp16")[0] == 0


def test_a_finished_engine_takes_the_place_of_the_old_one_in_one_step(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step of the exchange a kill hits, no engine is there in part."""
    whole = {name.partition("/")[0]: 2 for name in installed(bundle)}
    seen = []

    def watch(rename: Callable[..., object]) -> Callable[..., object]:
        def watched(*arguments: object, **names: object) -> object:
            found = [name.partition("/")[0] for name in installed(bundle)]
            seen.append({name: found.count(name) for name in found})
            return rename(*arguments, **names)

        return watched

    for function in ("rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, function, watch(getattr(os, function)))
    build_engine(bundle, "fp32", "onnxruntime", Silent())
    assert len(seen) > 3
    assert all(found == whole or found == {n: 2 for n in whole if n != "onnxruntime-fp32"} for found in seen)
