"""Teaching beside a running stream: what its process is given, what people see and may do, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typing_extensions import Self

from edgead.errors import ConfigError, DataError, EngineError, StorageError
from edgead.imaging import png_from_rgb
from edgead.stream.frame import Frame
from edgead.stream.notices import UnjudgedFrame
from edgead.stream.result import FrameResult
from edgead.stream.teaching import (
    Drop,
    Finish,
    LeaveOut,
    OnStep,
    Request,
    Show,
    State,
    TaughtVerdict,
    TeachingReport,
    TeachingStatus,
)
from edgead.teach.run import RunRecord, TaughtRun
from edgead.teach.stream_teaching import StreamTeaching
from edgead.teach.teachings import Teachings

from ..web.parts import until

LINE, SIDE = "line", "side"
RECORD = RunRecord(base="base", base_digest="d", backbone="b", white_level=255, float_white_level=None)


class FakeWorker:
    """Accepts every frame that it is shown, as a teaching on disk, without any model."""

    def __init__(self, folder: Path, error: Exception | None = None) -> None:
        self.asked: list[Request] = []
        self.error = error
        self.may_finish, self.is_killed, self.may_show = threading.Event(), threading.Event(), threading.Event()
        self.may_show.set()
        folder.mkdir(parents=True, exist_ok=True)
        self._run = TaughtRun.open(folder) or TaughtRun(folder, RECORD)
        self._left_out: dict[str, int] = {}

    def ask(self, request: Request, on_step: OnStep) -> TeachingReport:
        self.asked.append(request)
        verdict = None
        match request:
            case Show():
                self.may_show.wait(60.0)
                if self.error is not None:
                    raise self.error
                self._run.keep(png_from_rgb(request.image), ".png", request.source)
            case LeaveOut(kind):
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
            case Drop(file):
                self._run.drop((file,))
            case Finish():
                on_step("Forms", 1, 4)
                while not self.may_finish.wait(0.01):
                    if self.is_killed.is_set():
                        raise EngineError("killed")
                self._run.finish(self._run.next_number, "digest")
                scores = tuple((picture.file, 1.0) for picture in self._run.record.pictures)
                verdict = TaughtVerdict(self._run.next_number - 1, len(scores), 1 / 6, 1.0, scores, ("It promises.",))
        files = tuple(picture.file for picture in self._run.record.pictures)
        n_looked = sum(isinstance(one, Show | LeaveOut) for one in self.asked)
        return TeachingReport(files, n_looked, dict(self._left_out), "said", verdict=verdict)

    def kill(self) -> None:
        self.is_killed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_killed.set()


class Plant:
    """A stream with two cameras that teaches with fake processes and installs into a list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[FakeWorker] = []
        self.opened: list[tuple[Path, bool, float]] = []
        self.installed: list[tuple[Path, str, str]] = []
        self.install_error: Exception | None = None
        self.worker_error: Exception | None = None
        self._index = 0
        self.teaching = self.again()

    def again(self) -> StreamTeaching:
        """The same after a restart of the stream."""
        self.teaching = StreamTeaching(Teachings(self.folder), self._open, self._install, {LINE: None, SIDE: None})
        return self.teaching

    def give(self, n: int, camera: str = LINE) -> None:
        """Give frames of different parts as the stream does, and wait for each answer."""
        for _ in range(n):
            before = len(self.workers[-1].asked)
            item = result(self._index, camera)
            self._index += 1
            assert until(lambda item=item: self.teaching.wants(item))  # type: ignore[misc]
            self.teaching.accept(item)
            assert until(lambda before=before: shown(self.workers[-1], before))  # type: ignore[misc]
            session = self.teaching._active
            assert session is None or until(lambda session=session: not session.is_pending)  # type: ignore[misc]

    def reaches(self, state: State, camera: str = LINE) -> TeachingStatus:
        assert until(lambda: self.teaching.status(camera).state == state), self.teaching.status(camera)
        return self.teaching.status(camera)

    def start(self, camera: str = LINE, who: str = "ana", *, refine: bool = False) -> FakeWorker:
        self.teaching.start(camera, who, needs_rest=True, every_s=1.0, refine=refine)
        self.reaches("collecting", camera)
        return self.workers[-1]

    def _open(self, folder: Path, needs_rest: bool, every_s: float) -> FakeWorker:
        self.opened.append((folder, needs_rest, every_s))
        self.workers.append(FakeWorker(folder, self.worker_error))
        return self.workers[-1]

    def _install(self, bundle: Path, who: str, why: str) -> str:
        if self.install_error is not None:
            raise self.install_error
        self.installed.append((bundle, who, why))
        return "abc"


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path / "taught")
    yield plant
    plant.teaching.__exit__(None, None, None)


def shown(worker: FakeWorker, before: int) -> bool:
    return any(isinstance(request, Show | LeaveOut) for request in worker.asked[before:]) or worker.is_killed.is_set()


def frame(index: int, damage: str = "") -> Frame:
    image = np.random.default_rng(index).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return Frame(image, index, float(index), "test", damage)


def result(index: int, camera: str = LINE, *, damage: str = "", is_repeat: bool = False) -> FrameResult:
    nothing: Any = None
    return FrameResult(camera, frame(index, damage), nothing, 0.0, 25.0, 25.0, (), is_repeat=is_repeat)


def test_frames_go_to_the_process_one_at_a_time(plant: Plant) -> None:
    """Only those of the camera, none while one is looked at, none too soon; damaged and frozen ones are only counted."""
    teaching = plant.teaching
    assert not teaching.wants(result(0))
    worker = plant.start()
    assert plant.opened == [(plant.folder / LINE / "0001", True, 1.0)]
    assert not teaching.wants(result(1, SIDE))
    assert not teaching.wants(result(1, is_repeat=True))
    first = result(1)
    worker.may_show.clear()
    assert teaching.wants(first)
    teaching.accept(first)
    assert not teaching.wants(result(2)), "one is looked at"
    worker.may_show.set()
    assert until(lambda: teaching.status(LINE).report.pictures == ("0001.png",))
    assert not teaching.wants(replace(first, frame=replace(first.frame, captured_at_s=1.1))), (
        "too soon after the last one"
    )
    items: list[FrameResult | UnjudgedFrame] = [
        result(3, damage="lost packets"),
        UnjudgedFrame(LINE, 0.0, frame(4), 0.0, "frozen", "frozen"),
        UnjudgedFrame(LINE, 0.0, frame(5), 0.0, "blurred", "blurred"),
    ]
    for number, item in enumerate(items, start=1):
        assert until(lambda item=item: teaching.wants(item))  # type: ignore[misc]
        teaching.accept(item)
        assert until(lambda number=number: teaching.status(LINE).report.n_looked > number)  # type: ignore[misc]
    asked = [request for request in worker.asked if isinstance(request, Show | LeaveOut)]
    assert [type(request) for request in asked] == [Show, LeaveOut, LeaveOut, Show]
    assert until(lambda: teaching.status(LINE).report.left_out == {"damaged": 1, "frozen": 1})
    assert np.array_equal(teaching.picture(LINE, "0001.png"), first.frame.image)
    with pytest.raises(DataError, match="no such picture"):
        teaching.picture(LINE, "../teach.json")


def test_from_parts_to_an_installed_model(plant: Plant) -> None:
    """Five parts are needed; the verdict and the installed model are there after a restart of the stream too."""
    teaching, worker = plant.teaching, plant.start()
    plant.give(4)
    with pytest.raises(ConfigError, match="4 good pictures"):
        teaching.finish(LINE)
    plant.give(2)
    assert until(lambda: len(teaching.status(LINE).report.pictures) == 6)
    teaching.drop(LINE, "0002.png")
    assert until(lambda: "0002.png" not in teaching.status(LINE).report.pictures)
    assert teaching.finish(LINE).state == "fitting"
    assert until(lambda: teaching.status(LINE).task == "Forms")
    assert not teaching.wants(result(99))
    with pytest.raises(ConfigError, match="ana teaches on line"):
        teaching.install(LINE, "bea")
    worker.may_finish.set()
    found = plant.reaches("taught")
    assert found.report.verdict is not None
    assert found.report.verdict.sentences == ("It promises.",)
    assert worker.is_killed.is_set(), "the process that teaches holds its memory"

    teaching = plant.again()
    found = teaching.status(LINE)
    assert (found.state, found.report.pictures) == ("taught", ("0001.png", *(f"000{n}.png" for n in (3, 4, 5, 6))))
    teaching.install(LINE, "bea")
    assert plant.reaches("installed").model == "abc"
    assert plant.installed == [
        (plant.folder / LINE / "0001" / "versions" / "1", "bea", "taught on line with 5 pictures")
    ]
    assert (plant.again().status(LINE).state, plant.teaching.status(LINE).model) == ("installed", "abc")


def test_a_cancelled_teaching_can_be_continued(plant: Plant) -> None:
    """With its pictures, in its folder; a new one begins beside it, and one without pictures leaves no folder."""
    teaching = plant.teaching
    with pytest.raises(ConfigError, match="no earlier teaching"):
        teaching.start(LINE, "ana", needs_rest=True, every_s=1.0, refine=True)
    plant.start()
    plant.give(2)
    assert until(lambda: len(teaching.status(LINE).report.pictures) == 2)
    found = teaching.cancel(LINE)
    assert (found.state, found.earlier) == ("cancelled", teaching.status(LINE).earlier)
    assert found.earlier is not None
    assert found.earlier.n_pictures == 2
    assert plant.workers[-1].is_killed.is_set()
    plant.start()
    teaching.cancel(LINE)
    assert until(lambda: sorted(path.name for path in (plant.folder / LINE).iterdir()) == ["0001"])
    plant.start(refine=True)
    assert plant.opened[-1][0] == plant.folder / LINE / "0001"
    assert len(teaching.status(LINE).report.pictures) == 2


def test_one_teaching_runs_at_a_time(plant: Plant) -> None:
    """The second one hears who teaches where, on the same camera and on another one."""
    teaching = plant.teaching
    plant.start()
    for camera in (LINE, SIDE):
        with pytest.raises(ConfigError, match="ana teaches on line"):
            teaching.start(camera, "bea", needs_rest=True, every_s=1.0, refine=False)
    assert (teaching.status(SIDE).state, teaching.status(SIDE).busy) == ("idle", "ana teaches on line.")
    assert teaching.status(LINE).busy == ""
    assert teaching.cancel(SIDE).state == "idle"
    assert teaching.status(LINE).state == "collecting"
    with pytest.raises(ConfigError, match="No parts are being shown"):
        teaching.finish(SIDE)


def test_a_camera_with_a_class_is_refused(tmp_path: Path) -> None:
    """Before parts are shown: the stream could not change to the taught model."""
    plant = Plant(tmp_path)
    plant.teaching = StreamTeaching(Teachings(tmp_path), plant._open, plant._install, {LINE: "tile"})
    with pytest.raises(ConfigError, match="the class tile"):
        plant.teaching.start(LINE, "ana", needs_rest=True, every_s=1.0, refine=False)


@pytest.mark.parametrize("error", [StorageError("The disk is full.", hint="Free some space."), ValueError("odd")])
def test_a_failure_ends_it_with_the_reason(plant: Plant, error: Exception) -> None:
    """The pictures of before stay, the stream continues, and a teaching can start again."""
    teaching, worker = plant.teaching, plant.start()
    plant.give(1)
    worker.error = error
    plant.give(1)
    found = plant.reaches("failed")
    assert found.problem == (
        "The disk is full. Free some space." if isinstance(error, StorageError) else "ValueError: odd"
    )
    assert found.earlier is not None
    assert found.earlier.n_pictures == 1
    assert not teaching.wants(result(50))
    plant.start(refine=True)


def test_a_refused_installation_leaves_the_taught_model(plant: Plant) -> None:
    """With the reason; it can be tried again."""
    worker = plant.start()
    plant.give(5)
    assert until(lambda: len(plant.teaching.status(LINE).report.pictures) == 5)
    worker.may_finish.set()
    plant.teaching.finish(LINE)
    plant.reaches("taught")
    plant.install_error = StorageError("Another edgead process installs a model.")
    plant.teaching.install(LINE, "ana")
    assert until(lambda: plant.teaching.status(LINE).problem != "")
    assert plant.teaching.status(LINE).state == "taught"
    plant.install_error = None
    plant.teaching.install(LINE, "ana")
    plant.reaches("installed")


@pytest.mark.parametrize("is_fitting", [False, True])
def test_the_end_of_the_stream_ends_it(plant: Plant, is_fitting: bool) -> None:
    """Also while the model is fitted: process and thread are gone, the pictures are there."""
    with plant.teaching as teaching:
        worker = plant.start()
        plant.give(5)
        assert until(lambda: len(teaching.status(LINE).report.pictures) == 5)
        if is_fitting:
            teaching.finish(LINE)
            assert until(lambda: teaching.status(LINE).task == "Forms")
    assert worker.is_killed.is_set()
    assert not any(thread.name == "edgead teaching" for thread in threading.enumerate())
    found = plant.again().status(LINE)
    assert found.earlier is not None
    assert (found.state, found.earlier.n_pictures) == ("idle", 5)


def test_a_silent_camera_is_seen(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time without a frame grows, and ends with the next one."""
    plant.start()
    clock = [1000.0]
    monkeypatch.setattr("edgead.teach.stream_teaching.time", SimpleNamespace(monotonic=lambda: clock[0]))
    plant.teaching.wants(result(1))
    clock[0] += 12.0
    assert plant.teaching.status(LINE).silent_s == 12.0
    plant.teaching.wants(result(2))
    assert plant.teaching.status(LINE).silent_s == 0.0


def test_a_full_folder_is_refused_before_parts_are_shown(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teachings of a line have a limit together, and the disk needs room for what else is written."""
    plant.start()
    plant.give(3)
    plant.teaching.cancel(LINE)
    small = StreamTeaching(Teachings(plant.folder, max_mb=1e-4), plant._open, plant._install, {LINE: None})
    start: Callable[[StreamTeaching], TeachingStatus] = lambda teaching: teaching.start(  # noqa: E731
        LINE, "ana", needs_rest=True, every_s=1.0, refine=False
    )
    with pytest.raises(StorageError, match="MB of teachings"):
        start(small)
    monkeypatch.setattr("edgead.storage._free_bytes", lambda folder: 1000)
    with pytest.raises(StorageError, match="Teaching needs"):
        start(plant.teaching)
