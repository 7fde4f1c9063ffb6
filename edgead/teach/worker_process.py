"""Processes beside a stream that teach a model and install it: their memory and work are not the stream's."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

import edgead
from edgead.command_failure import failure_of
from edgead.contexts import stop_signals_blocked
from edgead.engines.detached import two_ends
from edgead.errors import EdgeadError, EngineError
from edgead.stream.teaching import OnStep, Request, TeachingReport

# Between two words of the process. The longest step is one form with 200 pictures, on a device that does other work.
SILENT_S = 600.0
# An installation builds an engine, which takes minutes with TensorRT.
INSTALL_S = 3600.0
_SEND_S = 60.0
# Below the stream, which the scheduler then gives about nine times as much where both want the same core.
_NICE = 10


class WorkerProcess:
    """Process that teaches into a folder; see `stream.teaching.TeachingWorker`.

    Args:
        base: Base bundle.
        folder: Folder of the teaching; an existing one is continued.
        needs_rest: Whether a frame must show a part at rest.
        every_s: Shortest time between two accepted frames, in seconds.
    """

    def __init__(self, base: Path, folder: Path, *, needs_rest: bool, every_s: float) -> None:
        own, theirs = two_ends(_SEND_S)
        words = [str(theirs.fileno()), str(base), str(folder), str(int(needs_rest)), str(every_s), str(_NICE)]
        with stop_signals_blocked():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgead.commands.teaching_worker", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                env={**_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}, start_new_session=True,
            )  # fmt: skip
        theirs.close()
        self._connection = own

    def ask(self, request: Request, on_step: OnStep) -> TeachingReport:
        """Do what is asked.

        Raises:
            EdgeadError: If it fails.
            EngineError: If the process ended, or says nothing for long.
        """
        try:
            self._connection.send(request)
            while self._connection.poll(SILENT_S):
                kind, content = self._connection.recv()
                if kind == "ok":
                    report: TeachingReport = content
                    return report
                if kind == "error":
                    raise EdgeadError(content[0], hint=content[1])
                on_step(*content)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise EngineError(
                f"The process that teaches has ended{self._how()}.",
                hint="Too little memory is the usual reason. The accepted pictures are kept: teach on with them.",
            ) from error
        raise EngineError(
            f"The process that teaches said nothing for {SILENT_S:.0f} s, and is ended.",
            hint="Try again when the device has less to do. The accepted pictures are kept.",
        )

    def kill(self) -> None:
        """End the process."""
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # it holds nothing half done: a picture or bundle has its name only when it is whole
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _how(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10.0)
        code = self._process.returncode
        return "" if code is None else f", by signal {-code}" if code < 0 else f" with {code}"


def install_taught(models: Path, bundle: Path, who: str, why: str) -> str:
    """Install a bundle in a model store with `edgead model install`, and make it the active one.

    Args:
        models: Model store.
        bundle: Bundle; it may be for another part than the active model's, which is what a teaching is for.
        who, why: Person and reason.

    Returns:
        Name of the installed model.

    Raises:
        EdgeadError: If it cannot be installed; the store is unchanged.
    """
    command = [
        sys.executable, "-m", "edgead", "model", "install", str(bundle), "--models", str(models), "--activate",
        "--other-part", f"--who={who}", f"--why={why}", "--json",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        errors="replace", env=_environment(), start_new_session=True,
    ) as process:  # fmt: skip
        with suppress(OSError):  # it has ended, or priorities are not allowed here
            os.setpriority(os.PRIO_PROCESS, process.pid, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))
        try:
            answer, said = process.communicate(timeout=INSTALL_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise EngineError(
                f"The model was not installed within {INSTALL_S / 60:.0f} minutes, and the process was ended.",
                hint=f"Run `edgead model install {bundle} --models {models} --activate --other-part` on the device.",
            ) from error
    if process.returncode == 0:
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(answer)["name"])
    message, hint = failure_of(said.splitlines(), process.returncode, "installed the model")
    raise EdgeadError(message, hint=hint)


def _environment() -> dict[str, str]:
    """Environment in which a process finds this very package."""
    package = str(Path(edgead.__file__).parents[1])
    search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": search}
