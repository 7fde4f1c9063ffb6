"""Miniature copies of the layouts of seven benchmarks, from classes in the layout of MVTec AD."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .pictures import write


@dataclass(frozen=True)
class Photo:
    """One picture of a class in the layout of MVTec AD.

    Attributes:
        path: File.
        part: `train` or `test`.
        number: Number among the pictures of the same part and label.
        mask: Mask of a defect; None for a good picture.
    """

    path: Path
    part: str
    number: int
    mask: Path | None = None

    @property
    def is_good(self) -> bool:
        return self.mask is None


def photos(home: Path) -> list[Photo]:
    """Pictures of a class."""
    found = [Photo(path, part, n) for part in ("train", "test") for n, path in enumerate(_pngs(home / part / "good"))]
    defective = [path for path in _pngs(home / "test", "*/*.png") if path.parent.name != "good"]
    masks = [home / "ground_truth" / path.parent.name / f"{path.stem}_mask.png" for path in defective]
    return found + [Photo(path, "test", n, mask) for n, (path, mask) in enumerate(zip(defective, masks, strict=True))]


def write_miniature(benchmark: str, source: Path, root: Path) -> Path:
    """Arrange classes as a benchmark has them.

    Args:
        benchmark: Key of `LAYOUTS`.
        source: Folder of classes in the layout of MVTec AD.
        root: New folder, which is returned.
    """
    LAYOUTS[benchmark](source, root)
    return root


def _mvtec_ad(source: Path, root: Path) -> None:
    shutil.copytree(source, root)


def _btad(source: Path, root: Path) -> None:
    for number, home in enumerate(_classes(source), start=1):
        for one in photos(home):
            label = "ok" if one.is_good else "ko"
            _copy(one.path, root / f"{number:02d}" / one.part / label / f"{one.number:04d}.png")
            if one.mask:
                _copy(one.mask, root / f"{number:02d}" / "ground_truth" / label / f"{one.number:04d}.png")


def _mvtec_3d(source: Path, root: Path) -> None:
    for home in _classes(source):
        for one in photos(home):
            place = root / home.name / one.part / ("good" if one.is_good else "hole")
            _copy(one.path, place / "rgb" / f"{one.number:03d}.png")
            _copy(one.path, place / "xyz" / f"{one.number:03d}.tiff")
            mask = place / "gt" / f"{one.number:03d}.png"
            if one.mask:
                _copy(one.mask, mask)
            elif one.part == "test":  # good pictures have masks too, empty ones
                write(mask, np.zeros(cv2.imread(str(one.path)).shape[:2], np.uint8))


def _mvtec_loco(source: Path, root: Path) -> None:
    for home in _classes(source):
        for one in photos(home):
            kind = "good" if one.is_good else ("logical_anomalies", "structural_anomalies")[one.number % 2]
            _copy(one.path, root / home.name / one.part / kind / f"{one.number:03d}.png")
            if one.part == "train":
                _copy(one.path, root / home.name / "validation" / kind / f"{one.number:03d}.png")
            if one.mask:  # a folder for each picture, with a file for each of its defects
                _copy(one.mask, root / home.name / "ground_truth" / kind / f"{one.number:03d}" / "000.png")


def _mvtec_ad_2(source: Path, root: Path) -> None:
    for home in _classes(source):
        for one in photos(home):
            name = f"{one.number:03d}_{('regular', 'overexposed')[one.number % 2]}"
            part = "train" if one.part == "train" else "test_public"
            _copy(one.path, root / home.name / part / ("good" if one.is_good else "bad") / f"{name}.png")
            if one.mask:
                _copy(one.mask, root / home.name / part / "ground_truth" / "bad" / f"{name}_mask.png")
            if one.part == "train":
                _copy(one.path, root / home.name / "validation" / "good" / f"{name}.png")
            else:
                _copy(one.path, root / home.name / "test_private" / f"{one.number:03d}_regular.png")
                _copy(one.path, root / home.name / "test_private_mixed" / f"{one.number:03d}_mixed.png")


def _visa(source: Path, root: Path) -> None:
    rows = []
    for home in _classes(source):
        for one in photos(home):
            label = "Normal" if one.is_good else "Anomaly"
            # training and test pictures lie in one folder, and only the table tells them apart
            name = f"{one.number + (500 if one.part == 'test' else 0):04d}"
            image, mask = f"{home.name}/Data/Images/{label}/{name}.JPG", f"{home.name}/Data/Masks/Anomaly/{name}.png"
            _copy(one.path, root / image)
            if one.mask:
                _copy(one.mask, root / mask)
            words = "normal" if one.is_good else "anomaly"
            rows.append([home.name, one.part, words, image, mask if one.mask else ""])
    (root / "split_csv").mkdir()
    with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["object", "split", "label", "image", "mask"], *rows])


def _real_iad(source: Path, root: Path) -> None:
    (root / "realiad_jsons" / "realiad_jsons").mkdir(parents=True)
    for home in _classes(source):
        entries: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
        for one in photos(home):
            kind = "OK" if one.is_good else "HS"
            number = one.number + (50 if one.part == "test" else 0)
            folder = "OK" if one.is_good else f"NG/{kind}"
            stem = f"{folder}/S{number:04d}/{home.name}_{number:04d}_{folder.replace('/', '_')}_C1_20230921"
            _copy(one.path, root / "realiad_256" / home.name / f"{stem}.jpg")
            if one.mask:
                _copy(one.mask, root / "realiad_256" / home.name / f"{stem}.png")
            entries[one.part].append(
                {"category": home.name, "anomaly_class": kind, "image_path": f"{stem}.jpg", "mask_path": one.mask and f"{stem}.png"}
            )  # fmt: skip
        content = {"meta": {"normal_class": "OK", "prefix": f"{home.name}/"}, **entries}
        (root / "realiad_jsons" / "realiad_jsons" / f"{home.name}.json").write_text(json.dumps(content))


LAYOUTS: dict[str, Callable[[Path, Path], None]] = {
    "mvtec-ad": _mvtec_ad,
    "visa": _visa,
    "btad": _btad,
    "mvtec-3d": _mvtec_3d,
    "real-iad": _real_iad,
    "mvtec-loco": _mvtec_loco,
    "mvtec-ad-2": _mvtec_ad_2,
}


def _classes(source: Path) -> list[Path]:
    return sorted(path for path in source.iterdir() if path.is_dir())


def _pngs(folder: Path, pattern: str = "*.png") -> list[Path]:
    return sorted(folder.glob(pattern))


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)
