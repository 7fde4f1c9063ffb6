"""Jobs on a Ray cluster of this machine, with a worker that is killed in the middle."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgead import __version__
from edgead.commands.training.class_training import LOG
from edgead.commands.training.runs import BUNDLE, CHECKPOINT
from edgead.launch.on_ray import _probe
from tests.commands.plant import command, holders, start, write_plant

ROOT = Path(__file__).parents[2]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: edgead[ray]")


def test_a_node_says_what_it_lacks(tmp_path: Path) -> None:
    """The version, the folder of images, an image of it, the folder of runs, or nothing."""
    reads, writes = tmp_path / "parts", tmp_path / "runs"
    marker = writes / ".marker"
    asked = (str(tmp_path), reads, ["disc"], marker)
    assert _probe("0.0.1", *asked) == f"has edgead {__version__}, and this machine 0.0.1"
    assert _probe(__version__, *asked) == f"has no folder {reads}"
    reads.mkdir()
    assert _probe(__version__, *asked) == f"sees other files in {reads}: disc is missing there"
    (reads / "disc").mkdir()
    assert _probe(__version__, *asked) == f"does not see {writes} as it is here"
    writes.mkdir()
    marker.touch()
    assert _probe(__version__, *asked) == ""


# Ray warns at its import and its shutdown, and starts threads of its own: it has a process of its own here
SCRIPT = """
import json, sys
from pathlib import Path
from edgead.errors import EdgeadError
from edgead.launch.launcher import Job
from edgead.launch.on_ray import RayLauncher
from tests.launch import jobs

folder = Path(sys.argv[1])
todo = [Job("raises", jobs.broken), Job("once", jobs.is_killed_once, (folder,)), Job("always", jobs.is_killed), Job("works", jobs.doubled, (4,))]
seen = []
try:
    found = list(RayLauncher(2, 1, reads=folder, writes=folder).run(todo, on_change=seen.append))
except EdgeadError as error:
    print(json.dumps({"error": error.message, "hint": error.hint}))
else:
    print(json.dumps({"most": max(map(len, seen)), "outcomes": {one.name: [one.result, one.problem] for one in found}}))
"""


def run_script(folder: Path, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
        env={**{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@needs_ray
@pytest.mark.slow
def test_a_lost_worker_is_replaced(tmp_path: Path) -> None:
    """A job that loses its worker once has a result, one that always does has a problem, as has one that raises."""
    found = run_script(tmp_path)
    assert found["most"] == 2
    outcomes = found["outcomes"]
    assert isinstance(outcomes, dict)
    assert outcomes["once"] == ["second", ""]
    assert outcomes["works"] == [8, ""]
    assert outcomes["raises"] == [None, "ValueError: no luck"]
    assert outcomes["always"][1].startswith("Its worker was lost 4 times: ")
    assert [path.name for path in tmp_path.iterdir()] == ["called"]


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With its address."""
    found = run_script(tmp_path, RAY_ADDRESS="127.0.0.1:1")
    assert str(found["error"]).startswith("The Ray cluster at RAY_ADDRESS=127.0.0.1:1 was not reached: ")
    assert "unset RAY_ADDRESS" in str(found["hint"])


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_killed_in_the_middle_loses_no_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers train three classes; one is killed after an epoch, and its class continues on another."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    root, out = write_plant(tmp_path / "parts"), tmp_path / "out"
    process = start(command(root, out, "--launcher", "ray", "--json", train__epochs=60), tmp_path)
    killed: list[str] = []
    try:
        until = time.monotonic() + 900
        while not killed:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            for checkpoint in out.glob(f"*/{CHECKPOINT}"):
                run = checkpoint.parent
                workers = holders(run / LOG)
                if workers and not (run / BUNDLE).exists():
                    os.kill(workers[0], signal.SIGKILL)
                    killed.append(run.name)
                    break
            time.sleep(0.02)
        said, errors = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    content = json.loads(said)
    assert {one["class"]: one["status"] for one in content["classes"]} == dict.fromkeys(
        ("cap", "cover", "disc"), "trained"
    )
    assert all((out / one["class"] / BUNDLE).is_dir() for one in content["classes"])
    assert "The interrupted run continues." in (out / killed[0] / LOG).read_text()
