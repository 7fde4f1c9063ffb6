"""The VisA layout and its table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgead.data.layouts import find_dataset
from edgead.errors import DataError

WriteImages = Callable[..., list[Path]]

HEADER = "object,split,label,image,mask"
ROWS = (
    "candle,train,normal,candle/Data/Images/Normal/0.JPG,",
    "candle,test,normal,candle/Data/Images/Normal/1.JPG,",
    "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png",
    "pcb1,train,normal,pcb1/Data/Images/Normal/0.JPG,",
)


@pytest.fixture
def visa(tmp_path: Path, write_images: WriteImages) -> Path:
    """A tiny VisA: two classes, one defect."""
    images = tmp_path / "candle" / "Data" / "Images"
    write_images(images / "Normal", "0.JPG", "1.JPG")
    write_images(images / "Anomaly", "0.JPG")
    write_images(tmp_path / "candle" / "Data" / "Masks" / "Anomaly", "0.png")
    write_images(tmp_path / "pcb1" / "Data" / "Images" / "Normal", "0.JPG")
    _write_table(tmp_path, HEADER, *ROWS)
    (tmp_path / "split_csv" / "2cls_fewshot.csv").write_text("nonsense")
    return tmp_path


def _write_table(root: Path, *lines: str) -> None:
    (root / "split_csv").mkdir(exist_ok=True)
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")


def test_visa_is_read_from_its_table(visa: Path) -> None:
    """Classes, parts, labels and masks come from `1cls.csv`; the other tables are ignored."""
    dataset = find_dataset(visa)
    assert (dataset.layout, dataset.classes) == ("VisA", ("candle", "pcb1"))
    assert [sample.name for sample in dataset.train] == [
        "candle/Data/Images/Normal/0.JPG",
        "pcb1/Data/Images/Normal/0.JPG",
    ]
    anomaly, good = dataset.test
    assert (anomaly.gt_label, anomaly.defect, good.gt_label, good.defect) == (True, "anomaly", False, "good")
    assert anomaly.mask_path == visa / "candle/Data/Masks/Anomaly/0.png"
    assert good.mask_path is None


def test_one_class_of_visa(visa: Path) -> None:
    """One class of VisA is read from the table beside it, so that its defects are not taken for good images."""
    dataset = find_dataset(visa / "candle")
    assert (dataset.layout, dataset.classes, len(dataset.train), len(dataset.test)) == ("VisA", ("candle",), 1, 2)
    assert dataset.train[0].name == "Data/Images/Normal/0.JPG"


def test_missing_column(visa: Path) -> None:
    """A table without a column is refused with the names of both."""
    _write_table(visa, "object,split,label,image", *ROWS)
    with pytest.raises(DataError, match="missing: mask"):
        find_dataset(visa)


def test_unknown_split(visa: Path) -> None:
    """A split that is neither train nor test is refused with its line."""
    _write_table(visa, HEADER, "candle,val,normal,candle/Data/Images/Normal/0.JPG,")
    with pytest.raises(DataError, match="line 2: split is 'val'"):
        find_dataset(visa)


def test_images_that_are_not_there(visa: Path) -> None:
    """A table with missing images is refused with their number and the first of them."""
    (visa / "pcb1/Data/Images/Normal/0.JPG").unlink()
    with pytest.raises(DataError, match=r"1 of the 5 files in .*1cls\.csv are missing, the first: .*pcb1"):
        find_dataset(visa)
