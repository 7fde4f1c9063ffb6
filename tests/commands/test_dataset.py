"""`edgead dataset`: judged pictures in one folder, snapshots of them, and the way from and to other layouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.cli.collections import snapshot_root
from edgead.commands.dataset import (
    Added,
    Picture,
    _add,
    add_pictures,
    check_dataset,
    count_pictures,
    export_dataset,
    import_dataset,
    snapshot_to_train,
    take_snapshot,
)
from edgead.commands.train import checked_data
from edgead.commands.training.data import prepare_data
from edgead.commands.training.provenance import provenance_of
from edgead.commands.training.runs import open_run
from edgead.data import snapshots as module
from edgead.data.collection import Entry, read_entries
from edgead.data.layouts import find_dataset
from edgead.data.masks import read_mask
from edgead.data.snapshots import find_snapshot, make_snapshot, snapshot_of
from edgead.errors import ConfigError, DataError
from edgead.progress import Silent

from ..tiny_run import tiny_config

SIZE = (24, 32)


def picture(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder / f"{number}.png"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three good parts, two scratches with masks and one dent without."""
    root = tmp_path / "part"
    for number in range(3):
        picture(root / "train" / "good", number)
    for number in (3, 4):
        picture(root / "test" / "scratch", number)
        mask = np.zeros(SIZE, np.uint8)
        mask[2:5, number : number + 9] = 255
        mask[3, number + 2] = 0  # a hole, which an outline would lose
        (root / "ground_truth" / "scratch").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "ground_truth" / "scratch" / f"{number}_mask.png"), mask)
    picture(root / "test" / "dent", 5)
    return root


def test_pictures_come_once_and_keep_what_people_found(tmp_path: Path) -> None:
    """An unjudged picture gets a verdict later; another verdict is named and does not replace the first; bad files are named."""
    source, folder = tmp_path / "source", tmp_path / "set"
    first = picture(source, 1)
    picture(source, 2)
    (source / "3.png").write_bytes(b"no picture")
    added = add_pictures(folder, source)
    assert (added.n_new, added.n_known, len(added.broken)) == (2, 0, 1)
    assert add_pictures(folder, source, verdict="good").n_judged == 2
    again = add_pictures(folder, source, verdict="defect", kind="dent")
    assert (again.n_new, again.n_known, again.n_judged, len(again.conflicts)) == (0, 2, 0, 2)
    entries = list(read_entries(folder).values())
    assert [(one.verdict, one.source) for one in entries] == [("good", "1.png"), ("good", "2.png")]
    assert (folder / entries[0].path).read_bytes() == first.read_bytes()
    other = tmp_path / "other"
    assert add_pictures(other, folder) == Added(2, 0, 0, (), ()), "a data set brings its verdicts along"
    assert {one.verdict for one in read_entries(other).values()} == {"good"}
    with pytest.raises(ConfigError, match="'fine'"):
        add_pictures(folder, source, verdict="fine")
    with pytest.raises(DataError, match="no images in"):
        add_pictures(folder, tmp_path / "nothing")


@pytest.mark.parametrize("form", ["folders", "coco", "labelme"])
def test_what_is_exported_comes_back(labelled: Path, tmp_path: Path, form: str) -> None:
    """Pictures, verdicts, kinds and masks, to the pixel; unsure and unjudged pictures are left out and counted."""
    folder, out, back = tmp_path / "set", tmp_path / "out", tmp_path / "back"
    assert import_dataset(folder, labelled).n_new == 6
    add_pictures(folder, picture(tmp_path / "more", 9).parent)
    assert export_dataset(folder, out, form) == (6, 1)
    assert import_dataset(back, out).n_new == 6

    def content(root: Path) -> dict[str, tuple[str, str, bytes | None]]:
        return {
            entry.digest: (
                entry.verdict, entry.kind, read_mask(root / entry.mask, SIZE).tobytes() if entry.mask else None,
            )
            for entry in read_entries(root).values() if entry.verdict != "unjudged"
        }  # fmt: skip

    before, after = content(folder), content(back)
    if form == "labelme":  # a defect without a shape has no kind there
        before = {digest: (one[0], "defect" if one[1] == "dent" else one[1], one[2]) for digest, one in before.items()}
    assert after == before
    with pytest.raises(ConfigError, match="has something in it"):
        export_dataset(folder, out, form)
    with pytest.raises(ConfigError, match="'voc'"):
        export_dataset(folder, tmp_path / "voc", "voc")


def test_a_snapshot_stays_what_it_was(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same content, same digest; a change gives another one, and the first can still be trained on; damage is named."""
    folder = tmp_path / "set"
    import_dataset(folder, labelled)
    first = take_snapshot(folder)
    assert take_snapshot(folder) == first
    found = find_dataset(first.root)
    assert (len(found.train), len(found.test), found.classes) == (3, 3, ("set",))
    assert {(sample.defect, sample.gt_label) for sample in found.test} == {("scratch", True), ("dent", True)}
    add_pictures(folder, picture(tmp_path / "alarms", 7).parent, verdict="false-alarm", kind="dust")
    second = snapshot_to_train(str(folder))
    assert second.digest != first.digest
    assert (second.n_good, second.n_defects) == (4, 3), "a false alarm is a good part"
    assert snapshot_to_train(f"{folder}@{first.name}") == first
    assert (snapshot_of(first.root), snapshot_of(folder)) == (first, None)
    counts, taken = count_pictures(folder)
    assert counts == {("good", ""): 3, ("defect", "scratch"): 2, ("defect", "dent"): 1, ("false-alarm", "dust"): 1}
    assert {one.name for one in taken} == {first.name, second.name}
    with pytest.raises(DataError, match=r"no snapshot 'ffff'.*it has: ") as caught:
        snapshot_to_train(f"{folder}@ffff")
    assert "make one" in caught.value.hint
    lost = next((first.root / "train" / "good").iterdir())
    lost.unlink()
    with pytest.raises(DataError, match=f"{lost.name} is missing"):
        snapshot_to_train(f"{folder}@{first.name}")
    with pytest.raises(ConfigError, match="--from-dataset"):
        snapshot_root(str(folder), given=[Path("data"), None])
    alike = [replace(first, digest=f"ab{number}" * 20) for number in range(2)]
    monkeypatch.setattr(module, "snapshots", lambda folder: [*alike, second])
    with pytest.raises(
        DataError, match=rf"has 2 snapshots that begin with 'ab': {alike[0].name}, {alike[1].name}\."
    ) as caught:
        find_snapshot(folder, "ab")
    assert "whole name" in caught.value.hint


def test_a_check_names_everything_that_is_wrong(labelled: Path, tmp_path: Path) -> None:
    """Missing, changed and unknown files; and no snapshot is made of them."""
    folder = tmp_path / "set"
    import_dataset(folder, labelled)
    assert check_dataset(folder) == []
    entries = list(read_entries(folder).values())
    one, two = entries[:2]
    (folder / one.path).unlink()
    (folder / two.path).write_bytes(b"other")
    picture(folder / "pictures", 8)
    assert check_dataset(folder) == [
        f"{one.path} is missing.", f"{two.path} is not the picture that the index names: it has changed.",
        "pictures/8.png is not in the index: `edgead dataset add` adds it.",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"is (missing|not the picture)"):
        take_snapshot(folder)
    with pytest.raises(DataError, match="no picture that was judged good"):
        make_snapshot(folder, [entry for entry in entries if entry.verdict == "defect"])


def test_every_damaged_snapshot_is_named_and_none_is_trained_on(labelled: Path, tmp_path: Path) -> None:
    """A changed mask in one, a picture too many in the other; also where the content of the data set is still the same."""
    folder = tmp_path / "set"
    import_dataset(folder, labelled)
    first = take_snapshot(folder)
    add_pictures(folder, picture(tmp_path / "more", 9).parent, verdict="good")
    second = take_snapshot(folder)
    mask = next((first.root / "ground_truth" / "scratch").iterdir())
    mask.unlink()  # the link, so that the mask of the data set stays what it is
    mask.write_bytes(b"other")
    picture(second.root / "train" / "good", 10)
    problems = check_dataset(folder)
    assert len(problems) == 2
    assert any(f"{mask.name} has changed" in one for one in problems)
    assert any("train/good/10.png does not belong to it" in one for one in problems)
    with pytest.raises(DataError, match=r"10.png does not belong to it"):
        snapshot_to_train(str(folder))


def test_a_known_picture_gets_the_mask_and_the_kind_that_it_lacks(labelled: Path, tmp_path: Path) -> None:
    """Another kind or mask is named, and does not replace the first."""
    folder = tmp_path / "set"
    add_pictures(folder, labelled / "test" / "scratch", verdict="defect")
    again = import_dataset(folder, labelled)
    assert (again.n_known, again.n_judged, again.conflicts) == (2, 0, ())
    scratches = [one for one in read_entries(folder).values() if one.kind == "scratch"]
    assert len(scratches) == 2
    masks = [(folder / one.mask).read_bytes() for one in scratches if one.mask]
    assert len(masks) == 2
    assert (
        add_pictures(folder, labelled / "test" / "scratch", verdict="defect", kind="stain")
        .conflicts[0]
        .endswith("has the kind 'scratch' in the data set, and 'stain' there")
    )
    other = labelled / "ground_truth" / "scratch" / "3_mask.png"
    cv2.imwrite(str(other), np.full(SIZE, 255, np.uint8))
    assert [
        one.endswith("has another mask in the data set than there")
        for one in import_dataset(folder, labelled).conflicts
    ] == [True]
    assert [(folder / one.mask).read_bytes() for one in scratches] == [
        (folder / one.mask).read_bytes() for one in read_entries(folder).values() if one.kind == "scratch"
    ]
    assert read_mask(folder / scratches[0].mask, SIZE).sum() < 30
    (folder / scratches[0].mask).write_bytes(b"other")
    assert check_dataset(folder) == [f"{scratches[0].mask}, the mask of {scratches[0].path}, has changed."]


def test_one_broken_picture_does_not_end_an_import(labelled: Path, tmp_path: Path) -> None:
    """It is named, and all others are added; what was judged before an error is kept."""
    folder = tmp_path / "set"
    (labelled / "test" / "scratch" / "3.png").write_bytes(b"no picture")
    added = import_dataset(folder, labelled)
    assert (added.n_new, len(added.broken)) == (5, 1)
    other = tmp_path / "other"
    add_pictures(other, labelled / "train" / "good")

    def pictures() -> Iterator[Picture]:
        yield labelled / "train" / "good" / "0.png", Entry("", "", verdict="good"), lambda: None
        raise DataError("the disk is gone")

    with pytest.raises(DataError, match="the disk is gone"):
        _add(other, pictures())
    assert [one.verdict for one in read_entries(other).values()].count("good") == 1


def test_an_export_is_not_tied_to_the_data_set(labelled: Path, tmp_path: Path) -> None:
    """Whoever edits an exported picture does not change the data set's own."""
    folder, out = tmp_path / "set", tmp_path / "out"
    import_dataset(folder, labelled)
    export_dataset(folder, out, "folders")
    for path in out.rglob("*.png"):
        path.write_bytes(b"edited")
    assert check_dataset(folder) == []


def test_processes_that_train_together_need_a_named_snapshot(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one of them could lock the data set to make one."""
    folder = tmp_path / "set"
    import_dataset(folder, labelled)
    taken = take_snapshot(folder)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="names no snapshot"):
        snapshot_root(str(folder), given=[])
    assert snapshot_root(f"{folder}@{taken.name}", given=[]) == taken.root


@pytest.mark.parametrize(
    "content", ["not JSON", "[]", '{"digest": "0"}', '{"digest": "0", "pictures": [], "part": "x"}']
)
def test_another_file_of_that_name_is_no_snapshot(tmp_path: Path, content: str) -> None:
    """Other tools write a `snapshot.json` too; it does not end a training."""
    (tmp_path / "snapshot.json").write_text(content)
    assert snapshot_of(tmp_path / "data") is None


def test_a_training_says_which_snapshot_it_learnt_from(tiny_data: Path, tmp_path: Path) -> None:
    """The bundle's provenance has its digest; a run cannot be resumed on another snapshot."""
    folder = tmp_path / "set"
    import_dataset(folder, tiny_data)
    first = snapshot_to_train(str(folder))
    config = tiny_config(first.root)
    data = checked_data(config, Silent())
    assert provenance_of(config, data, {}).dataset_snapshot == first.digest
    run = tmp_path / "run"
    run.mkdir()
    open_run(config, data, run, resume=False)
    assert snapshot_to_train(str(folder)) == first, "the same content can be resumed"
    open_run(config, data, run, resume=True)
    add_pictures(folder, picture(tmp_path / "more", 7).parent, verdict="good")
    changed = tiny_config(snapshot_to_train(str(folder)).root)
    with pytest.raises(ConfigError, match=r"other images: 1 added"):
        open_run(changed, prepare_data(changed, Silent()), run, resume=True)
    picture(first.root / "train" / "good", 8)
    with pytest.raises(DataError, match=r"8.png does not belong to it"):
        checked_data(config, Silent())
