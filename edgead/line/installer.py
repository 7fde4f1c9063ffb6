"""Installation of a model beside a running stream: `edgead model install` in a process of the lowest priority."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from edgead.bundle_files import MANIFEST, bundle_folder
from edgead.command_failure import failure_of
from edgead.errors import ConfigError, StorageError
from edgead.line.model_store import ModelStore

INCOMING = "incoming"
MOST_LISTED = 50
# An INT8 engine of a large model takes minutes on a small device; a process that hangs must not bar the next one for good.
LIMIT_S = 7200.0
_PATIENCE_S = 5.0
_LOWEST = 19


@dataclass(frozen=True)
class Installation:
    """The last installation that was asked of a stream.

    Attributes:
        bundle: Folder in `incoming` of the model store.
        who: Person who asked for it.
        started_at: UTC time.
        state: `running`, `done` or `failed`.
        note: Last line of its output.
        error, hint: Reason of a failure and what to do; empty otherwise.
        model: Name of the installed model; None before the end, or after a failure.
    """

    bundle: str
    who: str
    started_at: str
    state: Literal["running", "done", "failed"] = "running"
    note: str = ""
    error: str = ""
    hint: str = ""
    model: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Installer:
    """Installs bundles that lie in the folder `incoming` of a model store; thread-safe.

    Who may write to this folder may change the store as well, so that installing over the network opens no other path.

    Args:
        store: The store.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._last: Installation | None = None
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    @property
    def last(self) -> Installation | None:
        """The running installation, or else the last one of this stream."""
        return self._last

    def bundles(self) -> list[str]:
        """Folders in `incoming` that hold a bundle, or a run with one, by name; links are left out."""
        incoming = self._store.folder / INCOMING
        try:
            found = sorted(one for one in incoming.iterdir() if not one.name.startswith(".") and one.name.isprintable())
        except OSError:
            return []
        return [one.name for one in found if _holds_bundle(one)][:MOST_LISTED]

    def begin(
        self, bundle: str, who: str, why: str, *, precision: str | None = None, activate: bool = False
    ) -> Installation:
        """Start an installation; `last` says how far it is.

        Args:
            bundle: Name of a folder in `incoming`.
            who, why: Person and reason.
            precision: `fp32`, `fp16` or `int8`; None = that of the active model.
            activate: Whether to make it the active model in the end.

        Raises:
            ConfigError: If there is no such folder.
            StorageError: If another installation of this stream runs, or no process can be started.
        """
        if bundle not in self.bundles():
            raise ConfigError(
                f"There is no bundle {bundle!r} in the folder {INCOMING} of the model store.",
                hint=f"Copy a bundle or run folder there first: {self._store.folder / INCOMING}",
            )
        command = [
            sys.executable, "-m", "edgead", "model", "install", f"--models={self._store.folder}", f"--who={who}",
            f"--why={why}", "--json", *([] if precision is None else [f"--{precision}"]),
            *(["--activate"] if activate else []), "--", str(self._store.folder / INCOMING / bundle),
        ]  # fmt: skip
        with self._lock:
            if self._last is not None and self._last.state == "running":
                raise StorageError(
                    f"Another model is being installed: {self._last.bundle}.", hint="Wait until it has finished."
                )
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                    errors="replace", start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise StorageError(f"No process for the installation could be started: {error.strerror}.") from error
            with suppress(OSError):  # its threads inherit this
                os.setpriority(os.PRIO_PROCESS, process.pid, _LOWEST)
            self._process = process
            started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self._last = begun = Installation(bundle, who, started_at)
            self._thread = threading.Thread(target=self._follow, args=(process,), name="edgead install", daemon=True)
            self._thread.start()
        return begun

    def close(self) -> None:
        """End a running installation; the store stays as it was."""
        with self._lock:
            process, thread = self._process, self._thread
        if process is not None:
            _end(process)
        if thread is not None:
            thread.join(_PATIENCE_S)

    def _follow(self, process: subprocess.Popen[str]) -> None:
        limit = threading.Timer(LIMIT_S, _end, (process,))
        limit.daemon = True
        limit.start()
        lines: list[str] = []
        assert process.stderr is not None
        assert process.stdout is not None
        with process.stderr as notes:
            for line in notes:
                lines = [*lines[-19:], line.rstrip()]
                if line.strip() and not line.startswith(("error: ", "hint: ")):
                    self._change(note=line.strip()[:500])
        with process.stdout as output:
            answer = output.read()
        code = process.wait()
        limit.cancel()
        if code == 0:
            with suppress(ValueError, KeyError, TypeError):
                self._change(state="done", model=str(json.loads(answer)["name"]))
                return
        error, hint = failure_of(lines, code, "installed the model")
        self._change(state="failed", error=error, hint=hint)

    def _change(self, **values: Any) -> None:
        with self._lock:
            assert self._last is not None
            self._last = replace(self._last, **values)


def _holds_bundle(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    inside = bundle_folder(folder)
    return not inside.is_symlink() and (inside / MANIFEST).is_file()


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and those that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
