"""Model store: what is active after activations, roll-backs, clean-ups and kills."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgead.errors import ConfigError, StorageError
from edgead.line import model_store
from edgead.line.model_store import Installed, ModelStore


def add(store: ModelStore, letter: str, *, activate: bool = False, keep: int = 3) -> tuple[str, ...]:
    """Install a folder in place of a bundle."""
    staged = store.folder / f"staged-{letter}"
    staged.mkdir(parents=True)
    (staged / "content").write_text(letter)
    model = Installed(letter * 12, letter * 64, "usf", ("part",), "2026", "onnxruntime-fp32", "2026", "me", "new lens")
    return store.add(staged, model, activate=activate, keep=keep)


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


def test_roll_back_of_another_model_changes_nothing(store: ModelStore) -> None:
    """An automatic roll-back that comes after a person has changed the model leaves that choice alone."""
    for letter in "abc":
        add(store, letter, activate=True)
    assert store.roll_back(who="edgead", only_from="b" * 12).name[0] == "c"
    assert active(store) == "c"


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
