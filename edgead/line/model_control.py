"""Model store as the web server of a running stream sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from edgead.errors import ConfigError, EngineError, StorageError
from edgead.line.model_store import ModelStore

# The first picture of a model takes some seconds, others about one; a busy device several times as long.
LEARNING_LIMIT_S = 120.0


class StoreControl:
    """Lists, activates and rolls back the models of a store, and teaches the active one false alarms.

    Args:
        store: The store.
        alerts: Folder of the stream's alerts; None = none, and nothing can be learned.
    """

    def __init__(self, store: ModelStore, alerts: Path | None = None) -> None:
        self._store = store
        self._alerts = alerts
        self._learning = threading.Lock()

    def describe(self) -> dict[str, Any]:
        state = self._store.read()
        return {**state.to_json(), "changed": None if state.why is None else state.why.sentence}

    def activate(self, name: str, who: str, why: str) -> None:
        self._store.activate(name, who=who, why=why)

    def roll_back(self, who: str, why: str) -> None:
        self._store.roll_back(who=who, why=why)

    def learn(self, alert: str, who: str, *, sure: bool) -> dict[str, Any]:
        """Learn a false alarm with `edgead learn`, in a process of its own: its memory and work are not the stream's.

        Raises:
            ConfigError: If it cannot be learned.
            EngineError: If it takes too long, or its process is killed.
            StorageError: If this stream learns another one.
        """
        if self._alerts is None:
            raise ConfigError("This stream keeps no alerts.", hint="Start it with --alerts DIR.")
        command = [
            sys.executable, "-m", "edgead", "learn", "--alerts", str(self._alerts), "--models", str(self._store.folder),
            f"--who={who}", "--json", *(["--sure"] if sure else []), "--", alert,
        ]  # fmt: skip
        # a process costs seconds and memory also where it only finds that it has to wait
        if not self._learning.acquire(blocking=False):
            raise StorageError("Another false alarm is being learned.", hint="Wait until it has finished.")
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
                timeout=LEARNING_LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"{alert} was not learned within {LEARNING_LIMIT_S:.0f} s, and its process was ended.",
                hint="Try again when the device has less to do, or run `edgead learn` there.",
            ) from error
        finally:
            self._learning.release()
        if done.returncode < 0:
            raise EngineError(
                f"The process that learned {alert} was killed by signal {-done.returncode}.",
                hint="Check the free memory of this device (edgead doctor), and try again.",
            )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
            words = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}
            raise ConfigError(
                words.get("error", f"edgead learn ended with code {done.returncode}."), hint=words.get("hint", "")
            ) from None
        return dict(answer)
