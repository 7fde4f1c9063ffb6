"""Events in a file: each once, whole lines, bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.config.sinks import JsonlSettings
from edgead.stream.delivery.jsonl import JsonlSink
from edgead.stream.delivery.sink import DeliveryError

from .receivers import event


def sink(path: Path, **changes: Any) -> JsonlSink:
    return JsonlSink(JsonlSettings(path=path, **changes))


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["sequence"] for line in path.read_text().splitlines()]


def test_one_line_per_event(tmp_path: Path) -> None:
    """The payload, in ASCII, in a file whose folder is made."""
    path = tmp_path / "new" / "alerts.jsonl"
    sink(path).deliver([event(1, camera="Straße\u2028"), event(2)])
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0]) == event(1, camera="Straße\u2028").payload
    assert path.read_bytes().isascii()


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    """After a kill between the file and the cursor the same events come once more."""
    path = tmp_path / "a.jsonl"
    sink(path).deliver([event(1), event(2), event(3)])
    sink(path).deliver([event(1), event(2), event(3), event(4)])
    sink(path).deliver([event(4)])
    sink(path).deliver([event(5)])
    assert numbers(path) == [1, 2, 3, 4, 5]


@given(st.integers(0, 5000))
def test_a_torn_line_is_repaired(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Wherever a power cut tore the last line: the file has every event once, and nothing else."""
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    first = [event(number) for number in range(1, 4)]
    sink(path).deliver(first)
    content = path.read_bytes()
    path.write_bytes(content[: cut % (len(content) + 1)])
    sink(path).deliver(
        [*first, event(4)] if b"\n" not in path.read_bytes() else first[numbers_whole(path) :] or [event(4)]
    )
    sink(path).deliver([event(4), event(5)])
    assert numbers(path) == [1, 2, 3, 4, 5]


def numbers_whole(path: Path) -> int:
    return path.read_bytes().count(b"\n")


@pytest.mark.parametrize("torn", [b'{"schema_version": 1, "ke', b"{", b'{"schema_version'])
def test_half_of_our_line_goes(tmp_path: Path, torn: bytes) -> None:
    """It comes again whole."""
    path = tmp_path / "a.jsonl"
    sink(path).deliver([event(1)])
    path.write_bytes(path.read_bytes() + torn)
    sink(path).deliver([event(2)])
    assert numbers(path) == [1, 2]


@pytest.mark.parametrize("other", [b"somebody else's text", b'{"own": "json"}', b"[1, 2]"])
def test_the_text_of_others_stays(tmp_path: Path, other: bytes) -> None:
    """A file that has other lines keeps them; one without an end gets one."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(other)
    sink(path).deliver([event(1)])
    lines = path.read_bytes().splitlines()
    assert lines[0] == other
    assert json.loads(lines[1])["sequence"] == 1


def test_a_large_file_makes_room(tmp_path: Path) -> None:
    """Files are renamed at the limit, the oldest go, and no event is in two of them."""
    path = tmp_path / "a.jsonl"
    size = len(json.dumps(event(1).payload)) + 1
    limited = {"max_mb": 3 * size / 1e6, "keep": 2}
    for number in range(1, 13):
        sink(path, **limited).deliver([event(number)])
        sink(path, **limited).deliver([event(number)])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    found = [numbers(tmp_path / name) for name in ("a.jsonl.2", "a.jsonl.1", "a.jsonl")]
    flat = [number for part in found for number in part]
    assert flat == list(range(flat[0], 13))
    assert max(map(len, found)) <= 4


def test_a_disk_that_is_full(tmp_path: Path, limit_file_size: None) -> None:
    """Half a batch is taken back, so that the next attempt begins with whole lines."""
    path = tmp_path / "a.jsonl"
    sink(path).deliver([event(1)])
    before = path.read_bytes()
    with pytest.raises(DeliveryError, match=r"a\.jsonl"):
        sink(path).deliver([event(number, detail="x" * 30_000) for number in range(2, 8)])
    assert path.read_bytes() == before


@pytest.mark.parametrize("obstacle", ["folder", "no folder"])
def test_a_place_that_cannot_be_written(tmp_path: Path, obstacle: str) -> None:
    """An error that names the file, to be tried again."""
    path = tmp_path / "a.jsonl"
    if obstacle == "folder":
        path.mkdir()
    else:
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "a.jsonl"
    with pytest.raises(DeliveryError, match=r"a\.jsonl"):
        sink(path).deliver([event(1)])
