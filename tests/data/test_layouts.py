"""Every layout is recognised, and every mistake has its own error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.data.layouts import find_dataset
from edgead.errors import DataError

WriteImages = Callable[..., list[Path]]


def _mvtec(root: Path, write_images: WriteImages) -> None:
    write_images(root / "train" / "good", "000.png", "001.png")
    write_images(root / "test" / "good", "000.png")
    write_images(root / "test" / "scratch", "000.png", "001.png", "002.png")
    write_images(root / "ground_truth" / "scratch", "000_mask.png", "001.png")


def test_mvtec_layout(tmp_path: Path, write_images: WriteImages) -> None:
    """One class of MVTec AD: good training images, labels from folders, masks with and without `_mask`."""
    _mvtec(tmp_path / "bottle", write_images)
    dataset = find_dataset(tmp_path / "bottle")
    assert (dataset.layout, dataset.classes) == ("MVTec AD", ("bottle",))
    assert [sample.name for sample in dataset.train] == ["train/good/000.png", "train/good/001.png"]
    assert [(sample.defect, sample.gt_label) for sample in dataset.test] == [("good", False)] + [("scratch", True)] * 3
    masks = [sample.mask_path.name if sample.mask_path else None for sample in dataset.test]
    assert masks == [None, "000_mask.png", "001.png", None]
    assert dataset.description == (
        "MVTec AD layout, class bottle: 2 good images to train on, 4 test images (3 defective, 2 with masks)."
    )


def test_btad_layout(tmp_path: Path, write_images: WriteImages) -> None:
    """One class of BTAD: `ok` is good, `ko` is the defect, masks may be BMP."""
    write_images(tmp_path / "01" / "train" / "ok", "0.bmp", "1.bmp")
    write_images(tmp_path / "01" / "test" / "ok", "0.bmp")
    write_images(tmp_path / "01" / "test" / "ko", "0.bmp", "1.bmp")
    write_images(tmp_path / "01" / "ground_truth" / "ko", "0.bmp", "1.png")
    dataset = find_dataset(tmp_path / "01")
    assert (dataset.layout, dataset.classes, len(dataset.train)) == ("BTAD", ("01",), 2)
    assert [sample.defect for sample in dataset.test] == ["ko", "ko", "good"]
    assert [sample.mask_path.suffix for sample in dataset.test if sample.mask_path] == [".bmp", ".png"]


def test_mvtec_3d_layout(tmp_path: Path, write_images: WriteImages) -> None:
    """One class of MVTec 3D-AD: only colour images are read, with the masks beside them; masks of good images are left out."""
    bagel = tmp_path / "bagel"
    for part in ("train/good", "test/good", "test/hole"):
        write_images(bagel / part / "rgb", "000.png", "001.png")
        write_images(bagel / part / "xyz", "000.tiff", "001.tiff")
    for part in ("test/good", "test/hole"):
        write_images(bagel / part / "gt", "000.png", "001.png")
    dataset = find_dataset(bagel)
    assert (dataset.layout, dataset.classes) == ("MVTec 3D-AD", ("bagel",))
    assert [sample.name for sample in dataset.train] == ["train/good/rgb/000.png", "train/good/rgb/001.png"]
    assert [(sample.defect, sample.path.parent.name) for sample in dataset.test] == [("good", "rgb")] * 2 + [
        ("hole", "rgb")
    ] * 2
    assert [sample.mask_path for sample in dataset.test] == [
        None, None, bagel / "test/hole/gt/000.png", bagel / "test/hole/gt/001.png",
    ]  # fmt: skip
    assert find_dataset(tmp_path).layout == "MVTec 3D-AD"


def _mvtec_ad_2(root: Path, write_images: WriteImages) -> None:
    """One object: the same names in every part, as in the original."""
    write_images(root / "train" / "good", "000_regular.png", "001_regular.png", "002_overexposed.png")
    write_images(root / "validation" / "good", "000_regular.png")
    write_images(root / "test_public" / "good", "000_regular.png", "000_shift_1.png")
    write_images(root / "test_public" / "bad", "000_regular.png", "000_overexposed.png", "001_regular.png")
    write_images(root / "test_public" / "ground_truth" / "bad", "000_regular_mask.png", "000_overexposed_mask.png")
    write_images(root / "test_private", "000_regular.png", "001_regular.png")
    write_images(root / "test_private_mixed", "000_mixed.png", "001_mixed.png")


@pytest.mark.parametrize("objects", [("can",), ("can", "fabric", "rice")])
def test_mvtec_ad_2_layout(tmp_path: Path, write_images: WriteImages, objects: tuple[str, ...]) -> None:
    """One object or all: the public test part is the test, private and validation images are neither test nor training."""
    for name in objects:
        _mvtec_ad_2(tmp_path / name, write_images)
    dataset = find_dataset(tmp_path / "can" if len(objects) == 1 else tmp_path)
    assert (dataset.layout, dataset.classes) == ("MVTec AD 2", objects)
    for name in objects:
        home = tmp_path / name
        train = [sample.path.relative_to(home).as_posix() for sample in dataset.train if sample.class_name == name]
        assert train == [f"train/good/{stem}.png" for stem in ("000_regular", "001_regular", "002_overexposed")]
        test = {
            sample.path.relative_to(home).as_posix(): sample for sample in dataset.test if sample.class_name == name
        }
        assert {file: (one.gt_label, one.mask_path and one.mask_path.relative_to(home).as_posix()) for file, one in test.items()} == {
            "test_public/good/000_regular.png": (False, None),
            "test_public/good/000_shift_1.png": (False, None),
            "test_public/bad/000_regular.png": (True, "test_public/ground_truth/bad/000_regular_mask.png"),
            "test_public/bad/000_overexposed.png": (True, "test_public/ground_truth/bad/000_overexposed_mask.png"),
            "test_public/bad/001_regular.png": (True, None),
        }  # fmt: skip
    n = len(objects)
    assert f"Left out: {4 * n} private test images, which have no labels." in dataset.description
    assert f"Left out: {n} validation images." in dataset.description


def test_private_images_are_never_judged(tmp_path: Path, write_images: WriteImages) -> None:
    """An evaluation takes the public part alone, also as the folder itself; the private parts alone are refused with the reason."""
    _mvtec_ad_2(tmp_path / "can", write_images)
    write_images(tmp_path / "can" / "test_private_mixed" / "second", "000_mixed.png")  # no kind of defect
    for folder in ("can", "can/test_public"):
        dataset = find_dataset(tmp_path / folder, need_train=False)
        assert sorted(sample.path.parent.name for sample in dataset.test) == ["bad"] * 3 + ["good"] * 2
        assert sum(sample.mask is not None for sample in dataset.test) == 2
        assert dataset.classes == ("can",)
    for folder, n_images in (("test_private", 2), ("test_private_mixed", 3)):
        for need_train in (True, False):
            with pytest.raises(
                DataError, match=rf"The {n_images} images in .* have no labels: those of private test parts"
            ) as caught:
                find_dataset(tmp_path / "can" / folder, need_train=need_train)
            assert "edgead predict" in caught.value.hint
    with pytest.raises(DataError, match=r"5 labelled test images .* but no training images"):
        find_dataset(tmp_path / "can" / "test_public")


def test_an_object_of_mvtec_ad_2_without_its_public_part(tmp_path: Path, write_images: WriteImages) -> None:
    """Its private images are no test: it is trained on, and there is nothing to evaluate."""
    _mvtec_ad_2(tmp_path / "can", write_images)
    shutil.rmtree(tmp_path / "can" / "test_public")
    dataset = find_dataset(tmp_path / "can")
    assert (len(dataset.train), dataset.test, dataset.classes) == (3, (), ("can",))


def test_public_images_without_labels_are_named(tmp_path: Path, write_images: WriteImages) -> None:
    """The error is about the public part, which should have labels, and not about a private one."""
    _mvtec_ad_2(tmp_path / "can", write_images)
    shutil.rmtree(tmp_path / "can" / "test_public")
    write_images(tmp_path / "can" / "test_public", "000_regular.png")
    with pytest.raises(DataError, match="can/test_public holds 1 images outside any sub-folder"):
        find_dataset(tmp_path / "can")


def test_a_class_beside_the_parts_of_another(tmp_path: Path, write_images: WriteImages) -> None:
    """A folder that is a class itself, and holds another one, has both by name."""
    _mvtec(tmp_path / "bolt", write_images)
    write_images(tmp_path / "bolt" / "nut" / "train" / "good", "000.png")
    write_images(tmp_path / "bolt" / "nut" / "test" / "dent", "000.png")
    dataset = find_dataset(tmp_path / "bolt")
    assert dataset.classes == ("bolt", "nut")
    assert [sample.name for sample in dataset.train if sample.class_name == "nut"] == ["nut/train/good/000.png"]


def test_a_folder_named_rgb_alone_is_as_any_other(tmp_path: Path, write_images: WriteImages) -> None:
    """Without masks or positions beside it, nothing is left out."""
    write_images(tmp_path / "a" / "train" / "good" / "rgb", "0.png")
    write_images(tmp_path / "a" / "train" / "good" / "dark", "0.png")
    dataset = find_dataset(tmp_path / "a")
    assert (dataset.layout, len(dataset.train)) == ("MVTec AD", 2)


def test_several_classes(tmp_path: Path, write_images: WriteImages) -> None:
    """A root of several classes: each child is a class; files are ignored, and a folder that is not a class is reported."""
    for name in ("bottle", "cable"):
        _mvtec(tmp_path / name, write_images)
    (tmp_path / "README.md").write_text("hello")
    write_images(tmp_path / "docs", "figure.png")
    (tmp_path / ".git").mkdir()
    dataset = find_dataset(tmp_path)
    assert dataset.classes == ("bottle", "cable")
    assert dataset.train[0].name == "bottle/train/good/000.png"
    assert sum(sample.class_name == "cable" for sample in dataset.test) == 4
    assert "2 classes (bottle, cable)" in dataset.description
    assert dataset.description.endswith("Left out, not a class: docs.")


@pytest.mark.parametrize("day", ["", "2024-05-01/shift 1"])
def test_plain_folder(tmp_path: Path, write_images: WriteImages, day: str) -> None:
    """A folder of images, nested or not, holds good images of one class and no test part."""
    write_images(tmp_path / "screws" / day, "b.png", "a.JPG")
    write_images(tmp_path / "screws" / ".thumbnails", "a.png")
    dataset = find_dataset(tmp_path / "screws")
    assert (dataset.layout, dataset.classes, dataset.test) == ("plain folder", ("screws",), ())
    assert [sample.path.name for sample in dataset.train] == ["a.JPG", "b.png"]
    assert not any(sample.gt_label for sample in dataset.train)


def test_a_relative_folder_gets_its_real_name(
    tmp_path: Path, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.` is named after the folder that it stands for."""
    write_images(tmp_path / "screws", "a.png")
    monkeypatch.chdir(tmp_path / "screws")
    assert find_dataset(Path()).classes == ("screws",)


def test_a_link_is_named_after_its_folder(tmp_path: Path, write_images: WriteImages) -> None:
    """`./data` that links to `screws` holds the class screws."""
    write_images(tmp_path / "screws", "a.png")
    (tmp_path / "data").symlink_to(tmp_path / "screws")
    assert find_dataset(tmp_path / "data").classes == ("screws",)


def test_training_images_directly_in_train(tmp_path: Path, write_images: WriteImages) -> None:
    """Images that lie in `train` itself, without `good`, are good ones."""
    write_images(tmp_path / "train", "a.png", "b.png")
    assert len(find_dataset(tmp_path).train) == 2


def test_labelled_folders_for_evaluation(tmp_path: Path, write_images: WriteImages) -> None:
    """`X/test` alone is a labelled test set of class X, and its masks are found in `X/ground_truth`."""
    _mvtec(tmp_path / "bottle", write_images)
    dataset = find_dataset(tmp_path / "bottle" / "test", need_train=False)
    assert (dataset.layout, dataset.classes, dataset.train) == ("labelled folders", ("bottle",), ())
    assert sum(sample.gt_label for sample in dataset.test) == 3
    assert sum(sample.mask_path is not None for sample in dataset.test) == 2


def test_good_images_of_labelled_folders_are_for_training(tmp_path: Path, write_images: WriteImages) -> None:
    """Training on labelled folders takes the good images and counts the others; an evaluation takes all."""
    write_images(tmp_path / "good", "a.png", "b.png")
    write_images(tmp_path / "scratch", "a.png")
    dataset = find_dataset(tmp_path)
    assert [sample.name for sample in dataset.train] == ["good/a.png", "good/b.png"]
    assert [sample.name for sample in dataset.test] == ["scratch/a.png"]
    assert "Recognised: 1 defective (folder scratch), 2 good (folder good)." in dataset.description
    assert len(find_dataset(tmp_path, need_train=False).test) == 3


def test_a_test_part_is_not_trained_on(tmp_path: Path, write_images: WriteImages) -> None:
    """The good images of a folder named test are refused for training, and the hint names the option that overrides it."""
    _mvtec(tmp_path / "bottle", write_images)
    with pytest.raises(DataError, match=r"4 labelled test images .* but no training images") as caught:
        find_dataset(tmp_path / "bottle" / "test")
    assert "--good DIR" in caught.value.hint


def test_good_alone_is_a_plain_folder(tmp_path: Path, write_images: WriteImages) -> None:
    """A folder with `good` and no defects beside it is a folder of good images."""
    write_images(tmp_path / "good", "a.png")
    (tmp_path / "scratch").mkdir()
    assert find_dataset(tmp_path).layout == "plain folder"


def test_a_test_part_alone_loads_for_evaluation_only(tmp_path: Path, write_images: WriteImages) -> None:
    """A class without `train` can be evaluated, and cannot be trained on."""
    write_images(tmp_path / "bottle" / "test" / "good", "a.png")
    write_images(tmp_path / "bottle" / "test" / "dent", "a.png")
    dataset = find_dataset(tmp_path / "bottle", need_train=False)
    assert (dataset.train, len(dataset.test)) == ((), 2)
    with pytest.raises(DataError, match=r"no training images in .*train: it holds nothing \(the folder is missing\)"):
        find_dataset(tmp_path / "bottle")


def test_missing_folder(tmp_path: Path) -> None:
    """A missing folder is refused with a list of what is accepted."""
    with pytest.raises(DataError, match=r"data folder .* does not exist") as caught:
        find_dataset(tmp_path / "data")
    assert "PNG, JPEG, BMP or TIFF" in caught.value.hint


def test_empty_folder(tmp_path: Path) -> None:
    """An empty folder has another error than a missing one."""
    with pytest.raises(DataError, match="is empty"):
        find_dataset(tmp_path)


def test_a_file_instead_of_a_folder(tmp_path: Path, write_images: WriteImages) -> None:
    """A file is refused and its folder is suggested."""
    (path,) = write_images(tmp_path, "a.png")
    with pytest.raises(DataError, match="is a file") as caught:
        find_dataset(path)
    assert str(tmp_path) in caught.value.hint


def test_no_images_says_what_was_found(tmp_path: Path) -> None:
    """A folder without images is refused with a list of what it holds instead."""
    (tmp_path / "a.txt").touch()
    (tmp_path / "sub").mkdir()
    for name in ("b.mp4", "c.mp4"):
        (tmp_path / "sub" / name).touch()
    with pytest.raises(DataError, match=r"2 \.mp4, 1 \.txt files"):
        find_dataset(tmp_path)


def test_empty_folders_are_named(tmp_path: Path) -> None:
    """A folder of empty folders is refused with their names."""
    (tmp_path / "monday").mkdir()
    with pytest.raises(DataError, match=r"empty folders \(monday\)"):
        find_dataset(tmp_path)


@pytest.mark.parametrize("nested", [False, True])
def test_empty_train_folder(tmp_path: Path, write_images: WriteImages, nested: bool) -> None:
    """A class with an empty train folder is refused with its path, alone and among other classes."""
    if nested:
        _mvtec(tmp_path / "bottle", write_images)
    (tmp_path / "cable" / "train" / "good").mkdir(parents=True)
    write_images(tmp_path / "cable" / "test" / "good", "a.png")
    with pytest.raises(DataError, match=r"no training images in .*cable.train.good: it holds nothing"):
        find_dataset(tmp_path if nested else tmp_path / "cable")


def test_train_without_good(tmp_path: Path, write_images: WriteImages) -> None:
    """Folders in `train` are not taken for good images unless one is named good or ok."""
    write_images(tmp_path / "train" / "bad", "a.png")
    with pytest.raises(DataError, match="none of its 1 folders is named good or ok"):
        find_dataset(tmp_path)


def test_unlabelled_test_images(tmp_path: Path, write_images: WriteImages) -> None:
    """Test images outside any sub-folder have no label, which is an error."""
    write_images(tmp_path / "train" / "good", "a.png")
    write_images(tmp_path / "test", "a.png")
    with pytest.raises(DataError, match="1 images outside any sub-folder"):
        find_dataset(tmp_path)
