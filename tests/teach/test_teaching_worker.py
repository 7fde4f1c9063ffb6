"""The process that teaches beside a stream: what it keeps, what it says, and what it makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.bundle import open_bundle
from edgead.commands.teaching_worker import Worker, WorkerOptions
from edgead.data.reader import read_image
from edgead.errors import EdgeadError, EngineError, StorageError
from edgead.evaluation.threshold import smallest_rate
from edgead.imaging import Image
from edgead.stream.teaching import Drop, Finish, LeaveOut, Look, Show, TeachingReport
from edgead.teach.base import Base
from edgead.teach.run import TaughtRun
from edgead.teach.worker_process import WorkerProcess, install_taught

from ..web.parts import until


@contextmanager
def working(base: Base, folder: Path, *, needs_rest: bool = False, every_s: float = 0.0) -> Iterator[Worker]:
    with Worker(WorkerOptions(base.path, folder, needs_rest, every_s), lambda task, done, total: None) as worker:
        yield worker


def show(worker: Worker, *images: Image, start_s: float = 0.0) -> TeachingReport:
    """Show frames a second apart; the last answer."""
    for number, image in enumerate(images):
        report = worker.answer(Show(image, f"camera:9 {number}", start_s + number))
    return report


def test_a_picture_lies_on_disk_before_it_counts(
    base: Base, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losslessly; on a full disk it does not count, and the ones before are there for the next time."""
    with working(base, tmp_path / "run") as worker:
        report = show(worker, pictures[0], pictures[1], pictures[1])
        assert (report.pictures, report.left_out) == (("0001.png", "0002.png"), {"near-copy": 1})
        assert (report.n_looked, report.rate, report.following) == (3, None, (5, smallest_rate(5)))
        assert np.array_equal(read_image(tmp_path / "run" / "pictures" / "0002.png"), pictures[1])
        monkeypatch.setattr("edgead.storage._free_bytes", lambda folder: 1000)
        with pytest.raises(StorageError, match="Keeping a picture"):
            show(worker, pictures[2])
        assert worker.answer(Look()).pictures == ("0001.png", "0002.png")
    monkeypatch.undo()
    with working(base, tmp_path / "run") as worker:
        assert show(worker, pictures[0], pictures[2]).pictures == ("0001.png", "0002.png", "0003.png")


def test_parts_are_taken_at_rest_and_not_too_often(base: Base, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """A frame that differs from the one before is in motion; the pause after an accepted one is no reason to count it."""
    with working(base, tmp_path / "run", needs_rest=True, every_s=10.0) as worker:
        report = show(worker, pictures[0], pictures[0], pictures[1], pictures[1])
        assert (report.pictures, report.left_out) == (("0001.png",), {"moving": 1})
        report = show(worker, pictures[1], start_s=30.0)
        assert len(report.pictures) == 2
        report = worker.answer(LeaveOut("damaged", "Lost packets."))
        assert (report.left_out, report.last) == ({"moving": 1, "damaged": 1}, "Lost packets.")


def test_a_picture_left_out_by_hand_stays_out(base: Base, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """An empty fixture comes again and again, also after the teaching is continued."""
    with working(base, tmp_path / "run") as worker:
        show(worker, pictures[0], pictures[1])
        assert worker.answer(Drop("0001.png")).pictures == ("0002.png",)
        report = show(worker, pictures[0])
        assert (report.pictures, report.left_out, report.last) == (
            ("0002.png",),
            {"dropped": 1},
            "It is like a picture that was left out by hand.",
        )
    with working(base, tmp_path / "run") as worker:
        assert show(worker, pictures[0], pictures[2]).pictures == ("0002.png", "0003.png")


def test_left_out_scores_come_while_parts_are_shown(base: Base, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """One for each picture from the fifth on; a picture that is left out later has none."""
    with working(base, tmp_path / "run") as worker:
        assert show(worker, *pictures[:4]).scores == ()
        show(worker, pictures[4], start_s=10.0)
        assert until(lambda: len(worker.answer(Look()).scores) == 5)
        report = worker.answer(Look())
        assert (report.rate, report.following) == (smallest_rate(5), (9, 0.1))
        assert tuple(file for file, _ in report.scores) == report.pictures
        assert all(np.isfinite(score) for _, score in report.scores)
        report = worker.answer(Drop("0003.png"))
        assert "0003.png" not in [file for file, _ in report.scores]


def test_a_teaching_of_another_process_is_left_alone(base: Base, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    with working(base, tmp_path / "run") as worker:
        show(worker, pictures[0])
        with pytest.raises(StorageError, match="Another edgead process teaches"), working(base, tmp_path / "run"):
            pass


@pytest.mark.slow
def test_it_ends_with_a_bundle_and_a_verdict(base: Base, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """The bundle is the next version of the teaching, and its own left-out scores are those of the verdict."""
    steps: list[str] = []
    with Worker(WorkerOptions(base.path, tmp_path / "run", False, 0.0), lambda task, *_: steps.append(task)) as worker:
        show(worker, *pictures[:6], np.zeros_like(pictures[0]))
        verdict = worker.answer(Finish()).verdict
    assert verdict is not None
    assert (verdict.version, verdict.n_pictures, verdict.rate) == (1, 6, smallest_rate(6))
    assert verdict.threshold == pytest.approx(max(score for _, score in verdict.scores))
    assert "With 6 pictures at most 14.3% of good parts" in verdict.sentences[0]
    assert {"Pseudo-defects", "Forms", "Marks"} <= set(steps)
    bundle = open_bundle(tmp_path / "run" / "versions" / "1")
    assert bundle.manifest.thresholds["all"].threshold.value == verdict.threshold
    provenance = bundle.manifest.provenance
    assert (provenance.data_root, provenance.taught and provenance.taught.left_out) == ("camera:9", {"black": 1})
    run = TaughtRun.open(tmp_path / "run")
    assert run is not None
    assert [version.number for version in run.record.versions] == [1]


@pytest.mark.slow
def test_the_process_answers_and_its_end_is_an_error(base: Base, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    """A process of its own: its errors have words, and one that is killed is named."""

    def quiet(task: str, done: int, total: int) -> None:
        pass

    folder = tmp_path / "run"
    with WorkerProcess(base.path, folder, needs_rest=False, every_s=0.0) as process:
        assert process.ask(Look(), quiet).pictures == ()
        assert process.ask(Show(pictures[0], "camera:9 0", 0.0), quiet).pictures == ("0001.png",)
        process.kill()
        with pytest.raises(EngineError, match="has ended, by signal 9"):
            process.ask(Look(), quiet)
    assert len(json.loads((folder / "teach.json").read_text())["pictures"]) == 1
    with WorkerProcess(tmp_path / "none", folder, needs_rest=False, every_s=0.0) as process:
        with pytest.raises(EdgeadError, match="is not a base bundle"):
            process.ask(Look(), quiet)


@pytest.mark.slow
def test_an_installation_that_fails_has_the_words_of_the_command(tmp_path: Path) -> None:
    """With its hint; the store is not made."""
    with pytest.raises(EdgeadError, match="none") as raised:
        install_taught(tmp_path / "models", tmp_path / "none", "ana", "taught")
    assert raised.value.hint
    assert not (tmp_path / "models" / "store.json").exists()
