"""Every common layout is recognised or refused; none trains on defects or masks."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.data.layouts import find_dataset
from edgead.data.mask_like import looks_of
from edgead.errors import DataError

from .pictures import write_mask, write_photo


def build(root: Path, layout: str) -> None:
    """Write the files of a layout: one path a line; `*N` repeats it, `mask` and `empty` mask files, `{}` is a number."""
    for line in filter(None, map(str.strip, layout.splitlines())):
        pattern, *words = line.split()
        count = next((int(word[1:]) for word in words if word.startswith("*")), 1)
        for number in range(count):
            path = root / pattern.replace("{}", f"{number:03d}").replace("~", " ")
            if "mask" in words or "empty" in words:
                write_mask(path, box=None if "empty" in words else (4, 10, 6, 20))
            else:
                write_photo(path)


# layout, good images to train on, defective images, those with masks
RECOGNISED = {
    "normal, abnormal, mask": ("normal/{}.png *5\nabnormal/{}.png *3\nmask/{}.png *3 mask", 5, 3, 3),
    "OK, NG, MASK": ("OK/{}.png *5\nNG/{}.png *3\nMASK/{}.png *3 mask", 5, 3, 3),
    "masks named after images": ("good/{}.png *4\nbad/{}.png *2\nmasks/{}_mask.png *2 mask", 4, 2, 2),
    "German": ("Gutteile/{}.png *4\nFehlerteile/{}.png *3\nMasken/{}.png *3 mask", 4, 3, 3),
    "German short": ("i.O./{}.bmp *4\nn.i.O./{}.bmp *3", 4, 3, 0),
    "French": ("bonnes pièces/{}.jpg *4\ndéfauts/{}.jpg *2\nmasques/{}.png *2 mask".replace("s p", "s~p"), 4, 2, 2),
    "Italian": ("buoni/{}.png *4\nscarti/{}.png *3", 4, 3, 0),
    "Spanish": ("buenas/{}.png *4\nmalas/{}.png *3\nmáscaras/{}.png *3 mask", 4, 3, 3),
    "Portuguese": ("bons/{}.png *4\ndefeituosos/{}.png *3", 4, 3, 0),
    "Dutch": ("goed/{}.png *4\nafkeur/{}.png *3", 4, 3, 0),
    "Polish": ("dobre/{}.png *4\nwadliwe/{}.png *3", 4, 3, 0),
    "Chinese": ("良品/{}.png *4\n不良品/{}.png *3\n掩码/{}.png *3 mask", 4, 3, 3),
    "Japanese": ("正常/{}.png *4\n異常/{}.png *3\nマスク/{}.png *3 mask", 4, 3, 3),
    "Korean": ("양품/{}.png *4\n불량/{}.png *3", 4, 3, 0),
    "negations": ("defect_free/{}.png *4\nnot_good/{}.png *3", 4, 3, 0),
    "a negation further away": ("in~Ordnung/{}.png *4\nnicht~in~Ordnung/{}.png *3", 4, 3, 0),
    "pass and fail": ("PASS/{}.png *4\nFAIL/{}.png *3", 4, 3, 0),
    "ok_front and def_front": ("ok_front/{}.jpeg *4\ndef_front/{}.jpeg *3", 4, 3, 0),
    "kinds inside NG": ("OK/{}.png *4\nNG/scratch/{}.png *2\nNG/dent/{}.png *2", 4, 4, 0),
    "good beside kinds": ("good/{}.png *4\ncolor/{}.png *2\nxyz/{}.png *2", 4, 4, 0),
    "one level deeper": ("line1/OK/{}.png *4\nline1/NG/{}.png *3\nline2/OK/{}.png *2", 6, 3, 0),
    "by day": ("2024-05-01/good/{}.png *4\n2024-05-02/good/{}.png *2\n2024-05-02/bad/{}.png *3", 6, 3, 0),
    "below images": ("images/good/{}.png *4\nimages/bad/{}.png *3\nannotations/masks/bad/{}.png *3 mask", 4, 3, 3),
    "masks inside bad": ("good/{}.png *4\nbad/images/{}.png *3\nbad/masks/{}.png *3 mask", 4, 3, 3),
    "VisA without its table": (
        "Data/Images/Normal/{}.JPG *4\nData/Images/Anomaly/{}.JPG *3\nData/Masks/Anomaly/{}.png *3 mask", 4, 3, 3,
    ),
    "images and masks of all": ("images/{}.png *6\nmasks/{}.png *6 empty\nmasks/004.png mask\nmasks/005.png mask", 4, 2, 2),
    "masks under an unknown name": ("a/{}.png *6\nb/{}.png *6 empty\nb/004.png mask\nb/005.png mask", 4, 2, 2),
    "KolektorSDD": (
        "kos01/Part{}.jpg *4\nkos01/Part{}_label.bmp *4 empty\nkos01/Part003_label.bmp mask\n"
        "kos02/Part{}.jpg *2\nkos02/Part{}_label.bmp *2 empty", 5, 1, 1,
    ),
    "masks beside images": ("{}.png *5\n{}_mask.png *5 empty\n004_mask.png mask", 4, 1, 1),
    "masks beside images by suffix": ("{}.jpg *5\n{}.png *5 empty\n004.png mask", 4, 1, 1),
    "magnetic tiles as published": (
        "MT_Free/Imgs/{}.jpg *4\nMT_Free/Imgs/{}.png *4 empty\nMT_Crack/Imgs/{}.jpg *2\nMT_Crack/Imgs/{}.png *2 mask\n"
        "MT_Uneven/Imgs/{}.jpg *2\nMT_Uneven/Imgs/{}.png *2 mask", 4, 4, 4,
    ),
    "file names": ("ok_{}.png *4\nng_{}.png *3", 4, 3, 0),
    "file names at the end": ("{}_good.png *4\n{}_defect.png *3", 4, 3, 0),
    "leftovers beside good": ("good/{}.png *4\nbad/{}.png *2\nunsorted/{}.png *7", 4, 2, 0),
    "masks of two classes in one tree": (
        "bolt/good/{}.png *2\nbolt/bad/{}.png *2\nnut/good/{}.png *2\nnut/bad/{}.png *2\nmasks/bolt/{}.png *2 mask\n"
        "masks/nut/{}.png *2 mask", 4, 4, 4,
    ),
    "masks in both parts": (
        "train/images/{}.png *3\ntrain/masks/{}.png *3 empty\ntest/images/{}.png *3\ntest/masks/{}.png *3 mask", 3, 3, 3,
    ),
    "labels are the product, with masks": ("labels/OK/{}.png *4\nlabels/NG/{}.png *3\nlabels/masks/{}.png *3 mask", 4, 3, 3),
    "labels are the product": ("labels/OK/{}.png *4\nlabels/NG/{}.png *3", 4, 3, 0),
    "train with defects": ("train/good/{}.png *4\ntrain/bad/{}.png *3\ntest/good/{}.png *1\ntest/bad/{}.png *2", 4, 2, 0),
    "other names of parts": ("Train/normal/{}.png *4\nValidation/normal/{}.png *2\nTest/normal/{}.png\nTest/Riss/{}.png *3", 4, 3, 0),
    "flat training part": (
        "train/{}.png *4\ntest/good/{}.png\ntest/dent/{}.png *2\nground_truth/dent/{}.png *2 mask", 4, 2, 2,
    ),
    "validation as the test": ("train/normal/{}.png *4\nval/normal/{}.png *2\nval/abnormal/{}.png *3", 4, 3, 0),
    "classes below the parts": (
        "train/bolt/good/{}.png *3\ntrain/nut/good/{}.png\ntest/bolt/good/{}.png\ntest/bolt/bad/{}.png\ntest/nut/bad/{}.png *2",
        4, 3, 0,
    ),
    "MVTec AD 2": (
        "train/good/{}_regular.png *4\nvalidation/good/{}_regular.png *2\ntest_public/good/{}_regular.png *3\n"
        "test_public/bad/{}_regular.png *2\ntest_public/bad/{}_overexposed.png\n"
        "test_public/ground_truth/bad/{}_regular_mask.png *2 mask\ntest_public/ground_truth/bad/{}_overexposed_mask.png mask\n"
        "test_private/{}_regular.png *5\ntest_private_mixed/{}_mixed.png *5", 4, 3, 3,
    ),
    "a folder of good ones beside a whole data set": (
        "train/good/{}.png *4\ntest/good/{}.png\ntest/bad/{}.png *2\narchive/good/{}.png *3", 4, 2, 0,
    ),
    "good beside a test part": ("good/{}.png *4\ntest/good/{}.png\ntest/bad/{}.png *2", 4, 2, 0),
    "a data set's name": ("anomaly_dataset/good/{}.png *4\nanomaly_dataset/bad/{}.png *3", 4, 3, 0),
    "masks with two suffixes": ("good/{}.jpg *4\nbad/{}.jpg *2\nmasks/{}.jpg.png *2 mask", 4, 2, 2),
    "image and mask endings": ("{}_image.png *5\n{}_mask.png *5 empty\n004_mask.png mask", 4, 1, 1),
    "KolektorSDD2": (
        "train/{}.png *5\ntrain/{}_GT.png *5 empty\ntrain/004_GT.png mask\n"
        "test/{}.png *3\ntest/{}_GT.png *3 empty\ntest/002_GT.png mask", 4, 1, 1,
    ),
}  # fmt: skip

# layout, what the refusal says
REFUSED = {
    "unknown beside bad": ("bad/{}.png *3\nxyz/{}.png *5", "5 images .* 3 are defective"),
    "files beside bad": ("{}.png *5\nbad/{}.png *3", "5 images .* 3 are defective"),
    "class numbers": ("0/{}.png *5\n1/{}.png *3", r"0 \(5\), 1 \(3\)"),
    "positive and negative": ("positive/{}.png *3\nnegative/{}.png *5", r"negative \(5\), positive \(3\)"),
    "letters": ("A/{}.png *3\nB/{}.png *5", r"A \(3\), B \(5\)"),
    "images of which some have masks": ("images/{}.png *6\nmasks/{}.png *2 mask", "4 images .* 2 are defective .* 2 are masks"),
    "masks alone": ("{}.png *6 mask", "6 have only one or two values"),
    "a folder of masks alone": ("masks/{}.png *4 mask", "The 4 images in .* are masks"),
    "masks among images": ("{}.png *6\nx{}.png *2 mask", "2 have only one or two values"),
    "bad named files among others": ("{}.png *6\nbad_{}.png *2", "6 images .* 2 are defective"),
    "masks among good images": ("good/{}.png *6\ngood/x{}.png *2 mask", "2 of 8 good images .* only two values"),
    "defects alone": ("scratch/{}.png *3\ndent/{}.png *2", "5 defective"),
    "defects inside good": ("good/{}.png *3\ngood/bad/{}.png *2", "good by one sign and defective by another"),
    "good with a mask": ("good/{}.png *3\ngood/000_mask.png mask\nbad/{}.png", "good by one sign and defective by another"),
    "masks of two cameras": ("good/{}.png *3\nbad/cam1/0.png\nbad/cam2/0.png\nmasks/bad/0.png mask", "mask .* fits 2 images"),
    "two masks of one image": ("good/{}.png *3\nbad/0.png\nmasks/0.png mask\nmasks/0_mask.png mask", "image .* has 2 masks"),
    "file and folder of masks": ("good/{}.png *3\nbad/0.png\nmasks/0.png mask\nmasks/0/0.png mask", "image .* has 2 masks"),
}  # fmt: skip

ACCEPTED = {
    "identifiers": "9f3bad41c7.png\na3c1b2d4-3bad-4def-91aa-0123456789ab.png\n{}.png *3",
    "flat": "{}.png *5",
    "days and shifts": "2024-05-01/shift 1/{}.png *3\n2024-05-02/shift 2/{}.png *2".replace("shift ", "shift~"),
    "cameras": "cam1/{}.png *3\ncam2/{}.png *2",
    "serial numbers": "tile_01/{}.png *3\ntile_02/{}.png *2",
    "one folder": "export_xyz/{}.png *5",
    "good alone": "good/{}.png *5",
}


def _number(path: Path) -> str:
    return re.sub(r"\D", "", path.name.partition(".")[0])


@pytest.mark.parametrize("name", RECOGNISED)
def test_good_images_are_found(tmp_path: Path, name: str) -> None:
    """Exactly the good images are for training, defects and masks are not, and masks belong to their images."""
    layout, n_good, n_defective, n_masks = RECOGNISED[name]
    build(tmp_path / "part", layout)
    dataset = find_dataset(tmp_path / "part")
    defective = [sample for sample in dataset.test if sample.gt_label]
    masked = [sample for sample in defective if sample.mask is not None]
    assert (len(dataset.train), len(defective), len(masked)) == (n_good, n_defective, n_masks), dataset.description
    assert not any(sample.gt_label for sample in dataset.train)
    for sample in masked:
        assert sample.mask is not None
        assert [_number(path) for path in sample.mask.files] == [_number(sample.path)]


@pytest.mark.parametrize("name", REFUSED)
def test_doubt_is_refused_with_counts(tmp_path: Path, name: str) -> None:
    """What could be a defect or a mask is not trained on: the error counts it, and names the options that decide."""
    layout, message = REFUSED[name]
    build(tmp_path / "part", layout)
    with pytest.raises(DataError, match=rf"(?s){message}") as caught:
        find_dataset(tmp_path / "part")
    assert "--good" in caught.value.hint or "path of its image" in caught.value.hint


@pytest.mark.parametrize("name", ACCEPTED)
def test_folders_that_say_nothing_bad_are_good(tmp_path: Path, name: str) -> None:
    """Days, cameras and serial numbers raise no doubt: every image is good, as before."""
    build(tmp_path / "part", ACCEPTED[name])
    dataset = find_dataset(tmp_path / "part")
    assert (dataset.layout, len(dataset.train), dataset.test) == ("plain folder", 5, ())


def test_images_that_are_nearly_black_and_white_are_no_masks(tmp_path: Path) -> None:
    """Of good images of printed circuits some have two values only; beside others of their kind they are taken."""
    random = np.random.default_rng(0)
    for number in range(10):
        image = np.where(cv2.resize(random.random((16, 16)), (128, 128)) > 0.5, 255, 0).astype(np.uint8)
        if number % 5 >= 2:  # dust, more than compression leaves of two values
            image[random.random(image.shape) < 0.06] = 128
        path = tmp_path / "part" / "good" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path.with_suffix(".jpg")), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert looks_of(sorted((tmp_path / "part" / "good").iterdir())).count("two values") == 4
    assert len(find_dataset(tmp_path / "part").train) == 10


@pytest.mark.parametrize("name", ["NG", "bad parts", "Ausschuss", "defects", "masks", "ground_truth"])
def test_a_folder_named_after_defects_or_masks_is_not_trained_on(tmp_path: Path, name: str) -> None:
    """Training on a folder whose own name says defects or masks is refused; a name that merely mentions them is not."""
    build(tmp_path / name, "{}.png *5")
    with pytest.raises(DataError, match="The 5 images in") as caught:
        find_dataset(tmp_path / name)
    assert f"--good {tmp_path / name}" in caught.value.hint
    build(tmp_path / "defect-detection", "{}.png *5")
    assert len(find_dataset(tmp_path / "defect-detection").train) == 5


def test_rejects_alone_can_be_evaluated(tmp_path: Path) -> None:
    """A folder named after defects is a test set of defects."""
    build(tmp_path / "NG", "{}.png *5")
    assert [sample.gt_label for sample in find_dataset(tmp_path / "NG", need_train=False).test] == [True] * 5


def test_the_roles_are_counted(tmp_path: Path) -> None:
    """The sentence for users counts the images of each role by what states it, and what was left out."""
    build(tmp_path / "part", "normal/{}.png *5\nabnormal/{}.png *3\nmask/{}.png *4 mask\nunsorted/{}.png *2")
    description = find_dataset(tmp_path / "part").description
    assert (
        "Labelled folders, class part: 5 good images to train on, 3 test images (3 defective, 3 with masks)."
        in description
    )
    assert "Recognised: 3 defective (folder abnormal), 5 good (folder normal), 4 masks (folder mask)." in description
    assert "Left out: 2 images of which nothing says whether they are good (in unsorted)." in description
    assert "1 masks fit no image" in description


def test_classes_of_labelled_folders(tmp_path: Path) -> None:
    """Folders of two kinds of part, each with good and bad, are two classes."""
    build(tmp_path, "bolt/OK/{}.png *3\nbolt/NG/{}.png *2\nnut/OK/{}.png *2\nnut/NG/{}.png *1")
    dataset = find_dataset(tmp_path)
    assert dataset.classes == ("bolt", "nut")
    assert sorted(sample.class_name for sample in dataset.train) == ["bolt"] * 3 + ["nut"] * 2
