"""Models of a line on disk: installed bundles, which one is active, and who made it so, when and why.

A store is a folder::

    store.json             what is installed and active; always replaced as a whole
    <digest>/              a verified bundle with its engine, complete from the moment it has this name

The file names the active model, so that a kill at any moment leaves the model that was active before or the one after.
"""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from edgead.bundle_files import ENGINES
from edgead.errors import ConfigError, StorageError
from edgead.storage import exclusive, remove_temporaries, replace_folder, write_json

FILE = "store.json"
LOCK, INSTALL_LOCK = ".lock", ".install.lock"
NAME_LENGTH = 12
KEEP = 3
# Activations in the file; older ones are in the log of the stream.
MAX_ACTIVATIONS = 100


@dataclass(frozen=True)
class Installed:
    """An installed model.

    Attributes:
        name: Name of its folder, the first digits of the digest.
        digest: Digest of the bundle.
        model: Name of the model.
        classes: Kinds of parts.
        trained_at: UTC time of the training.
        engine: Engine that the line runs, `<backend>-<precision>`.
        installed_at: UTC time of the installation.
        who, why: Person and reason.
    """

    name: str
    digest: str
    model: str
    classes: tuple[str, ...]
    trained_at: str
    engine: str
    installed_at: str
    who: str
    why: str = ""

    @property
    def precision(self) -> str:
        """Precision of its engine."""
        return self.engine.rpartition("-")[2]


@dataclass(frozen=True)
class Activation:
    """A change of the active model.

    Attributes:
        name: Model that became active.
        at: UTC time.
        who, why: Person or program, and reason.
        kind: `activate`, or `rollback` to the model that was active before.
        left: Model that a line left by itself, because of its health; empty for any other change.
    """

    name: str
    at: str
    who: str
    why: str = ""
    kind: str = "activate"
    left: str = ""

    @property
    def sentence(self) -> str:
        verb = "rolled back to it" if self.kind == "rollback" else "activated it"
        return f"{self.who} {verb} at {self.at}{f': {self.why}' if self.why else ''}"


@dataclass(frozen=True)
class StoreState:
    """Content of the store's file.

    Attributes:
        installed: Installed models, oldest first.
        trail: Names of the models that were active, oldest first; the last one is active, and a roll-back returns to the
            one before it.
        activations: Changes of the active model, oldest first.
    """

    installed: tuple[Installed, ...] = ()
    trail: tuple[str, ...] = ()
    activations: tuple[Activation, ...] = ()

    @property
    def active(self) -> Installed | None:
        return self.find(self.trail[-1]) if self.trail else None

    @property
    def why(self) -> Activation | None:
        """Activation of the active model."""
        return self.activations[-1] if self.activations else None

    @property
    def previous(self) -> Installed | None:
        """Model that a roll-back returns to."""
        return self.find(self.trail[-2]) if len(self.trail) > 1 else None

    def find(self, name: str) -> Installed | None:
        """Installed model by its name, or by a digest or the beginning of one; None if there is no single one."""
        found = [one for one in self.installed if name and one.digest.startswith(name)]
        return found[0] if len(found) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `model list --json`."""
        active, previous = self.active, self.previous
        return {
            "active": None if active is None else active.name,
            "previous": None if previous is None else previous.name,
            **asdict(self),
        }


class ModelStore:
    """Models of a line in a folder; the folder is made by the first installation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def file(self) -> Path:
        return self.folder / FILE

    def read(self) -> StoreState:
        """State of the store; empty before the first installation.

        Raises:
            StorageError: If the file is damaged.
        """
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            installed = tuple(Installed(**{**one, "classes": tuple(one["classes"])}) for one in content["installed"])
            activations = tuple(Activation(**one) for one in content["activations"])
            return StoreState(installed, tuple(content["trail"]), activations)
        except FileNotFoundError:
            return StoreState()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self.file} cannot be read: {type(error).__name__}: {error}.",
                hint="Restore it from a backup, or remove it and install the models again; their folders stay.",
            ) from None

    def path(self, model: Installed) -> Path:
        """Bundle folder of an installed model."""
        return self.folder / model.name

    def active(self) -> tuple[Installed, Activation]:
        """The active model and how it became so.

        Raises:
            ConfigError: If the store is empty.
        """
        state = self.read()
        if state.active is None or state.why is None:
            raise ConfigError(
                f"There is no active model in {self.folder}.",
                hint=f"Install one: edgead model install BUNDLE --models {self.folder}; a stream runs it with edgead stream "
                f"--models {self.folder} instead of a bundle.",
            )
        return state.active, state.why

    def activate(self, name: str, *, who: str, why: str = "") -> Installed:
        """Make an installed model the active one; a stream with this store changes to it.

        Raises:
            ConfigError: If no or more than one installed model has this name.
            StorageError: If another process changes the store, or it cannot be written.
        """
        self._require_models()
        with self.changing():
            state = self.read()
            model = state.find(name)
            if model is None:
                known = ", ".join(one.name for one in state.installed) or "none"
                raise ConfigError(
                    f"{self.folder} has no single model {name!r}; installed: {known}.",
                    hint="Name one of these, or install it: edgead model install BUNDLE",
                )
            self._write(_activated(state, model.name, who, why))
            return model

    def roll_back(self, *, who: str, why: str = "", only_from: str | None = None) -> Installed:
        """Make the model that was active before the active one again.

        Args:
            who, why: Person or program, and reason.
            only_from: Name of the model that must be active, and is left; None = any.

        Returns:
            The active model afterwards.

        Raises:
            ConfigError: If no other model was active before, or another one than `only_from` is active.
            StorageError: If another process changes the store, or it cannot be written.
        """
        self._require_models()
        with self.changing():
            state = self.read()
            own = state.active
            if only_from is not None and own is not None and own.name != only_from:
                raise ConfigError(
                    f"{own.name} is active now and no longer {only_from}: nothing was changed.",
                    hint="Look at the models again.",
                )
            if state.previous is None:
                raise ConfigError(
                    f"No other model of {self.folder} was active before.",
                    hint="`edgead model list` shows what is there.",
                )
            back = state.previous
            activation = Activation(back.name, _now(), who, why, "rollback")
            self._write(
                replace(state, trail=state.trail[:-1], activations=(*state.activations, activation)[-MAX_ACTIVATIONS:])
            )
            return back

    def return_to(self, model: Installed, *, who: str, why: str, only_from: str, is_unhealthy: bool = False) -> bool:
        """Make a model active again, with its engine, in place of one that a line has refused, or left.

        The other model is no longer on the way back. Nothing changes if it is not active any more.

        Args:
            model: Model that judges on.
            who, why: Program, and reason.
            only_from: Name of the other model.
            is_unhealthy: Whether it has judged, and was left because of its health.

        Returns:
            Whether the model is active again; False if the other one was not active any more.

        Raises:
            ConfigError: If the model is not installed any more.
            StorageError: If another process changes the store, or it cannot be written.
        """
        self._require_models()
        with self.changing():
            state = self.read()
            if state.active is None or state.active.name != only_from:
                return False
            if all(one.name != model.name for one in state.installed):
                raise ConfigError(
                    f"{model.name} is not installed in {self.folder} any more.",
                    hint="Install it again: edgead model install BUNDLE",
                )
            state = replace(
                state,
                installed=tuple(
                    replace(one, engine=model.engine) if one.name == model.name else one for one in state.installed
                ),
                trail=tuple(name for name in state.trail if name != only_from),
            )
            self._write(_activated(state, model.name, who, why, "rollback", only_from if is_unhealthy else ""))
            return True

    def add(
        self, staged: Path, model: Installed, *, activate: bool, keep: int = KEEP, only_from: str | None = None
    ) -> tuple[str, ...]:
        """Give a complete bundle folder its place, and remove the oldest models beyond `keep`.

        The active model and the one that a roll-back returns to are never removed.

        Args:
            staged: Bundle folder on the same file system, which is moved; it may be in its place already.
            model: Facts about it.
            activate: Whether to make it the active one; the first model always is. If it is active already, its engine
                stays without this.
            keep: Number of models to keep.
            only_from: Name of the model that must still be active; None = any.

        Returns:
            Names of the removed models.

        Raises:
            ConfigError: If another model than `only_from` is active.
            StorageError: If another process changes the store, or it cannot be written.
        """
        with self.changing():
            if only_from is not None and self.active()[0].name != only_from:
                raise ConfigError(
                    f"{self.active()[0].name} became active in {self.folder} while a new version of {only_from} was made.",
                    hint="Nothing was changed; start again.",
                )
            if staged != self.path(model):
                replace_folder(staged, self.path(model))
            state = self.read()
            own = state.active
            if own is not None and own.name == model.name and not activate:
                # a repaired folder has only the new engine
                if (self.path(model) / ENGINES / own.engine).is_dir():
                    model = replace(model, engine=own.engine)
            state = replace(state, installed=(*(one for one in state.installed if one.name != model.name), model))
            if activate or state.active is None:
                state = _activated(state, model.name, model.who, model.why)
            fixed = {*state.trail[-2:], model.name}
            others = [one.name for one in state.installed if one.name not in fixed]
            gone = tuple(others[: max(0, len(state.installed) - keep)])
            state = replace(
                state,
                installed=tuple(one for one in state.installed if one.name not in gone),
                trail=tuple(name for name in state.trail if name not in gone),
            )
            self._write(state)
            for name in gone:
                self._remove(self.folder / name)
        return gone

    @contextmanager
    def installing(self) -> Iterator[None]:
        """Hold the store against a second installation; activations and roll-backs are possible meanwhile.

        Raises:
            StorageError: If another process installs a model.
        """
        with exclusive(self.folder / INSTALL_LOCK, f"installs a model in {self.folder}"):
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the store for a change, and remove what killed processes left.

        Raises:
            StorageError: If another process changes it.
        """
        with exclusive(self.folder / LOCK, f"changes the models in {self.folder}"):
            remove_temporaries(self.folder)
            yield

    def _require_models(self) -> None:
        """Refuse a folder without models before the lock is made in it."""
        if not self.file.is_file():
            raise ConfigError(
                f"There are no models in {self.folder}.",
                hint=f"Check the path, or install one: edgead model install BUNDLE --models {self.folder}",
            )

    def _write(self, state: StoreState) -> None:
        write_json(self.file, asdict(state))

    def _remove(self, folder: Path) -> None:
        hidden = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.tmp")
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def _activated(state: StoreState, name: str, who: str, why: str, kind: str = "activate", left: str = "") -> StoreState:
    # a model that becomes active again is not twice on the way back
    trail = (*(one for one in state.trail if one != name), name)
    activations = (*state.activations, Activation(name, _now(), who, why, kind, left))[-MAX_ACTIVATIONS:]
    return replace(state, trail=trail, activations=activations)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
