"""An engine in a process of its own, so that it can have the lowest priority and fail alone.

A thread of low priority would not do: it holds Python's lock while the scheduler keeps it waiting, and every other thread
waits with it.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

import edgead
from edgead.bundle import Bundle
from edgead.contexts import stop_signals_blocked
from edgead.engines.fingerprint import read_record
from edgead.errors import EngineError
from edgead.runner import REFERENCE, Outputs, Runner, TensorSpec

LOWEST = 19
# Opening verifies digests and judges a reference image; TensorRT engines may take a minute. A stream that stops waits for a
# call, within the patience of service managers.
OPEN_S, CALL_S = 300.0, 20.0


class DetachedRunner:
    """Runs an engine of a bundle in a process of its own; see `Runner`.

    Args:
        bundle: Verified bundle.
        name: `<backend>-<precision>` or `reference`; None = the best engine present.
        threads: Number of CPU threads of ONNX Runtime.
        nice: Nice value of the process once the engine is open, 19 the lowest priority; 0 = that of this process.
        call_s: Longest duration of one call, in seconds.

    Raises:
        EngineError: If the engine cannot be opened.
    """

    def __init__(
        self, bundle: Bundle, name: str | None, *, threads: int = 1, nice: int = LOWEST, call_s: float = CALL_S
    ) -> None:
        self._call_s = call_s
        self._lock = threading.Lock()
        own, theirs = two_ends(call_s)
        package = str(Path(edgead.__file__).parents[1])
        search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
        words = [str(theirs.fileno()), str(bundle.path), name or "", str(threads), str(nice)]
        with stop_signals_blocked():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgead.engines.detached_worker", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": search}, start_new_session=True,
            )  # fmt: skip
        theirs.close()
        self._connection = own
        try:
            facts = self._answer(OPEN_S, "was not open")
        except BaseException:
            self._end()
            raise
        self.engine_name: str = facts["engine_name"]
        self.device: str = facts["device"]
        self.input_spec: TensorSpec = facts["input_spec"]
        self.output_specs: tuple[TensorSpec, ...] = facts["output_specs"]

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def usage(self) -> tuple[float, float]:
        """Processor time of the process in seconds, and its resident memory in MB; zeros once it has ended, or without /proc."""
        # also collects a process that was killed, whose number may belong to another one later
        if self._process.poll() is not None:
            return 0.0, 0.0
        try:
            stat = (
                Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            )
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError, ValueError):
            return 0.0, 0.0
        ticks = int(stat[11]) + int(stat[12])
        return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def infer(self, batch: NDArray[np.uint8], class_bias: NDArray[np.float32] | None = None) -> Outputs:
        """Run a batch; see `Runner`.

        Raises:
            EngineError: If the engine fails, its process has ended, or it does not answer in time.
        """
        with self._lock:
            try:
                self._connection.send((np.ascontiguousarray(batch), class_bias))
            except BlockingIOError as error:
                raise self._given_up(self._call_s, "did not answer") from error
            except (OSError, ValueError) as error:
                raise EngineError(self._gone()) from error
            outputs: Outputs = self._answer(self._call_s, "did not answer")
            return outputs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._end()

    def _answer(self, limit_s: float, what: str) -> Any:
        try:
            if not self._connection.poll(limit_s):
                raise self._given_up(limit_s, what)
            kind, content = self._connection.recv()
        except BlockingIOError as error:
            raise self._given_up(self._call_s, what) from error
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise EngineError(self._gone()) from error
        if kind == "error":
            message, hint = content
            raise EngineError(message, hint=hint)
        return content

    def _given_up(self, limit_s: float, what: str) -> EngineError:
        self._end()
        return EngineError(f"The process of the engine {what} within {limit_s:g} s, and was ended.")

    def _gone(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10.0)
        code = self._process.returncode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with {code}"
        return f"The process of the engine has ended ({how}): too little memory is the usual reason."

    def _end(self) -> None:
        self._connection.close()
        try:
            # it ends by itself when the connection is closed
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def open_detached(
    bundle: Bundle, name: str | None, *, threads: int = 1, nice: int = LOWEST
) -> tuple[DetachedRunner, Runner, Bundle]:
    """Open an engine in a process of its own.

    Returns:
        The process's runner, the runner of whole frames that uses it, and a view of the bundle with the engine's thresholds.

    Raises:
        EngineError: If it cannot be opened.
    """
    runner = DetachedRunner(bundle, name, threads=threads, nice=nice)
    try:
        record = None if runner.engine_name == REFERENCE else read_record(bundle.engines_path / runner.engine_name)
    except BaseException as error:
        runner.__exit__(type(error), error, error.__traceback__)
        raise
    lower = None if record is None else record.lower
    own = bundle if lower is None else bundle.with_thresholds(lower.thresholds, lower.nfa)
    return runner, bundle.frame_runner(runner), own


def two_ends(limit_s: float) -> tuple[Connection, Connection]:
    """Both ends of a connection; reading and writing at the first one fail with BlockingIOError after `limit_s`.

    A batch is larger than the buffer of a socket, and a process that stands still would never read it.
    """
    from multiprocessing import Pipe

    own, theirs = Pipe()
    limit = struct.pack("@ll", int(limit_s), int(limit_s % 1 * 1e6))
    with socket.socket(fileno=os.dup(own.fileno())) as end:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            end.setsockopt(socket.SOL_SOCKET, option, limit)
    return own, theirs
