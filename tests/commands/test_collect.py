"""`edgead collect`: what is saved, what is left out and counted, and that nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgead
from edgead.commands.collect import collect
from edgead.commands.train import TrainResult
from edgead.config.root import Config
from edgead.data.collection import INDEX, open_collection, read_entries
from edgead.data.reader import read_image
from edgead.errors import DataError, StorageError
from edgead.imaging import Image
from edgead.stream.collector import CollectOptions, CollectSummary
from edgead.stream.sources.source import Source

from ..stream.fakes import ListSource


def picture(number: int) -> Image:
    """A part of its own: noise in large fields."""
    small = np.random.default_rng(number).integers(40, 220, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (64, 48), interpolation=cv2.INTER_NEAREST), np.uint8)


def images(folder: Path, *pictures: Image) -> str:
    folder.mkdir()
    for number, image in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:02d}.png"), image[..., ::-1])
    return str(folder)


def run(uri: str, out: Path, source: Source | None = None, **changes: Any) -> CollectSummary:
    options: dict[str, Any] = {"every_s": 2.0, "limit": None, "max_mb": None, **changes}
    return collect(uri, out, CollectOptions(**options), config=Config(), source=source)


def test_pictures_are_saved_without_loss_and_the_rest_is_counted(tmp_path: Path) -> None:
    """Black and white frames and near-copies are left out, also of pictures of an earlier run."""
    noisy = picture(1).copy()
    noisy[0, 0] += 1
    black, white = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 255, np.uint8)
    uri = images(tmp_path / "source", picture(1), noisy, black, white, picture(2))
    out = tmp_path / "out"
    summary = run(uri, out, camera="line 1")
    assert (summary.n_frames, summary.n_saved, summary.n_near_copies, summary.n_faulty) == (5, 2, 1, 2)
    assert summary.ended_by == "source"
    entries = list(read_entries(out).values())
    assert [np.array_equal(read_image(out / one.path), picture(n)) for n, one in enumerate(entries, 1)] == [True, True]
    assert {(one.camera, one.verdict, one.score) for one in entries} == {("line 1", "unjudged", None)}
    again = run(uri, out)
    assert (again.n_saved, again.n_near_copies, again.n_pictures) == (0, 3, 2)


def test_time_and_space_are_bounded(tmp_path: Path) -> None:
    """One picture in `every_s` of a video's own time; at most so much of the disk; the same call goes on later."""
    uri = images(tmp_path / "source", *(picture(number) for number in range(4)))
    out = tmp_path / "out"
    first = run(uri, out, limit=2)
    assert (first.n_saved, first.ended_by) == (2, "limit")
    assert run(uri, out, limit=3).n_pictures == 3
    full = run(uri, out, max_mb=first.n_bytes / 2 * 3.2 / 1e6)
    assert (full.n_saved, full.ended_by) == (0, "max_mb")
    assert full.n_bytes == sum(path.stat().st_size for path in out.glob("pictures/*"))
    video = run("", tmp_path / "video", ListSource(range(100, 110), fps=4.0), every_s=1.0, keep_near_copies=True)
    assert (video.n_frames, video.n_saved, video.n_early) == (10, 3, 7)


def test_anomalous_frames_are_left_out(tiny_result: TrainResult, tiny_data: Path, tmp_path: Path) -> None:
    """What a bundle finds anomalous is no picture of a good part; the others have its score."""
    with edgead.load(tiny_result.bundle.path) as model:
        folders = [
            tiny_data / "test" / "good",
            *(path for path in (tiny_data / "test").iterdir() if path.name != "good"),
        ]
        found = [
            collect(
                str(folder), tmp_path / folder.name, CollectOptions(0.0, None, None), config=Config(),
                model=(model.bundle, model.runner),
            )
            for folder in folders
        ]  # fmt: skip
        threshold = model.thresholds().threshold.value
    for folder, one in zip(folders, found, strict=True):
        assert one.n_frames == one.n_saved + one.n_faulty + one.n_near_copies + one.n_anomalous
        entries = read_entries(tmp_path / folder.name).values()
        assert all(entry.score is not None and entry.score <= threshold for entry in entries)
        assert {entry.bundle for entry in entries} <= {model.bundle.digest}
    assert sum(one.n_anomalous for one in found) > 0
    assert sum(one.n_saved for one in found) > 0


def test_a_torn_index_is_repaired_and_a_damaged_one_named(tmp_path: Path) -> None:
    """A kill costs the line that was being written; anything else is not taken for the user's pictures."""
    uri, out = images(tmp_path / "source", picture(1), picture(2)), tmp_path / "out"
    run(uri, out, limit=1)
    whole = (out / INDEX).read_bytes()
    (out / INDEX).write_bytes(whole + b'{"path": "pictures/1')
    assert run(uri, out).n_pictures == 2
    assert (out / INDEX).read_bytes().startswith(whole)
    (out / INDEX).write_bytes(whole + b'{"path": "../../etc/passwd", "digest": "0"}\n')
    with pytest.raises(DataError, match=r"Line 2 of .* is no entry"):
        run(uri, out)


def test_a_last_line_without_a_line_break_is_kept(tmp_path: Path) -> None:
    """Editors leave it out; the line is read, and stays when the index is repaired."""
    uri, out = images(tmp_path / "source", picture(1), picture(2)), tmp_path / "out"
    run(uri, out)
    whole = (out / INDEX).read_bytes()
    (out / INDEX).write_bytes(whole[:-1])
    assert len(read_entries(out)) == 2
    with open_collection(out) as collection:
        assert len(collection.entries) == 2
    assert (out / INDEX).read_bytes() == whole


@pytest.mark.parametrize("change", ['"kind": null', '"mask": 3', '"score": "high"', '"threshold": true'])
def test_a_value_of_another_type_is_named(tmp_path: Path, change: str) -> None:
    """A line of the index has text, and numbers for score and threshold."""
    (tmp_path / INDEX).write_text('{"path": "pictures/1.png", "digest": "0", "score": null}\n')
    assert len(read_entries(tmp_path)) == 1
    (tmp_path / INDEX).write_text(f'{{"path": "pictures/1.png", "digest": "0", {change}}}\n')
    with pytest.raises(DataError, match=r"Line 1 of .* is no entry"):
        read_entries(tmp_path)


def test_a_full_disk_leaves_no_half_picture(small_disk: Path, tmp_path: Path) -> None:
    """The error names the folder, and what was saved is whole."""
    uri = images(tmp_path / "source", picture(1))
    with pytest.raises(StorageError, match="needs 100 MB"):
        run(uri, small_disk / "out")
    assert read_entries(small_disk / "out") == {}
