"""Sink that runs a user's program for each event; exit code 0 means delivered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from edgead.config.sinks import CommandSettings
from edgead.contexts import OwnsNothing
from edgead.errors import ConfigError
from edgead.redaction import redact_message
from edgead.stream.delivery.sink import DeliveryError, RefusedError
from edgead.stream.spool.events import StoredEvent

# sysexits.h EX_DATAERR: a retry would not help
REFUSED = 65
_TAIL_CHARACTERS = 300
_POLL_S = 0.05
_KILLED_S = 5.0
# a program gets these alone from edgead's environment, which also holds the dashboard's token and the broker's password
_PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "DISPLAY",
    "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


class CommandSink(OwnsNothing):
    """Runs a program without a shell, in its own process group, with the event's JSON on standard input.

    The environment has `EDGEAD_KEY`, `EDGEAD_SEQUENCE`, `EDGEAD_KIND`, `EDGEAD_AT`, `EDGEAD_CAMERA`, `EDGEAD_ZONE`,
    `EDGEAD_ALERT`, `EDGEAD_SEVERITY` and `EDGEAD_SNAPSHOT` (path of the image); absent values are empty. Of edgead's own
    environment it has user, paths, language and time zone, and what `environment` names. Exit code 0 means delivered, 65
    permanently rejected; after any other code the event is retried. When the program ends or times out, all processes
    left in its group are killed.

    Raises:
        ConfigError: If the program does not exist or is not executable.
    """

    def __init__(self, settings: CommandSettings, *, media: Callable[[str, str], Path | None]) -> None:
        if shutil.which(settings.argv[0]) is None:
            raise ConfigError(
                f"The program {settings.argv[0]!r} of a command sink does not exist or is not executable.",
                hint="Give the full path and check its permissions.",
            )
        self._settings = settings
        self._media = media

    def keep_alive(self) -> None:
        """Do nothing: there is no connection."""

    def deliver(self, events: Sequence[StoredEvent]) -> None:
        for number, event in enumerate(events):
            try:
                self._run(event)
            except DeliveryError as error:
                error.n_delivered = number
                raise

    def _run(self, event: StoredEvent) -> None:
        name = self._settings.address
        # a file, not a pipe, because the program may not read its input
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps(event.payload, allow_nan=False).encode() + b"\n")
            given.seek(0)
            try:
                process = subprocess.Popen(
                    self._settings.argv, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    env=self._environment(event), start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise DeliveryError(f"{name} could not be started: {error}") from error
        assert process.stdout is not None
        tail = _Tail(process.stdout)
        is_over = _ended(process, self._settings.timeout_s)
        # before it is reaped, so that its id cannot belong to another group
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            code = process.wait(_KILLED_S)
        except subprocess.TimeoutExpired:
            raise DeliveryError(f"{name} cannot be killed") from None
        said = redact_message(tail.text())
        if not is_over:
            raise DeliveryError(f"{name} was killed after {self._settings.timeout_s:g} s: {said}")
        if code == REFUSED:
            raise RefusedError(f"{name} ended with {code}: {said}")
        if code != 0:
            raise DeliveryError(f"{name} ended with {code}: {said}")

    def _environment(self, event: StoredEvent) -> dict[str, str]:
        payload, alert = event.payload, event.payload["alert"] or {}
        snapshot = None if event.alert_id is None else self._media(event.alert_id, "snapshot")
        values = {
            "KEY": event.key, "SEQUENCE": event.sequence, "KIND": event.kind, "AT": payload["at"],
            "CAMERA": payload["camera"], "ZONE": payload["zone"], "ALERT": event.alert_id,
            "SEVERITY": alert.get("severity"), "SNAPSHOT": snapshot,
        }  # fmt: skip
        passed = {*_PASSED, *self._settings.environment}
        own = {name: value for name, value in os.environ.items() if name in passed or name.startswith("LC_")}
        return own | {
            f"EDGEAD_{key}": "" if value is None else str(value).replace("\0", " ") for key, value in values.items()
        }


class _Tail:
    """Reads the output of a program to its end and keeps the last part."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._end = b""
        self._thread = threading.Thread(target=self._read, name="edgead command output", daemon=True)
        self._thread.start()

    def text(self) -> str:
        self._thread.join(1.0)
        return self._end.decode("utf-8", "replace").strip()[-_TAIL_CHARACTERS:]

    def _read(self) -> None:
        with self._pipe:
            while part := os.read(self._pipe.fileno(), 65536):
                self._end = (self._end + part)[-4 * _TAIL_CHARACTERS :]


def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for a program to end without reaping it; False on timeout."""
    deadline_s = time.monotonic() + timeout_s
    pause_s = 0.001
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _POLL_S)
    return True
