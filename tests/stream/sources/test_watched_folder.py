"""Watched folders: each new, completely written image comes once, however it is written."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import SourceError
from edgead.stream.sources.new_files import PATIENCE_S, FolderListing
from edgead.stream.sources.registry import source_from_uri
from edgead.stream.sources.watched_folder import WatchedFolder

from ..fakes import SOURCE_OPTIONS, ManualClock, plain

OPTIONS = replace(SOURCE_OPTIONS, watch_settle_s=0.15)
SETTLE_S = 1.0


def png(value: int) -> bytes:
    return bytes(cv2.imencode(".png", plain(value))[1])


class Reader:
    """Takes frames of a watched folder on a thread."""

    def __init__(self, source: WatchedFolder) -> None:
        self.names: list[str] = []
        self.means: list[int] = []
        self.indices: list[int] = []
        self.stop = threading.Event()
        self._source = source

    def run(self) -> None:
        for frame in self._source.frames(self.stop):
            self.names.append(Path(frame.source).name)
            self.means.append(round(float(frame.image.mean())))
            self.indices.append(frame.index)

    def wait_for(self, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        deadline_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline_s, self.names
            time.sleep(0.02)


@contextmanager
def reading(folder: Path, **changes: object) -> Iterator[tuple[Reader, WatchedFolder]]:
    source = source_from_uri(f"watch:{folder}", replace(OPTIONS, **changes))  # type: ignore[arg-type]
    assert isinstance(source, WatchedFolder)
    with being_read(source) as reader:
        yield reader, source


@contextmanager
def being_read(source: WatchedFolder) -> Iterator[Reader]:
    with source:
        reader = Reader(source)
        thread = threading.Thread(target=reader.run)
        thread.start()
        try:
            yield reader
        finally:
            reader.stop.set()
            thread.join(60)
            assert not thread.is_alive()


def test_every_way_of_writing_gives_each_picture_once(tmp_path: Path) -> None:
    """Written at once, slowly, renamed into place, copied: each new picture comes once, whole, in the order of completion."""
    (tmp_path / "old.png").write_bytes(png(1))
    with reading(tmp_path) as (reader, source):
        assert not source.live
        assert source.paced
        (tmp_path / "at_once.png").write_bytes(png(10))
        reader.wait_for(lambda: len(reader.names) == 1)
        with (tmp_path / "slow.png").open("wb") as file:
            content = png(20)
            third = len(content) // 3
            for start in range(0, len(content), third):
                file.write(content[start : start + third])
                file.flush()
                time.sleep(0.5)  # longer than a file must rest: only its content says that more is to come
        reader.wait_for(lambda: len(reader.names) == 2)
        (tmp_path / "new.png.part").write_bytes(png(30))
        (tmp_path / ".hidden.png").write_bytes(png(99))
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "deep.png").write_bytes(png(99))
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "new.png.part").rename(tmp_path / "renamed.png")
        reader.wait_for(lambda: len(reader.names) == 3)
        (tmp_path / "gone.png").write_bytes(png(99)[:30])
        (tmp_path / "gone.png").unlink()
        shutil.copy(tmp_path / "old.png", tmp_path / "copied.png")
        reader.wait_for(lambda: len(reader.names) == 4)
        time.sleep(0.5)
    assert reader.names == ["at_once.png", "slow.png", "renamed.png", "copied.png"]
    assert reader.means == [10, 20, 30, 1]
    assert reader.indices == [0, 1, 2, 3]
    assert source.report.broken == []


def test_existing_pictures_come_first_where_they_are_wanted(tmp_path: Path) -> None:
    """With `watch_existing` what is there already comes in the order in which it was written."""
    for number, name in enumerate(("c", "a", "b")):
        (tmp_path / f"{name}.png").write_bytes(png(number))
        os.utime(tmp_path / f"{name}.png", (1000 + number, 1000 + number))
    with reading(tmp_path, watch_existing=True) as (reader, _):
        reader.wait_for(lambda: len(reader.names) == 3)
        (tmp_path / "d.png").write_bytes(png(9))
        reader.wait_for(lambda: len(reader.names) == 4)
    assert reader.names == ["c.png", "a.png", "b.png", "d.png"]


def test_a_consumer_that_is_slow_loses_nothing(tmp_path: Path) -> None:
    """Pictures that are written while one is being looked at all come afterwards."""
    with source_from_uri(f"watch:{tmp_path}", OPTIONS) as source:
        frames = source.frames(threading.Event())
        (tmp_path / "0.png").write_bytes(png(0))
        next(frames)
        for number in range(1, 40):
            (tmp_path / f"{number}.png").write_bytes(png(number))
        found = [round(float(next(frames).image.mean())) for _ in range(39)]
    assert found == list(range(1, 40))


def test_a_folder_that_is_away_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A lost folder is said once, and when it is back only what is new comes; an empty one in its place is no folder."""
    folder, away = tmp_path / "in", tmp_path / "away"
    folder.mkdir()
    (folder / "old.png").write_bytes(png(1))
    # the stream reports it in its own log, under the camera's name
    with caplog.at_level(logging.DEBUG), reading(folder) as (reader, source):
        report = source.report
        (folder / "a.png").write_bytes(png(2))
        reader.wait_for(lambda: reader.names == ["a.png"])
        folder.rename(away)
        reader.wait_for(lambda: report.state is not None and report.state.phase == "reconnecting")
        folder.mkdir()
        time.sleep(0.5)
        assert report.state is not None
        assert report.state.phase == "reconnecting"
        folder.rmdir()
        away.rename(folder)
        (folder / "b.png").write_bytes(png(3))
        reader.wait_for(lambda: len(reader.names) == 2)
        assert report.state is not None
        assert report.state.phase == "running"
        assert report.state.last_error
    assert reader.names == ["a.png", "b.png"]
    assert caplog.text.count("is away") == 1


@pytest.mark.parametrize("uri", ["watch:", "watch:/no/such/folder", __file__.join(["watch:", ""])])
def test_there_must_be_a_folder(uri: str) -> None:
    """Without a folder there is nothing to wait for, and the error says what to write."""
    with pytest.raises(SourceError, match="no folder") as caught:
        source_from_uri(uri, OPTIONS)
    assert "watch:FOLDER" in caught.value.hint


class Watched:
    """A `FolderListing` under a clock of its own."""

    def __init__(self, folder: Path, *, take_existing: bool = False) -> None:
        self.clock = ManualClock()
        self.watch = FolderListing(folder, settle_s=SETTLE_S, take_existing=take_existing, clock=self.clock)

    def after(self, seconds: float) -> list[str]:
        self.clock.now_s += seconds
        return self.watch.settled()


def test_a_file_must_rest_before_it_is_taken(tmp_path: Path) -> None:
    """Each change restarts the wait, and a file that was taken does not come again."""
    watched = Watched(tmp_path)
    assert watched.after(0) == []
    (tmp_path / "a.png").write_bytes(b"1")
    assert [watched.after(0.5), watched.after(0.6)] == [[], []]
    (tmp_path / "a.png").write_bytes(b"12")
    assert [watched.after(0.5), watched.after(0.6)] == [[], []]
    assert watched.after(0.5) == ["a.png"]
    watched.watch.take("a.png")
    (tmp_path / "a.png").write_bytes(b"123")
    assert [watched.after(5), watched.after(5)] == [[], []]
    (tmp_path / "a.png").unlink()
    watched.after(0.1)
    (tmp_path / "a.png").write_bytes(b"1234")
    assert [watched.after(0.1), watched.after(SETTLE_S)] == [[], ["a.png"]]


def test_what_cannot_be_read_gets_time_to_become_whole(tmp_path: Path) -> None:
    """An incomplete file is tried again when it changes, and given up when it has not changed for half a minute."""
    watched = Watched(tmp_path)
    (tmp_path / "a.png").write_bytes(b"1")
    watched.after(0)
    assert watched.after(SETTLE_S) == ["a.png"]
    assert watched.watch.put_back("a.png")
    assert watched.after(5) == []
    (tmp_path / "a.png").write_bytes(b"12")
    assert [watched.after(0.1), watched.after(SETTLE_S)] == [[], ["a.png"]]
    assert watched.watch.put_back("a.png")
    assert watched.after(PATIENCE_S + 0.1) == ["a.png"]
    assert not watched.watch.put_back("a.png")


def test_a_broken_picture_is_named_once(tmp_path: Path) -> None:
    """An image that stays unreadable is reported once and does not hold up later ones."""
    source = WatchedFolder(tmp_path, settle_s=0.15, take_existing=False, reading=OPTIONS.reading, patience_s=0.5)
    with being_read(source) as reader:
        (tmp_path / "broken.png").write_bytes(png(5)[:-20])
        (tmp_path / "text.png").write_text("no picture")
        time.sleep(0.01)
        (tmp_path / "whole.png").write_bytes(png(6))
        reader.wait_for(lambda: len(source.report.broken) == 2)
        time.sleep(0.4)
    assert reader.names == ["whole.png"]
    assert sorted(Path(name).name for name in source.report.broken) == ["broken.png", "text.png"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "append", "rename", "delete", "wait"]), st.integers(0, 4), st.floats(0, 1.5)
        ),
        max_size=40,
    )
)
def test_nothing_comes_twice_and_nothing_is_missed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, float]]
) -> None:
    """However files appear, grow, move and vanish, one that stays comes exactly once per appearance."""
    folder = tmp_path_factory.mktemp("watch")
    watched = Watched(folder)
    n_appeared: dict[str, int] = {}
    n_taken: dict[str, int] = {}
    size = 0

    def look(seconds: float) -> None:
        for name in watched.after(seconds):
            n_taken[name] = n_taken.get(name, 0) + 1
            watched.watch.take(name)

    for what, number, seconds in steps:
        size += 1
        path = folder / f"{number}.png"
        if what in ("write", "rename") and not path.exists():
            n_appeared[path.name] = n_appeared.get(path.name, 0) + 1
        if what == "write" or (what == "append" and path.exists()):
            path.write_bytes(b"x" * size)
        elif what == "rename":
            (folder / "new.part").write_bytes(b"x" * size)
            (folder / "new.part").rename(path)
        elif what == "delete" and path.exists():
            path.unlink()
            look(0.0)  # a file that comes again before anybody looked is the same file
        look(seconds)
    look(0.0)
    look(SETTLE_S + 0.01)
    look(SETTLE_S + 0.01)
    for name, times in n_appeared.items():
        assert n_taken.get(name, 0) <= times
        if (folder / name).exists():
            assert n_taken.get(name, 0) >= 1
    assert set(n_taken) <= set(n_appeared)


def test_looking_is_cheap_in_a_large_folder(tmp_path: Path) -> None:
    """Where nothing changes, a look at a folder with 5000 pictures asks one question."""
    for number in range(5000):
        (tmp_path / f"{number}.png").touch()
    os.utime(tmp_path, (1000, 1000))
    watched = Watched(tmp_path)
    watched.after(0)
    looked: list[str] = []
    names = watched.watch._names
    watched.watch._names = lambda: (looked.append("names"), names())[1]  # type: ignore[method-assign,func-returns-value]
    start_s = time.thread_time()
    for _ in range(40):
        assert watched.after(0.1) == []
    assert time.thread_time() - start_s < 0.1
    assert looked == []
    watched.after(20)
    assert looked == ["names"]
