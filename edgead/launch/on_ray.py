"""Jobs as tasks of a Ray cluster, or of a local one that is started for them."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from edgead import __version__
from edgead.errors import EdgeadError, MissingDependencyError
from edgead.launch.launcher import Job, Outcome, always, unheard
from edgead.launch.local import outcome_of
from edgead.storage import storage_error

ADDRESS = "RAY_ADDRESS"
INSTALL = "pip install 'edgead[ray]'"
RETRIES = 3
CHECK_S, CONNECT_S = 120.0, 10.0
# the smallest that Ray takes is 75 MB; jobs pass nothing but their settings and results
OBJECT_STORE_BYTES = 100_000_000


class ClusterError(EdgeadError):
    """Ray cluster that cannot be reached or cannot do the jobs."""


class RayLauncher:
    """Runs each job as a task of Ray, in a process of its own; see `Launcher`.

    A job whose worker is lost starts again on another one, up to three times. The cluster is the one at `RAY_ADDRESS`; without
    it, a local one is started and ended with the jobs.

    Args:
        jobs: Number of jobs at a time; None = by the cores of the cluster.
        threads: Number of cores of a job.
        memory_mb: Memory that a job reserves, in MB; 0 = none.
        reads: Folder that the jobs read.
        writes: Folder that the jobs write to, as do the retries of lost jobs.
        takes_gpu: Whether a job reserves a GPU where the cluster has any.

    Raises:
        MissingDependencyError: If Ray is not installed.
    """

    def __init__(
        self,
        jobs: int | None,
        threads: int,
        *,
        reads: Path,
        writes: Path,
        memory_mb: float = 0.0,
        takes_gpu: bool = False,
    ) -> None:
        require_ray()
        self._jobs = jobs
        self._threads = threads
        self._memory_mb = memory_mb
        self._reads = reads.absolute()
        self._writes = writes.absolute()
        self._takes_gpu = takes_gpu

    def run(
        self,
        jobs: Sequence[Job],
        *,
        may_start: Callable[[], bool] = always,
        on_change: Callable[[Sequence[str]], None] = unheard,
    ) -> Generator[Outcome, None, None]:
        """See `Launcher`.

        Raises:
            ClusterError: If the cluster cannot be reached, or one of its nodes lacks edgead or a folder.
        """
        if not jobs:
            return
        import ray

        with _cluster((self._jobs or os.cpu_count() or 1) * self._threads):
            self._check_nodes()
            task = ray.remote(**self._needs())(_work)
            limit = self._jobs or max(1, int(ray.cluster_resources().get("CPU", 1)) // self._threads)
            waiting, here = list(jobs), os.getcwd()
            running: dict[Any, str] = {}
            try:
                while True:
                    while waiting and len(running) < limit and may_start():
                        job = waiting.pop(0)
                        running[task.remote(job, here)] = job.name
                    on_change(list(running.values()))
                    if not running:
                        return
                    for reference in ray.wait(list(running), num_returns=1, timeout=1.0)[0]:
                        yield _outcome(reference, running.pop(reference))
            finally:
                for reference in running:
                    with suppress(Exception):  # whatever state the cluster is in
                        ray.cancel(reference, force=True)

    def _needs(self) -> dict[str, Any]:
        """Options of a task; one that asked for more memory than any node has would wait without end."""
        import ray

        memory = [node["Resources"].get("memory", 0.0) for node in ray.nodes() if node["Alive"]]
        gpus = int(self._takes_gpu and ray.cluster_resources().get("GPU", 0) >= 1)
        return {
            "num_cpus": self._threads,
            "num_gpus": gpus,
            "memory": int(min(self._memory_mb * 1e6, max(memory, default=0.0))) or None,
            "max_retries": RETRIES,
            "max_calls": 1,
        }

    def _check_nodes(self) -> None:
        """Check that every node can do the jobs: it imports this edgead, and sees both folders as they are here."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= self._threads]
        if not nodes:
            raise ClusterError(
                f"No node of the Ray cluster has {self._threads} core(s) for a job.",
                hint="Add nodes, or take fewer threads for each job.",
            )
        names = sorted(path.name for path in self._reads.iterdir())
        with _marker(self._writes) as marker:
            probe = ray.remote(_probe)
            asked = []
            for node in nodes:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                reference = probe.options(num_cpus=0, scheduling_strategy=there).remote(
                    __version__, os.getcwd(), self._reads, names, marker
                )
                asked.append((node["NodeManagerAddress"], reference))
            for address, reference in asked:
                try:
                    found = ray.get(reference, timeout=CHECK_S)
                except Exception as error:  # Ray wraps what the node raised in classes of its own
                    raise ClusterError(
                        f"The node {address} of the Ray cluster cannot run edgead: {_first_line(error)}",
                        hint="Install edgead[train] of the same version in the Python that its workers use.",
                    ) from error
                if found:
                    raise ClusterError(
                        f"The node {address} of the Ray cluster {found}.",
                        hint=f"All nodes need the same edgead and have to see {self._reads} and {self._writes} under these paths: "
                        "put both on a shared folder that they may write to.",
                    )


def require_ray() -> None:
    """Check that Ray is installed.

    Raises:
        MissingDependencyError: If it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError("ray", needed_for="--launcher ray", install=INSTALL)


@contextmanager
def _cluster(cores: int) -> Iterator[None]:
    """Connect to the cluster at `RAY_ADDRESS`, or start a local one with some cores; its reports of use are off."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get(ADDRESS)
    if address:
        _check_address(address)
    else:  # with Ray's own niceness, 15, the jobs stand still while the machine does anything else
        os.environ.setdefault("RAY_worker_niceness", "0")
    own = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(
            address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own)
        )
    except Exception as error:  # Ray has no class for this
        if address:
            raise _not_reached(address, error) from error
        raise ClusterError(f"Ray did not start here: {_first_line(error)}", hint="Use --launcher local.") from error
    try:
        with redirect_stdout(_OwnOutput(sys.stdout)):
            yield
    finally:
        ray.shutdown()


class _OwnOutput(io.TextIOBase):
    """Standard output on which Ray's threads do not write: their news of lost workers go to stderr, JSON stays whole.

    Args:
        stream: The standard output.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        is_of_ray = threading.current_thread().name.startswith("ray_")
        return (sys.stderr if is_of_ray else self._stream).write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the standard output."""
        return self._stream.encoding


def _check_address(address: str) -> None:
    """Check that something listens at `HOST:PORT`, for which Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _not_reached(address, error) from error


def _not_reached(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"The Ray cluster at {ADDRESS}={address} was not reached: {_first_line(error)}",
        hint=f"Check the cluster with `ray status`, or unset {ADDRESS} to start a local one.",
    )


@contextmanager
def _marker(folder: Path) -> Iterator[Path]:
    """Make an empty file for a while, by which a node shows that it sees a folder."""
    marker = folder / f".{uuid.uuid4().hex[:8]}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise storage_error(marker, error) from error
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _probe(version: str, here: str, reads: Path, names: Sequence[str], marker: Path) -> str:
    """End of a sentence about this node, such as `has no folder /data`; empty if it can do the jobs."""
    _change_to(here)
    if version != __version__:
        return f"has edgead {__version__}, and this machine {version}"
    if not reads.is_dir():
        return f"has no folder {reads}"
    if missing := sorted(set(names) - {path.name for path in reads.iterdir()}):
        return f"sees other files in {reads}: {missing[0]} is missing there"
    if not marker.exists():
        return f"does not see {marker.parent} as it is here"
    return "" if os.access(marker.parent, os.W_OK) else f"may not write to {marker.parent}"


def _work(job: Job, here: str) -> Outcome:
    _change_to(here)
    return outcome_of(job)


def _change_to(folder: str) -> None:
    """Work where the command was given, so that relative paths of the settings mean the same."""
    with suppress(OSError):
        os.chdir(folder)


def _outcome(reference: Any, name: str) -> Outcome:
    import ray

    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Outcome(name, problem=f"Its worker was lost {RETRIES + 1} times: {_first_line(error)}")
    return outcome


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
