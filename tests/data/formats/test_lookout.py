"""Manifests of Lookout for Vision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.data.layouts import find_dataset
from edgead.data.masks import read_mask
from edgead.errors import DataError

from ..pictures import SIZE, write, write_photo

COLOURS = {
    "0": {"class-name": "BACKGROUND", "hex-color": "#ffffff", "confidence": 0.0},
    "1": {"class-name": "cracked", "hex-color": "#2ca02c", "confidence": 0.0},
}


def _line(image: str, label: str, *, mask: str | None = None, job: str = "anomaly-label") -> dict[str, Any]:
    line: dict[str, Any] = {
        "source-ref": f"s3://bucket/dataset/{image}",
        job: int(label != "normal"),
        f"{job}-metadata": {
            "class-name": label, "confidence": 1, "human-annotated": "yes", "type": "groundtruth/image-classification",
        },
    }  # fmt: skip
    if mask is not None:
        line["anomaly-mask-ref"] = f"s3://bucket/dataset/{mask}"
        line["anomaly-mask-ref-metadata"] = {"internal-color-map": COLOURS, "type": "groundtruth/semantic-segmentation"}
    return line


def _manifest(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")


def _mask(path: Path) -> Path:
    image = np.full((*SIZE, 3), 255, np.uint8)
    image[4:12, 6:20] = (44, 160, 44)
    return write(path, image)


def test_parts_and_masks(tmp_path: Path) -> None:
    """The manifests of training and test give labels and masks; anomalies among the training images are left out."""
    for part in ("train", "test"):
        for name in ("normal-1", "normal-2", "anomaly-1"):
            write_photo(tmp_path / f"{part}-images" / f"{name}.jpg")
        _mask(tmp_path / f"{part}-masks" / "anomaly-1.png")
        normal = [_line(f"{part}-images/normal-{n}.jpg", "normal") for n in (1, 2)]
        bad = _line(f"{part}-images/anomaly-1.jpg", "anomaly", mask=f"{part}-masks/anomaly-1.png")
        _manifest(tmp_path / "manifests" / f"{part}.manifest", [*normal, bad])
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, len(dataset.train)) == ("Lookout for Vision manifest", 2)
    assert [(sample.name, sample.defect) for sample in dataset.test] == [
        ("test-images/anomaly-1.jpg", "cracked"), ("test-images/normal-1.jpg", "good"), ("test-images/normal-2.jpg", "good"),
    ]  # fmt: skip
    mask = dataset.test[0].mask
    assert mask is not None
    assert read_mask(mask, SIZE).sum() == 8 * 14
    assert "Left out: 1 defective images of the training part" in dataset.description


@pytest.mark.parametrize("job", ["anomaly-label", "cookie-classification"])
@pytest.mark.parametrize("suffix", [".manifest", ".jsonl", ".json", ""])
def test_one_manifest(tmp_path: Path, job: str, suffix: str) -> None:
    """One manifest, whatever its suffix and the name of its job: good images are for training, and all for an evaluation."""
    for name in ("a", "b", "c"):
        write_photo(tmp_path / f"{name}.png")
    lines = [_line("a.png", "normal", job=job), _line("b.png", "normal", job=job), _line("c.png", "anomaly", job=job)]
    _manifest(tmp_path / f"output{suffix}", lines)
    dataset = find_dataset(tmp_path)
    assert ([s.name for s in dataset.train], [s.name for s in dataset.test]) == (["a.png", "b.png"], ["c.png"])
    assert len(find_dataset(tmp_path, need_train=False).test) == 3


def test_images_that_are_not_there(tmp_path: Path) -> None:
    """Missing images are counted; if all are missing, that is an error."""
    write_photo(tmp_path / "a.png")
    _manifest(tmp_path / "x.manifest", [_line("a.png", "normal"), _line("b.png", "normal")])
    assert "1 images of the manifests are not in the folder, the first: s3://bucket/dataset/b.png." in (
        find_dataset(tmp_path).description
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="None of the 2 images of the manifests"):
        find_dataset(tmp_path)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([{"source-ref": "s3://b/a.png"}], "no label says whether"),
        (
            [_line("a.png", "normal"), _line("a.png", "anomaly")],
            r"line 2: .*a\.png is an anomaly here and normal in a line before",
        ),
        ([_line("a.png", "normal"), {"x": 1}], "there is no source-ref"),
    ],
)
def test_damaged_manifests(tmp_path: Path, lines: list[dict[str, Any]], why: str) -> None:
    """A line without a label, a contradiction and a line of something else are errors."""
    write_photo(tmp_path / "a.png")
    _manifest(tmp_path / "x.manifest", lines)
    with pytest.raises(DataError, match=why):
        find_dataset(tmp_path)
