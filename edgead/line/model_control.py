"""Model store as the web server of a running stream sees it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgead.bundle_files import THRESHOLD_IMAGES, member_path, read_manifest
from edgead.command_failure import failure_of
from edgead.errors import BundleError, ConfigError, EngineError, StorageError
from edgead.line.installer import Installer
from edgead.line.model_health import HealthWatch
from edgead.line.model_store import Installed, ModelStore

# The first picture of a model takes some seconds, others about one; a busy device several times as long.
LEARNING_LIMIT_S = 120.0


class StoreControl:
    """Installs, lists, activates and rolls back the models of a store, and teaches the active one false alarms.

    Args:
        store: The store.
        alerts: Folder of the stream's alerts; None = none, and nothing can be learned.
        watch: Returns the watch of the running model's first minutes; None after them.
        facts: Returns the keys of the answer `ModelFacts` for a bundle folder of the store; None if it cannot be read.
    """

    def __init__(
        self,
        store: ModelStore,
        alerts: Path | None = None,
        watch: Callable[[], HealthWatch | None] = lambda: None,
        facts: Callable[[Path, Installed], dict[str, Any] | None] = lambda path, model: None,
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._watch = watch
        self._installer = Installer(store)
        self._learning = threading.Lock()
        self._read_facts = facts
        self._facts: dict[tuple[str, str, str], dict[str, Any]] = {}

    def describe(self) -> dict[str, Any]:
        state = self._store.read()
        facts = {self._key(one): self._facts_of(one) for one in state.installed}
        # only of models that are installed
        self._facts = {key: found for key, found in facts.items() if found is not None}
        watch, installation = self._watch(), self._installer.last
        return {
            **state.to_json(),
            "installed": [{**asdict(one), "facts": facts[self._key(one)]} for one in state.installed],
            "changed": None if state.why is None else state.why.sentence,
            "watch": None if watch is None else asdict(watch),
            "installation": None if installation is None else installation.to_json(),
            "installable": self._installer.bundles(),
        }

    def threshold_images(self, name: str) -> bytes:
        """JPEG of the good images that set a model's threshold.

        Raises:
            ConfigError: If no such model is installed, or it has no such picture.
            BundleError: If the file is missing or damaged.
        """
        model = self._store.read().find(name)
        if model is None:
            raise ConfigError(
                f"No model {name} is installed.", hint="It may have been removed since the page was loaded."
            )
        path = self._store.path(model)
        digest = read_manifest(path).sha256.get(THRESHOLD_IMAGES)
        if digest is None:
            raise ConfigError(
                f"The model {name} has no picture of the good images that set its threshold.",
                hint="Models that are trained or taught by this version of edgead have one.",
            )
        content = member_path(path, THRESHOLD_IMAGES).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(f"{path / THRESHOLD_IMAGES} was changed or damaged.", hint="Install the bundle again.")
        return content

    def close(self) -> None:
        """End a running installation."""
        self._installer.close()

    def install(self, bundle: str, who: str, why: str, *, precision: str | None, activate: bool) -> None:
        """Start the installation of a bundle in the folder `incoming` of the store.

        Raises:
            ConfigError: If there is no such bundle.
            StorageError: If another installation runs.
        """
        self._installer.begin(bundle, who, why, precision=precision, activate=activate)

    def activate(self, name: str, who: str, why: str) -> None:
        self._store.activate(name, who=who, why=why)

    def roll_back(self, who: str, why: str, only_from: str | None = None) -> None:
        self._store.roll_back(who=who, why=why, only_from=only_from)

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
        try:
            return dict(json.loads(done.stdout))
        except ValueError:
            message, hint = failure_of(done.stderr.splitlines(), done.returncode, f"learned {alert}")
            kind = EngineError if done.returncode < 0 else ConfigError
            raise kind(message, hint=hint) from None

    @staticmethod
    def _key(model: Installed) -> tuple[str, str, str]:
        return model.digest, model.engine, model.installed_at

    def _facts_of(self, model: Installed) -> dict[str, Any] | None:
        known = self._facts.get(self._key(model))
        return self._read_facts(self._store.path(model), model) if known is None else known
