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
