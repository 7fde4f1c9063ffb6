"""Change of the model under a running stream: what is refused, and what the line then says and does."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgead.config.root import Config
from edgead.errors import BundleError
from edgead.line import model_changer
from edgead.line.model_changer import LineModels, ModelChanger
from edgead.line.model_store import Installed, ModelStore
from edgead.line.readied import LineSettings
from edgead.stream.control import Control
from edgead.stream.spool.events import Event
from edgead.stream.takeover import TakeOver

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


DAMAGED = BundleError("model.onnx was changed after the bundle was made.", hint="Copy it again.")


def changer(store: ModelStore, spool: Spool, opened: list[str], error: Exception = DAMAGED) -> ModelChanger:
    """One whose models cannot be opened."""

    def refuse(path: Path, engine: str) -> Any:
        opened.append(path.name)
        raise error

    models = LineModels(store, store.active()[0], refuse, SimpleNamespace())  # type: ignore[arg-type]
    station: Any = SimpleNamespace(spool=spool)
    keeper: Any = None
    return ModelChanger(models, LineSettings([], Config()), [], Control(), keeper, station, None)


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


def test_the_running_model_is_the_active_one_after_a_refusal(store: ModelStore) -> None:
    """After a person's roll-back to a model that is refused, the running model stays, not the one before the refused."""
    add(store, "c", activate=True)
    store.activate("b" * 12, who="ann")
    store.activate("c" * 12, who="ann")
    following = changer(store, Spool(), [])
    store.roll_back(who="ann")
    following.look()
    active, why = store.active()
    assert (active.name, why.kind, following.running.name) == ("c" * 12, "rollback", "c" * 12)
    assert store.read().trail == ("a" * 12, "c" * 12)


def test_a_refused_engine_of_the_running_model_is_taken_back(store: ModelStore) -> None:
    """The entry has the running engine again, and nothing is tried again and again."""
    opened = list[str]()
    following = changer(store, Spool(), opened)
    running = following.running
    store.add(store.path(running), replace(running, engine="onnxruntime-int8"), activate=True)
    for _ in range(2):
        following.look()
    assert opened == [running.name]
    assert store.active()[0].engine == running.engine


def test_a_return_that_fails_is_tried_again(store: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    """While another process holds the store, the refused model is not opened again, and the refusal is said once."""
    spool, opened = Spool(), list[str]()
    following = changer(store, spool, opened)
    store.activate("b" * 12, who="ann")
    with store.changing():
        following.look()
        following.look()
    assert store.active()[0].name == "b" * 12
    following.look()
    assert (store.active()[0].name, opened, len(spool.events)) == ("a" * 12, ["b" * 12], 1)
    assert caplog.text.count("does not become the active model again") == 1


def test_an_unexpected_error_refuses_too(store: ModelStore) -> None:
    """An error of a library while a model is opened is a refusal with its kind and text."""
    spool = Spool()
    following = changer(store, spool, [], RuntimeError("out of memory"))
    store.activate("b" * 12, who="ann")
    following.look()
    assert store.active()[0].name == "a" * 12
    assert "RuntimeError: out of memory" in (spool.events[0].detail or "")


def test_an_error_does_not_end_the_thread(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an unexpected error the store is looked at again."""
    monkeypatch.setattr(model_changer, "POLL_S", 0.001)
    following = changer(store, Spool(), [])
    again = threading.Event()

    def look() -> None:
        if failed:
            again.set()
        failed.append(True)
        raise RuntimeError("broken")

    failed: list[bool] = []
    monkeypatch.setattr(following, "look", look)
    with following:
        assert again.wait(5.0)


def test_a_full_mailbox_is_tried_again(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that finds no room among the requests closes the new engine, does not wait, and is made later."""
    following = changer(store, Spool(), [])
    closed = list[bool]()

    class Opened:
        def __exit__(self, *_: object) -> None:
            closed.append(True)

    def open_any(*_: object) -> Any:
        return Opened()

    monkeypatch.setattr(following, "_models", replace(following._models, open=open_any))
    monkeypatch.setattr(following, "_prepare", lambda *_: (TakeOver(None, {}, "ann"), None))  # type: ignore[arg-type]
    monkeypatch.setattr(following, "_control", Control(limit=0))
    store.activate("b" * 12, who="ann")
    for _ in range(2):
        following.look()
    assert len(closed) == 2
    assert store.active()[0].name == "b" * 12


def test_a_change_at_the_end_of_the_stream(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that may still take over stays open until the stream has ended, and is closed then."""
    monkeypatch.setattr(model_changer, "POLL_S", 0.001)
    following = changer(store, Spool(), [])
    closed, asked = list[bool](), threading.Event()

    class Opened:
        def __exit__(self, *_: object) -> None:
            closed.append(True)

    def open_any(*_: object) -> Any:
        return Opened()

    class Mailbox(Control):
        def put(self, request: object) -> bool:
            asked.set()
            return True

    monkeypatch.setattr(following, "_models", replace(following._models, open=open_any))
    monkeypatch.setattr(following, "_prepare", lambda *_: (TakeOver(None, {}, "ann"), None))  # type: ignore[arg-type]
    monkeypatch.setattr(following, "_control", Mailbox())
    store.activate("b" * 12, who="ann")
    with following:
        assert asked.wait(5.0)
        # several turns of the loop that waits for the inference thread
        assert not following._closing.wait(0.2)
        assert closed == []
        assert following._thread.is_alive()
    assert closed == [True]
    assert following.running.name == "a" * 12
