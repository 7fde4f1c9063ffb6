"""The layout of Real-IAD and its JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgead.data.layouts import find_dataset
from edgead.errors import DataError

from ..pictures import write_mask, write_photo


def _entry(kind: str, number: int) -> dict[str, Any]:
    folder = "OK" if kind == "OK" else f"NG/{kind}"
    stem = f"{folder}/S{number:04d}/audiojack_{number:04d}_{folder.replace('/', '_')}_C1_20230921"
    mask = None if kind == "OK" else f"{stem}.png"
    return {"category": "audiojack", "anomaly_class": kind, "image_path": f"{stem}.jpg", "mask_path": mask}


def _real_iad(root: Path, class_name: str = "audiojack", noisy: int = 0, jsons: str = "realiad_jsons") -> None:
    train = [_entry("OK", n) for n in range(4)] + [_entry("HS", n) for n in range(50, 50 + noisy)]
    test = [_entry("OK", n) for n in (4, 5)] + [_entry("AK", 6), _entry("HS", 7)]
    images = root / "realiad_256" / class_name
    for entry in (*train, *test):
        write_photo(images / entry["image_path"])
        if entry["mask_path"]:
            write_mask(images / entry["mask_path"])
    content = {"meta": {"normal_class": "OK", "prefix": f"{class_name}/"}, "train": train, "test": test}
    folder = root / jsons / jsons
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{class_name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("where", ["", "realiad_256", "realiad_256/audiojack"])
def test_real_iad_is_read_from_its_json(tmp_path: Path, where: str) -> None:
    """Parts, labels and masks come from the JSON file, for the whole set, one resolution or one class."""
    _real_iad(tmp_path / "Real-IAD")
    dataset = find_dataset(tmp_path / "Real-IAD" / where)
    assert (dataset.layout, dataset.classes, len(dataset.train)) == ("Real-IAD", ("audiojack",), 4)
    assert sorted((sample.defect, sample.gt_label) for sample in dataset.test) == [
        ("AK", True), ("HS", True), ("good", False), ("good", False),
    ]  # fmt: skip
    masked = {sample.path.with_suffix(".png") for sample in dataset.test if sample.mask}
    assert masked == {sample.mask.files[0] for sample in dataset.test if sample.mask}
    assert len(masked) == 2


def test_one_class_of_several(tmp_path: Path) -> None:
    """The folder of one class has that class alone; the root has all."""
    for name in ("audiojack", "pcb"):
        _real_iad(tmp_path, name)
    assert find_dataset(tmp_path).classes == ("audiojack", "pcb")
    assert find_dataset(tmp_path / "realiad_256" / "pcb").classes == ("pcb",)


def test_defects_in_the_training_part(tmp_path: Path) -> None:
    """The defects that Real-IAD's noisy protocols put into training are not trained on."""
    _real_iad(tmp_path, noisy=2)
    dataset = find_dataset(tmp_path)
    assert len(dataset.train) == 4
    assert "Left out: 2 defective images of the training part" in dataset.description


def test_several_sets_of_json(tmp_path: Path) -> None:
    """Of several protocols the plain one counts; without it the choice is the user's."""
    _real_iad(tmp_path)
    _real_iad(tmp_path, noisy=1, jsons="realiad_jsons_fuiad_0.1")
    assert "Left out" not in find_dataset(tmp_path).description
    (tmp_path / "realiad_jsons").rename(tmp_path / "realiad_jsons_sv")
    (tmp_path / "realiad_jsons_sv/realiad_jsons").rename(tmp_path / "realiad_jsons_sv/realiad_jsons_sv")
    with pytest.raises(DataError, match="2 sets of JSON files"):
        find_dataset(tmp_path)


def test_missing_images(tmp_path: Path) -> None:
    """Missing images are counted, and the first is named."""
    _real_iad(tmp_path)
    next(tmp_path.rglob("*0004_OK*.jpg")).unlink()
    with pytest.raises(DataError, match=r"1 of the 10 files .* are missing, the first: .*0004_OK"):
        find_dataset(tmp_path)


def test_without_its_json_the_folders_decide(tmp_path: Path) -> None:
    """A class without the JSON files is read as folders OK and NG, with the masks beside the images."""
    _real_iad(tmp_path)
    dataset = find_dataset(
        (tmp_path / "realiad_256" / "audiojack").rename(tmp_path.parent / f"{tmp_path.name}-audiojack")
    )
    assert (len(dataset.train), sorted(sample.defect for sample in dataset.test)) == (6, ["AK", "HS"])
    assert all(sample.mask for sample in dataset.test)
