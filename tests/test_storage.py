"""Files appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgead.errors import StorageError
from edgead.storage import (
    atomic_path,
    exclusive_folder,
    remove_temporaries,
    replace_folder,
    require_free_space,
    scratch_folder,
    write_bytes,
    write_json,
)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    """An error half way leaves what was there, and no temporary file."""
    path = tmp_path / "a.json"
    write_bytes(path, b"old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_new_file_is_not_visible_before_it_is_complete(tmp_path: Path) -> None:
    """While it is written, nothing has the final name, and the temporary one keeps the suffix of a picture."""
    path = tmp_path / "new" / "a.png"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"x")
        assert not path.exists()
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".")
    assert path.read_bytes() == b"x"


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    """Text stays text, the file ends with a newline, and NaN is refused without touching the old file."""
    path = tmp_path / "a.json"
    write_json(path, {"name": "Größe", "values": [1, 2.5]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "Größe", "values": [1, 2.5]}
    assert "Größe" in path.read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8").endswith("\n")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    """Where a file stands in the way, the error names the path."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/deeper/a\.json could not be written"):
        write_json(tmp_path / "file" / "deeper" / "a.json", {})


def test_free_space_is_checked_where_the_folder_will_be(tmp_path: Path) -> None:
    """A folder that does not exist yet is judged by its parent's disk; too much is refused with both numbers."""
    require_free_space(tmp_path / "not" / "yet", 1, purpose="The test")
    with pytest.raises(StorageError, match=r"The test needs 1000000000000 MB .* only \d+ MB are free"):
        require_free_space(tmp_path / "not" / "yet", 10**18, purpose="The test")
    require_free_space(Path("relative/not/yet"), 1, purpose="The test")


def test_a_scratch_folder_is_gone_afterwards_with_those_of_killed_processes(tmp_path: Path) -> None:
    """A scratch folder and one left over by a kill are removed; what was renamed out of it stays."""
    (tmp_path / ".export.dead.tmp").mkdir()
    with scratch_folder(tmp_path, "export") as folder:
        (folder / "result").write_text("kept")
        (folder / "result").rename(tmp_path / "result")
        assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_the_scratch_folder_of_a_living_process_stays(tmp_path: Path) -> None:
    """A second process that begins the same work does not remove the folder of the first one."""
    with scratch_folder(tmp_path, "export") as first:
        (first / "model").touch()
        with scratch_folder(tmp_path, "export") as second:
            assert first != second
        assert (first / "model").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exists", [True, False])
def test_the_only_copy_of_a_folder_is_no_left_over(tmp_path: Path, exists: bool) -> None:
    """An old folder that a kill left under a hidden name is removed once a folder of its own name exists, not before."""
    old = tmp_path / ".bundle.01234567.old.tmp"
    old.mkdir()
    if exists:
        (tmp_path / "bundle").mkdir()
    with scratch_folder(tmp_path, "bundle"):
        assert old.exists() is not exists


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    """The lock of a folder is refused while it is held, and free afterwards."""
    with exclusive_folder(tmp_path / "run", "trains", hint="Wait."):
        with pytest.raises(StorageError, match="Another edgead process trains") as caught:
            exclusive_folder(tmp_path / "run", "trains", hint="Wait.").__enter__()
        assert caught.value.hint == "Wait."
    with exclusive_folder(tmp_path / "run", "trains", hint="Wait."):
        assert not list((tmp_path / "run").iterdir()), "the lock is on the folder itself"


def test_only_temporaries_are_removed(tmp_path: Path) -> None:
    """Names that `atomic_path` and `scratch_folder` give are removed, except a folder that is in use."""
    for name in (
        ".run.0123abcd.tmp",
        ".x.png.0123abcd.tmp.png",
        "run.json",
        ".hidden",
        ".a.tmp",
        ".bundle.0123abcd.old.tmp",
    ):
        (tmp_path / name).touch()
    (tmp_path / ".export.0123abcd.tmp").mkdir()
    with scratch_folder(tmp_path, "other") as held:
        remove_temporaries(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {
            "run.json", ".hidden", ".a.tmp", ".bundle.0123abcd.old.tmp", held.name
        }  # fmt: skip


def test_an_error_of_the_disk_in_a_scratch_folder_is_ours(tmp_path: Path) -> None:
    """An OSError inside a scratch folder, and a parent that is a file, become a StorageError."""

    def fail() -> None:
        with scratch_folder(tmp_path, "export") as folder:
            (folder / "missing" / "file").write_text("x")

    with pytest.raises(StorageError, match="could not be written"):
        fail()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError), scratch_folder(tmp_path / "file", "export"):
        pass


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    """The new content has the name, nothing of the old one is left, also where two names cannot be exchanged."""
    if not can_exchange:
        monkeypatch.setattr("edgead.storage._exchange", lambda first, second: False)
    for content in ("old", "new"):
        (tmp_path / "staging").mkdir()
        (tmp_path / "staging" / content).write_text(content)
        replace_folder(tmp_path / "staging", tmp_path / "engine")
        assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path("engine"), Path("engine", content)]


def test_a_folder_that_cannot_move_replaces_nothing(tmp_path: Path) -> None:
    """The old folder is there, whole, when the new one is not."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "old").write_text("old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "staging", tmp_path / "engine")
    assert (tmp_path / "engine" / "old").read_text() == "old"
