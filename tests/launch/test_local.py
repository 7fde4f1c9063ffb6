"""Jobs in processes of this machine: results, ends of all kinds, limits, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from edgead.launch.launcher import Job, Outcome
from edgead.launch.local import THREADS, LocalLauncher
from tests.launch import jobs

ROOT = Path(__file__).parents[2]


def outcomes(*todo: Job, side_by_side: int = 2) -> dict[str, Outcome]:
    """Result of each job, or its problem, by name."""
    return {outcome.name: outcome for outcome in LocalLauncher(side_by_side, 1).run(todo)}


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_results_come_back_and_no_more_than_the_limit_work_at_a_time() -> None:
    """Three jobs of two at a time give their three results."""
    seen: list[Sequence[str]] = []
    todo = [Job(name, jobs.doubled, (number,)) for number, name in enumerate(("a", "b", "c"))]
    found = list(LocalLauncher(2, 1).run(todo, on_change=seen.append))
    assert {outcome.name: outcome.result for outcome in found} == {"a": 0, "b": 2, "c": 4}
    assert not any(outcome.problem for outcome in found)
    assert max(map(len, seen)) == 2
    assert list(seen[0]) == ["a", "b"]
    assert list(seen[-1]) == []


def test_a_result_may_be_larger_than_a_pipe() -> None:
    """A process is not waited for while it waits for its result to be read."""
    assert len(outcomes(Job("a", jobs.large, (1 << 22,)))["a"].result) == 1 << 22


def test_the_end_of_one_ends_no_other() -> None:
    """An exception, an exit and a kill are the problems of their jobs; the job after them gives its result."""
    found = outcomes(
        Job("raises", jobs.broken), Job("leaves", jobs.leaves, (3,)), Job("killed", jobs.is_killed),
        Job("works", jobs.doubled, (4,)), side_by_side=1,
    )  # fmt: skip
    assert found["raises"].problem == "ValueError: no luck"
    assert found["leaves"].problem == "Its process ended with exit code 3."
    assert found["killed"].problem == "Its process was ended by signal 9 (out of memory?)."
    assert found["works"] == Outcome("works", 8)


def test_no_job_starts_when_none_may() -> None:
    """The jobs that never started have no outcome."""
    answers = iter([True, False, False, False, False])
    todo = [Job(name, jobs.doubled, (1,)) for name in "abc"]
    assert [one.name for one in LocalLauncher(1, 1).run(todo, may_start=lambda: next(answers))] == ["a"]


@pytest.mark.parametrize("given", [None, "7"])
def test_libraries_get_their_share_of_the_cores(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the environment says it already; that of this process stays as it was."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
        if given is not None:
            monkeypatch.setenv(name, given)
    (found,) = LocalLauncher(1, 3).run([Job("a", jobs.environment, (THREADS[0],))])
    assert found.result == (given or "3")
    assert os.environ.get(THREADS[0]) == given


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_leaving_the_loop_ends_the_jobs_at_work(tmp_path: Path) -> None:
    """Their processes are gone when the iterator is closed."""
    todo = [Job("short", jobs.doubled, (1,)), Job("long", jobs.waits, (tmp_path, "long"))]
    with closing(LocalLauncher(2, 1).run(todo)) as running:
        assert next(running).name == "short"
        wait_until((tmp_path / "long").exists)
        pid = int((tmp_path / "long").read_text())
        assert is_running(pid)
    assert not is_running(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_parent_leaves_no_job_behind(tmp_path: Path) -> None:
    """A job left alone would share its folder with that of the next call."""
    code = (
        "import sys; from pathlib import Path; from edgead.launch.launcher import Job; from edgead.launch.local import LocalLauncher\n"
        "from tests.launch import jobs\n"
        "list(LocalLauncher(1, 1).run([Job('a', jobs.waits, (Path(sys.argv[1]), 'a'))]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    try:
        wait_until((tmp_path / "a").exists)
        pid = int((tmp_path / "a").read_text())
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(60)
    wait_until(lambda: not is_running(pid))
