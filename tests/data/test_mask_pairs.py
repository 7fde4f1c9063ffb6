"""Masks belong to the image of their path below the folder of masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.data.layouts import find_dataset
from edgead.data.masks import read_mask
from edgead.errors import DataError

from .pictures import SIZE, write_mask, write_photo


def _masks(root: Path) -> dict[str, list[str]]:
    """Names of the masks of each defective image."""
    samples = find_dataset(root, need_train=False).test
    return {
        sample.name: [path.relative_to(root).as_posix() for path in sample.mask.files] if sample.mask else []
        for sample in samples
        if sample.gt_label
    }


def test_mvtec_loco(tmp_path: Path) -> None:
    """In MVTec LOCO a folder named like the image holds its masks, of which the union counts; validation is left out."""
    root = tmp_path / "breakfast_box"
    for folder in ("train/good", "validation/good", "test/good", "test/logical_anomalies", "test/structural_anomalies"):
        for name in ("000", "001"):
            write_photo(root / folder / f"{name}.png")
    write_mask(root / "ground_truth/logical_anomalies/000/000.png", box=(0, 4, 0, 4), value=255)
    write_mask(root / "ground_truth/logical_anomalies/000/001.png", box=(8, 12, 8, 12), value=249)
    write_mask(root / "ground_truth/logical_anomalies/001/000.png", box=(0, 2, 0, 2), value=251)
    write_mask(root / "ground_truth/structural_anomalies/000/000.png", box=(0, 3, 0, 3))
    dataset = find_dataset(root)
    assert (dataset.layout, len(dataset.train)) == ("MVTec LOCO AD", 2)
    assert "Left out: 2 validation images." in dataset.description
    assert {sample.name: int(read_mask(sample.mask, SIZE).sum()) for sample in dataset.test if sample.mask} == {
        "test/logical_anomalies/000.png": 32,
        "test/logical_anomalies/001.png": 4,
        "test/structural_anomalies/000.png": 9,
    }


def test_masks_per_camera(tmp_path: Path) -> None:
    """Images of the same name in the folders of two cameras have the masks of their own camera."""
    for camera in ("cam1", "cam2", "cam3"):
        write_photo(tmp_path / "test" / "scratch" / camera / "000.png")
    for camera in ("cam1", "cam2"):
        write_mask(tmp_path / "ground_truth" / "scratch" / camera / "000_mask.png")
    assert _masks(tmp_path) == {
        "test/scratch/cam1/000.png": ["ground_truth/scratch/cam1/000_mask.png"],
        "test/scratch/cam2/000.png": ["ground_truth/scratch/cam2/000_mask.png"],
        "test/scratch/cam3/000.png": [],
    }


def test_a_mask_by_kind_and_name(tmp_path: Path) -> None:
    """A mask directly in the folder of its kind fits the only image of that name, and is ambiguous with two."""
    write_photo(tmp_path / "test" / "scratch" / "cam1" / "000.png")
    write_photo(tmp_path / "test" / "dent" / "cam1" / "000.png")
    mask = write_mask(tmp_path / "ground_truth" / "scratch" / "000.png")
    assert _masks(tmp_path) == {
        "test/dent/cam1/000.png": [],
        "test/scratch/cam1/000.png": [mask.relative_to(tmp_path).as_posix()],
    }
    write_photo(tmp_path / "test" / "scratch" / "cam2" / "000.png")
    with pytest.raises(DataError, match=r"The mask .*000\.png fits 2 images: .*cam1.*, .*cam2"):
        _masks(tmp_path)


@pytest.mark.parametrize("images", [("scratch/000", "dent/000"), ("cam1/000", "cam2/000")])
def test_a_mask_of_two_images_is_ambiguous(tmp_path: Path, images: tuple[str, str]) -> None:
    """A mask directly in the folder of masks that fits two images is an error that names both."""
    for name in images:
        write_photo(tmp_path / f"{name}.png")
    write_mask(tmp_path / "masks" / "000.png")
    with pytest.raises(DataError, match=r"The mask .*000\.png fits 2 images: ") as caught:
        _masks(tmp_path)
    assert all(name in caught.value.message for name in images)


def test_kinds_do_not_share_masks(tmp_path: Path) -> None:
    """Images of one name in several kinds have their own masks only."""
    for kind in ("scratch", "dent", "stain"):
        write_photo(tmp_path / "test" / kind / "000.png")
    write_mask(tmp_path / "ground_truth" / "scratch" / "000.png")
    write_mask(tmp_path / "ground_truth" / "dent" / "000.bmp")
    assert _masks(tmp_path) == {
        "test/dent/000.png": ["ground_truth/dent/000.bmp"],
        "test/scratch/000.png": ["ground_truth/scratch/000.png"],
        "test/stain/000.png": [],
    }


@pytest.mark.parametrize("second", ["000_mask.png", "000.bmp", "000/0.png", "000.PNG"])
def test_two_masks_of_one_image_are_ambiguous(tmp_path: Path, second: str) -> None:
    """Two files, or a file and a folder, that fit one image are an error that names both."""
    write_photo(tmp_path / "test" / "scratch" / "000.png")
    write_mask(tmp_path / "ground_truth" / "scratch" / "000.png")
    write_mask(tmp_path / "ground_truth" / "scratch" / second)
    with pytest.raises(DataError, match=r"image .*000\.png has 2 masks: ") as caught:
        _masks(tmp_path)
    assert "ground_truth" in caught.value.message


def test_numbered_masks_are_united(tmp_path: Path) -> None:
    """Masks that differ by a number after the word mask are parts of one."""
    write_photo(tmp_path / "good" / "000.png")
    write_photo(tmp_path / "bad" / "007.png")
    for number in (1, 2):
        write_mask(tmp_path / "masks" / f"007_mask_{number}.png")
    assert _masks(tmp_path) == {"bad/007.png": ["masks/007_mask_1.png", "masks/007_mask_2.png"]}


def test_masks_of_good_images_are_ignored(tmp_path: Path) -> None:
    """The empty masks of good images, as MVTec 3D-AD has them, are no reason to stop."""
    write_photo(tmp_path / "good" / "000.png")
    write_photo(tmp_path / "bad" / "000.png")
    write_mask(tmp_path / "masks" / "good" / "000.png", box=None)
    write_mask(tmp_path / "masks" / "bad" / "000.png")
    assert _masks(tmp_path) == {"bad/000.png": ["masks/bad/000.png"]}


@pytest.mark.parametrize(
    ("photos", "orphan"),
    [
        (
            "bolt/train/good/0 nut/train/good/0 bolt/test/scratch/1 nut/test/scratch/2",
            "bolt/ground_truth/scratch/2_mask",
        ),
        ("train/bolt/good/0 train/nut/good/0 test/bolt/bad/1 test/nut/bad/2", "test/bolt/masks/2"),
        ("bolt/good/0 nut/good/0 bolt/bad/1 nut/bad/2", "bolt/masks/2"),
        ("bolt/good/0 nut/good/0 bolt/cam1/bad/1 nut/cam1/bad/2", "bolt/cam1/masks/2"),
        ("bolt/good/0 nut/good/0 bolt/bad/1 nut/bad/2", "masks/bolt/bad/2"),
        ("bolt/good/0 nut/good/0 bolt/bad/1 nut/bad/2", "export/Bolt/masks/2"),
        ("bolt/good/0 nut/good/0 bolt/bad/1 nut/bad/2", "overlay/bolt/2"),
    ],
)
@pytest.mark.parametrize("has_own", [False, True])
def test_a_mask_without_an_image_in_its_class(tmp_path: Path, photos: str, orphan: str, *, has_own: bool) -> None:
    """A mask never belongs to an image of the same name in another class, with a mask of its own or without: it is named."""
    for name in photos.split():
        write_photo(tmp_path / f"{name}.png")
    mask = write_mask(tmp_path / f"{orphan}.png")
    own = orphan.replace("bolt", "nut").replace("Bolt", "nut")
    if has_own:
        write_mask(tmp_path / f"{own}.png")
    first, second = (f"{name}.png" for name in photos.split()[2:])
    assert _masks(tmp_path) == {first: [], second: [f"{own}.png"] if has_own else []}
    description = find_dataset(tmp_path, need_train=False).description
    assert f"1 masks fit no image, the first: {mask}." in description


def test_masks_decide_in_each_class_alone(tmp_path: Path) -> None:
    """Where masks are all that says what is good, too, the class of a mask is the folder around it that has images."""
    for name in ("bolt/images/1", "bolt/images/2", "nut/images/2", "nut/images/3"):
        write_photo(tmp_path / f"{name}.png")
    for name in ("bolt/masks/3", "nut/masks/2"):
        write_mask(tmp_path / f"{name}.png")
    with pytest.raises(
        DataError, match=r"not clear whether 1 images in .*nut are good: .* 1 are defective \(masks: 1\)"
    ):
        find_dataset(tmp_path, need_train=False)
    write_mask(tmp_path / "nut/masks/3.png", box=None)
    dataset = find_dataset(tmp_path, need_train=False)
    assert _masks(tmp_path) == {"nut/images/2.png": ["nut/masks/2.png"]}
    assert f"1 masks fit no image, the first: {tmp_path / 'bolt/masks/3.png'}." in dataset.description


@pytest.mark.parametrize("folder", ["export/masks", "bolt/export/masks", "2024-05-01/masks"])
def test_masks_of_a_class_in_a_folder_of_their_own(tmp_path: Path, folder: str) -> None:
    """Masks in a folder without images, or of another day, belong to the images beside that folder."""
    for name in ("bolt/good/0", "bolt/2024-05-01/bad/1", "bolt/2024-05-02/bad/2"):
        write_photo(tmp_path / f"{name}.png")
    write_mask(tmp_path / folder / "2.png")
    assert _masks(tmp_path)["bolt/2024-05-02/bad/2.png"] == [f"{folder}/2.png"]
