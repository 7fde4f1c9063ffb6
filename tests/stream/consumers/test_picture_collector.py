"""Collecting pictures beside a running stream: what is saved, what is left out, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.commands.collect import collect
from edgead.config.root import Config
from edgead.data.collection import open_collection, read_entries
from edgead.data.reader import read_image
from edgead.errors import StorageError
from edgead.imaging import Image
from edgead.stream.collector import CollectOptions
from edgead.stream.consumers import picture_collector
from edgead.stream.consumers.picture_collector import PictureCollector
from edgead.stream.frame import Frame
from edgead.stream.notices import FaultBegan, UnjudgedFrame
from edgead.stream.result import FrameResult, JudgedBy, ZoneVerdict

LINE, SIDE = "line", "side"


def frame(number: int, at_s: float | None = None, damage: str = "") -> Frame:
    """A part of its own: noise in large fields."""
    small = np.random.default_rng(number).integers(40, 220, (6, 8, 3), dtype=np.uint8)
    image: Image = small.repeat(8, axis=0).repeat(8, axis=1)
    return Frame(image, number, float(number) if at_s is None else at_s, "test", damage)


def result(shown: Frame, camera: str = LINE, *, is_bad: bool = False, is_repeat: bool = False) -> FrameResult:
    """A judged frame; the prediction plays no part."""
    zones = (
        ZoneVerdict("left", 0.5, 1.0, 0.0, is_anomalous=False, level=0.5),
        ZoneVerdict("right", 1.5 if is_bad else 0.7, 1.0, 0.0, is_anomalous=is_bad, level=1.5 if is_bad else 0.7),
    )
    prediction: Any = None
    return FrameResult(
        camera, shown, prediction, 0.0, 25.0, 25.0, zones, is_repeat=is_repeat, judged_by=JudgedBy("d" * 64, "fp32")
    )


def give(collector: PictureCollector, *items: Any) -> list[bool]:
    """Pass items as the stream does; whether each was wanted."""
    wanted = []
    for item in items:
        wanted.append(collector.wants(item))
        if wanted[-1]:
            collector.accept(item)
    return wanted


def test_good_frames_are_saved_and_the_rest_is_counted(tmp_path: Path) -> None:
    """Anomalous, damaged, unjudged and repeated frames and near-copies are left out; a saved one has its score and is whole."""
    shown = frame(1)
    with PictureCollector(tmp_path / "collected") as collector:
        assert give(collector, result(frame(0))) == [False]
        collector.start(LINE, "ana", every_s=0.0, limit=100)
        damaged = frame(4, damage="lost packets")
        fault = FaultBegan(LINE, 5.0, frame(5), 5.0, "black", "black")
        suspected = UnjudgedFrame(LINE, 6.0, frame(6), 6.0, "", None)
        give(
            collector,
            result(shown),
            result(frame(1, 2.0)),
            result(frame(3), is_bad=True),
            result(damaged),
            fault,
            suspected,
        )
        assert give(collector, result(frame(7), is_repeat=True), result(frame(8), SIDE)) == [False, False]
        found = collector.stop(LINE)
        assert give(collector, result(frame(9))) == [False]
    summary = found.summary
    assert (found.is_on, found.who, summary.ended_by, found.problem) == (False, "ana", "stop", "")
    assert (summary.n_frames, summary.n_saved, summary.n_near_copies, summary.n_anomalous) == (6, 1, 1, 1)
    assert summary.faults == {"damaged": 1, "black": 1, "suspected": 1}
    (entry,) = read_entries(tmp_path / "collected").values()
    assert np.array_equal(read_image(tmp_path / "collected" / entry.path), shown.image)
    assert (entry.camera, entry.verdict, entry.score, entry.threshold, entry.bundle) == (
        LINE,
        "unjudged",
        0.7,
        1.0,
        "d" * 64,
    )


def test_a_frame_is_looked_at_every_few_seconds(tmp_path: Path) -> None:
    """Also after one that was not saved; a clock that jumps back does not stop it."""
    with PictureCollector(tmp_path / "collected") as collector:
        collector.start(LINE, "ana", every_s=2.0, limit=100)
        times = (10.0, 11.0, 12.5, 13.0, 3.0, 4.0, 5.0)
        items = [result(frame(number, at_s), is_bad=number == 0) for number, at_s in enumerate(times)]
        assert give(collector, *items) == [True, False, True, False, True, False, True]
        assert collector.status(LINE).summary.n_saved == 3


def test_the_wanted_number_ends_it_for_one_camera(tmp_path: Path) -> None:
    """Cameras share a folder; each has its own number of new pictures, and the folder is free when all have ended."""
    folder = tmp_path / "collected"
    with PictureCollector(folder) as collector:
        collector.start(LINE, "ana", every_s=0.0, limit=2)
        collector.start(SIDE, "bea", every_s=0.0, limit=1)
        assert collector.start(LINE, "bea", every_s=9.0, limit=9).who == "ana"
        give(
            collector, *(result(frame(number), camera) for number, camera in enumerate((LINE, SIDE, LINE, LINE, SIDE)))
        )
        assert [collector.status(camera).summary.ended_by for camera in (LINE, SIDE)] == ["limit", "limit"]
        assert [entry.camera for entry in read_entries(folder).values()] == [LINE, SIDE, LINE]
        with open_collection(folder):
            pass
        collector.start(LINE, "ana", every_s=0.0, limit=1)
        give(collector, result(frame(10)), result(frame(11)))
    assert len(read_entries(folder)) == 4


def test_a_folder_in_use_is_refused_and_a_full_one_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, and the stream goes on."""
    folder = tmp_path / "collected"
    with PictureCollector(folder, max_mb=0.002) as collector:
        with open_collection(folder, create=True), pytest.raises(StorageError, match="Another edgead process"):
            collector.start(LINE, "ana", every_s=0.0, limit=9)
        assert not collector.status(LINE).is_on
        collector.start(LINE, "ana", every_s=0.0, limit=99)
        collector.start(SIDE, "ana", every_s=0.0, limit=99)
        give(collector, *(result(frame(number), (LINE, SIDE)[number % 2]) for number in range(40)))
        assert {collector.status(camera).summary.ended_by for camera in (LINE, SIDE)} == {"max_mb"}
        assert sum(path.stat().st_size for path in folder.glob("pictures/*")) <= 2000

    with PictureCollector(tmp_path / "other") as collector:
        collector.start(LINE, "ana", every_s=0.0, limit=99)

        def is_full(*arguments: Any, **options: Any) -> None:
            raise StorageError("The disk is full.", hint="Free some space.")

        monkeypatch.setattr(picture_collector, "require_free_space", is_full)
        give(collector, result(frame(1)), result(frame(2)))
        found = collector.status(LINE)
        assert (found.summary.ended_by, found.problem) == ("error", "The disk is full. Free some space.")


def test_the_end_of_the_stream_ends_it(tmp_path: Path) -> None:
    """The folder is as `edgead collect` makes it, and that command goes on in it."""
    folder = tmp_path / "collected"
    with PictureCollector(folder) as collector:
        collector.start(LINE, "ana", every_s=0.0, limit=99)
        give(collector, result(frame(1)))
    assert (collector.status(LINE).is_on, collector.status(LINE).summary.ended_by) == (False, "source")
    again = collect(str(folder / "pictures"), folder, CollectOptions(0.0, None, None), config=Config())
    assert (again.n_near_copies, again.n_pictures) == (1, 1)
