"""Change of the model under a running stream: what is refused, and what the line then says and does."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgead.config.root import Config
from edgead.errors import BundleError
from edgead.line.model_changer import LineModels, ModelChanger
from edgead.line.model_store import Installed, ModelStore
from edgead.line.readied import LineSettings
from edgead.stream.control import Control
from edgead.stream.spool.events import Event

from .test_model_store import add


class Spool:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    add(store, "a")
    add(store, "b")
    return store


def changer(store: ModelStore, spool: Spool, opened: list[str]) -> ModelChanger:
    """One whose models cannot be opened."""

    def refuse(path: Path, engine: str) -> Any:
        opened.append(path.name)
        raise BundleError("model.onnx was changed after the bundle was made.", hint="Copy it again.")

    models = LineModels(store, store.active()[0], refuse, SimpleNamespace())  # type: ignore[arg-type]
    station: Any = SimpleNamespace(spool=spool)
    keeper: Any = None
    return ModelChanger(
        models, LineSettings([], Config()), [], Control(), keeper, station, None, threading.Event()
    )  # fmt: skip


def test_a_model_that_cannot_be_opened_is_refused(store: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    """The one before judges on, the store is rolled back with the reason, and log and sinks say so once."""
    spool, opened = Spool(), list[str]()
    following = changer(store, spool, opened)
    store.activate("b" * 12, who="ann")
    for _ in range(3):
        following.look()
    assert opened == ["b" * 12]
    assert following.running.name == "a" * 12
    active, why = store.active()
    assert (active.name, why.kind, why.who) == ("a" * 12, "rollback", "edgead")
    assert "was changed after the bundle was made" in why.why
    (event,) = spool.events
    assert (event.kind, event.camera, event.values) == (
        "model_refused", None, {"model": "b" * 64, "running": "a" * 64},
    )  # fmt: skip
    assert "did not take over, and aaaaaaaaaaaa judges on" in event.detail
    assert "Copy it again." in caplog.text


def test_a_refused_model_is_tried_again_when_someone_says_so(store: ModelStore) -> None:
    """A new activation is a new attempt, for example after the cause was removed."""
    opened = list[str]()
    following = changer(store, Spool(), opened)
    for _ in range(2):
        store.activate("b" * 12, who="ann", why=str(len(opened)))
        following.look()
        following.look()
    assert opened == ["b" * 12] * 2


def test_the_running_model_is_not_opened_again(store: ModelStore) -> None:
    """An activation of the model that runs, and a change back before the stream has looked, open nothing."""
    opened = list[str]()
    following = changer(store, Spool(), opened)
    store.activate("b" * 12, who="ann")
    store.roll_back(who="ann")
    following.look()
    assert opened == []
    assert isinstance(following.running, Installed)
