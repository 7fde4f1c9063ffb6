"""Folders whose roles the user states."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.data.chosen import FolderRoles, choose_dataset
from edgead.data.layouts import find_dataset
from edgead.errors import DataError

from .pictures import write_mask, write_photo


def _write(folder: Path, count: int) -> Path:
    for number in range(count):
        write_photo(folder / f"{number}.png")
    return folder


def test_stated_roles_replace_recognised_ones(tmp_path: Path) -> None:
    """Folders of any name are what the user says, several of a kind add up, and masks pair by path."""
    a, b, c = (_write(tmp_path / name, count) for name, count in (("bad", 3), ("x", 2), ("y", 2)))
    for number in range(2):
        write_mask(tmp_path / "z" / f"{number}_mask.png")
    roles = FolderRoles((a, b), (c,), (tmp_path / "z",))
    dataset = choose_dataset(tmp_path / "data", roles)
    assert (dataset.layout, len(dataset.train), len(dataset.test)) == ("chosen folders", 5, 2)
    assert [sample.mask_path for sample in dataset.test] == [
        tmp_path / "z" / "0_mask.png",
        tmp_path / "z" / "1_mask.png",
    ]
    assert "Recognised: 2 defective (folder y), 3 good (folder bad), 2 good (folder x), 2 masks (folder z)." in (
        dataset.description
    )
    assert len(choose_dataset(tmp_path / "data", roles, need_train=False).test) == 7


def test_rejects_alone(tmp_path: Path) -> None:
    """A folder of rejects alone is a test set, and nothing to train on."""
    roles = FolderRoles(bad=(_write(tmp_path / "returned", 4),))
    assert [sample.gt_label for sample in choose_dataset(tmp_path, roles, need_train=False).test] == [True] * 4
    with pytest.raises(DataError, match="4 defective images and no good ones") as caught:
        choose_dataset(tmp_path, roles)
    assert caught.value.hint == "Add --good DIR."


def test_one_good_folder_is_as_a_plain_one(tmp_path: Path) -> None:
    """`--good DIR` gives the samples that `--data DIR` gives, with the same names."""
    folder = _write(tmp_path / "screws", 3)
    assert choose_dataset(tmp_path, FolderRoles((folder,))).train == find_dataset(folder).train


def test_the_innermost_folder_counts(tmp_path: Path) -> None:
    """Good images with the folder of bad ones inside them: each image has one role."""
    _write(tmp_path / "all", 3)
    _write(tmp_path / "all" / "ng", 2)
    roles = FolderRoles((tmp_path / "all",), (tmp_path / "all" / "ng",))
    dataset = choose_dataset(tmp_path, roles)
    assert (len(dataset.train), len(dataset.test)) == (3, 2)


def test_folders_below_the_data_folder(tmp_path: Path) -> None:
    """A folder that does not exist where the command runs is looked for in the data folder."""
    _write(tmp_path / "A", 3)
    assert len(choose_dataset(tmp_path, FolderRoles((Path("A"),))).train) == 3
    with pytest.raises(DataError, match="folder B of --bad does not exist"):
        choose_dataset(tmp_path, FolderRoles((Path("A"),), (Path("B"),)))


def test_masks_decide_without_a_folder_of_defects(tmp_path: Path) -> None:
    """Good images and masks alone: an image whose mask marks something is defective."""
    _write(tmp_path / "Train", 4)
    write_mask(tmp_path / "Train" / "Label" / "3_label.png")
    roles = FolderRoles((tmp_path / "Train",), masks=(tmp_path / "Train" / "Label",))
    dataset = choose_dataset(tmp_path, roles)
    assert ([s.name for s in dataset.train], [s.name for s in dataset.test]) == (["0.png", "1.png", "2.png"], ["3.png"])


def test_numbers_of_good_and_bad_images_may_coincide(tmp_path: Path) -> None:
    """With a folder of defects, a mask named like a good image makes that image no defect."""
    good, bad = _write(tmp_path / "a", 4), _write(tmp_path / "b", 2)
    for number in range(4):
        write_mask(tmp_path / "m" / f"{number}.png")
    dataset = choose_dataset(tmp_path, FolderRoles((good,), (bad,), (tmp_path / "m",)))
    assert (len(dataset.train), sum(sample.mask is not None for sample in dataset.test)) == (4, 2)
    assert "2 masks fit no image" in dataset.description


def test_masks_need_images(tmp_path: Path) -> None:
    """Masks alone are refused."""
    write_mask(tmp_path / "m" / "0.png")
    with pytest.raises(DataError, match="needs the images"):
        choose_dataset(tmp_path, FolderRoles(masks=(tmp_path / "m",)))


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    """A folder without images is an error that names it and its option."""
    good = _write(tmp_path / "good", 2)
    (tmp_path / "bad").mkdir()
    with pytest.raises(DataError, match=r"no images in the folders of --bad: .*bad"):
        choose_dataset(tmp_path, FolderRoles((good,), (tmp_path / "bad",)))
