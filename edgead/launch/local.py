"""Jobs in processes of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Thread

from edgead.contexts import STOP_SIGNALS, stop_signals_blocked
from edgead.launch.launcher import Job, Outcome, always, unheard

END_S = 10.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class LocalLauncher:
    """Runs each job in a new process; see `Launcher`.

    Args:
        jobs: Number of jobs at a time.
        threads: Number of threads that the numerical libraries of a process may use, unless the environment says it.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        self._jobs = jobs
        self._threads = threads

    def run(
        self,
        jobs: Sequence[Job],
        *,
        may_start: Callable[[], bool] = always,
        on_change: Callable[[Sequence[str]], None] = unheard,
    ) -> Generator[Outcome, None, None]:
        """See `Launcher`; a job whose process dies is not tried again."""
        waiting = list(jobs)
        running: dict[Connection, tuple[BaseProcess, str]] = {}
        try:
            while True:
                while waiting and len(running) < self._jobs and may_start():
                    self._start(waiting.pop(0), running)
                on_change([name for _, name in running.values()])
                if not running:
                    return
                for receiver in connection.wait(list(running), timeout=1.0):
                    assert isinstance(receiver, Connection)
                    process, name = running[receiver]
                    outcome = _outcome(receiver, process, name)
                    del running[receiver]
                    yield outcome
        finally:
            _end([process for process, _ in running.values()])

    def _start(self, job: Job, running: dict[Connection, tuple[BaseProcess, str]]) -> None:
        context = get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(job, sender), name=job.name)
        # a stop signal during the imports of the new process would print a traceback
        with stop_signals_blocked(), _threads_limited(self._threads):
            process.start()
            running[receiver] = process, job.name
        sender.close()


def ended(exit_code: int | None) -> str:
    """Sentence about the end of a process that gave no result."""
    if exit_code is None or exit_code >= 0:
        return f"Its process ended with exit code {exit_code}."
    return f"Its process was ended by signal {-exit_code}{' (out of memory?)' if exit_code == -signal.SIGKILL else ''}."


def _outcome(receiver: Connection, process: BaseProcess, name: str) -> Outcome:
    """Outcome that a process has sent; without one, its end is the problem."""
    outcome: Outcome | None = None
    with receiver, suppress(EOFError, OSError):
        outcome = receiver.recv()
    process.join(END_S)
    _end([process])
    return outcome or Outcome(name, problem=ended(process.exitcode))


def _end(processes: Sequence[BaseProcess]) -> None:
    """End processes that should have ended, or are no longer wanted."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(END_S)
        if process.is_alive():
            process.kill()
            process.join()


def _work(job: Job, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches all; the parent ends its processes
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    Thread(target=_end_with_parent, daemon=True).start()
    sender.send(outcome_of(job))


def outcome_of(job: Job) -> Outcome:
    """Do a job in this process; what its function raises is the problem."""
    try:
        return Outcome(job.name, job.work(*job.arguments))
    except Exception as error:  # whatever a job dies of, the next one is done
        return Outcome(job.name, problem=f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """End this process with its parent: left alone, it would share its folders with the processes of the next call."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _threads_limited(threads: int) -> Iterator[None]:
    """Let a process that starts meanwhile inherit a number of threads; numpy reads it once, when it is imported."""
    added = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
