"""Model store: what is active after activations, roll-backs, clean-ups and kills."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgead.errors import ConfigError, StorageError
from edgead.line import model_store
from edgead.line.model_store import Installed, ModelStore


def add(
    store: ModelStore, letter: str, *, activate: bool = False, keep: int = 3, only_from: str | None = None
) -> tuple[str, ...]:
    """Install a folder in place of a bundle."""
    staged = store.folder / f"staged-{letter}"
    staged.mkdir(parents=True)
    (staged / "content").write_text(letter)
    model = Installed(letter * 12, letter * 64, "usf", ("part",), "2026", "onnxruntime-fp32", "2026", "me", "new lens")
    return store.add(staged, model, activate=activate, keep=keep, only_from=only_from)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def active(store: ModelStore) -> str:
    model, _ = store.active()
    assert (store.path(model) / "content").read_text() == model.name[0]
    return model.name[0]


def test_the_first_is_active_and_others_wait(store: ModelStore) -> None:
    """An empty store says how to fill it; the first model is active at once, the next when someone says so."""
    with pytest.raises(ConfigError, match="no active model") as caught:
        store.active()
    assert "edgead model install" in caught.value.hint
    add(store, "a")
    add(store, "b")
    assert active(store) == "a"
    store.activate("bbb", who="ann", why="finds scratches")
    assert active(store) == "b"
    assert "ann activated it at" in store.active()[1].sentence
    assert store.active()[1].sentence.endswith(": finds scratches")


def test_roll_back_returns_to_the_one_before(store: ModelStore) -> None:
    """Each roll-back goes one model back, also past one that was activated twice, and says when there is none."""
    for letter in "abc":
        add(store, letter, activate=True, keep=9)
    store.activate("a" * 12, who="ann")
    assert active(store) == "a"
    assert [store.roll_back(who="ann").name[0] for _ in range(2)] == ["c", "b"]
    assert store.active()[1].kind == "rollback"
    with pytest.raises(ConfigError, match="No other model"):
        store.roll_back(who="ann")
    assert active(store) == "b"


def test_a_new_version_of_a_model_that_was_left_is_not_installed(store: ModelStore) -> None:
    """Who made another model active meanwhile is not overruled by a version of the one before."""
    for letter in "ab":
        add(store, letter, activate=True)
    before = store.file.read_bytes()
    with pytest.raises(ConfigError, match=f"{'b' * 12} became active in .* of {'a' * 12} was made"):
        add(store, "c", activate=True, only_from="a" * 12)
    assert store.file.read_bytes() == before
    assert not store.path(replace(store.active()[0], name="c" * 12)).exists()
    add(store, "d", activate=True, only_from="b" * 12)
    assert active(store) == "d"


def test_a_refusal_that_comes_late_changes_nothing(store: ModelStore) -> None:
    """A return to the running model that comes after a person has changed the model leaves that choice alone."""
    for letter in "abc":
        add(store, letter, activate=True)
    running = store.read().find("a" * 12)
    assert running is not None
    store.return_to(running, who="edgead", why="", only_from="b" * 12)
    assert active(store) == "c"
    store.return_to(running, who="edgead", why="", only_from="c" * 12)
    assert active(store) == "a"
    assert store.read().trail == ("b" * 12, "a" * 12)


def test_a_folder_without_models_stays_as_it_is(tmp_path: Path) -> None:
    """A mistyped folder is named and not made."""
    store = ModelStore(tmp_path / "modles")
    with pytest.raises(ConfigError, match="no models in"):
        store.activate("a", who="ann")
    with pytest.raises(ConfigError, match="no models in"):
        store.roll_back(who="ann")
    assert not store.folder.exists()


def test_the_oldest_go_but_never_the_active_and_the_previous(store: ModelStore) -> None:
    """Beyond the limit the oldest others are removed from disk and from the way back."""
    for letter in "ab":
        add(store, letter, activate=True)
    assert add(store, "c") == ()
    assert add(store, "d", keep=2) == ("c" * 12,)
    assert sorted(path.name[0] for path in store.folder.iterdir() if path.name[0] != ".") == ["a", "b", "d", "s"]
    assert active(store) == "b"
    assert store.roll_back(who="ann").name[0] == "a"


@pytest.mark.parametrize("letter", ["b", "a"])
def test_a_kill_at_any_write_leaves_a_usable_model(
    store: ModelStore, letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever rename the process ends, the active model is there, and the next installation works."""
    add(store, "a")
    reached = 0
    for at in range(10):
        calls = 0

        def dying(first: object, second: object, real: object = os.rename, limit: int = at) -> None:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise KeyboardInterrupt
            real(first, second)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", lambda self, target: dying(self, target))
            patch.setattr(Path, "replace", lambda self, target: dying(self, target, os.replace))
            try:
                add(store, letter, activate=True, keep=2)
            except KeyboardInterrupt:
                reached += 1
        assert active(store) in "ab"
        for left in store.folder.glob("staged-*"):
            (left / "content").unlink()
            left.rmdir()
    assert reached >= 1
    add(store, "c", activate=True)
    assert active(store) == "c"


def test_another_engine_of_the_active_model_waits(store: ModelStore) -> None:
    """The line keeps its engine until the model is activated with the other one; a missing engine is replaced at once."""
    add(store, "a")
    old = store.active()[0]
    new = replace(old, engine="onnxruntime-int8")
    (store.path(old) / "engines" / old.engine).mkdir(parents=True)
    store.add(store.path(old), new, activate=False)
    assert store.active()[0].engine == old.engine
    assert len(store.read().activations) == 1
    store.add(store.path(old), new, activate=True)
    assert store.active()[0].engine == new.engine
    assert len(store.read().activations) == 2
    store.add(store.path(old), old, activate=False)
    assert store.active()[0].engine == old.engine


def test_damage_is_named(store: ModelStore) -> None:
    """A file that is no store, and a name that no model has."""
    add(store, "a")
    with pytest.raises(ConfigError, match=f"no single model 'x'; installed: {'a' * 12}"):
        store.activate("x", who="ann")
    store.file.write_text("{")
    with pytest.raises(StorageError, match=r"store\.json cannot be read"):
        store.read()


def test_one_change_at_a_time(store: ModelStore) -> None:
    """A second process is refused while one changes the store; an installation does not keep activations waiting."""
    add(store, "a")
    add(store, "b")
    with store.changing(), pytest.raises(StorageError, match="changes the models"):
        store.activate("b" * 12, who="ann")
    with store.installing():
        store.activate("b" * 12, who="ann")
    assert active(store) == "b"


def test_the_record_of_activations_is_bounded(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that changes its model for years does not fill its disk with that."""
    monkeypatch.setattr(model_store, "MAX_ACTIVATIONS", 4)
    add(store, "a")
    add(store, "b")
    for index in range(10):
        store.activate("ba"[index % 2] * 12, who="ann", why=str(index))
    assert [one.why for one in store.read().activations] == ["6", "7", "8", "9"]
    assert len(store.read().trail) == 2
