"""Submission to the MVTec AD 2 benchmark, on a miniature."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import edgead
from edgead.commands.train import TrainResult
from edgead.data.tiff import read_directory
from edgead.errors import DataError
from tools.mvtec_ad2 import tiff_from_map, write_submission


def _read(content: bytes) -> NDArray[np.float16]:
    directory = read_directory(content)
    assert directory is not None
    tags = {tag: directory.values(content, tag)[0] for tag in (256, 257, 258, 259, 273, 277, 278, 279, 339)}
    assert (tags[258], tags[259], tags[277], tags[278], tags[339]) == (16, 8, 1, tags[257], 3)
    strip = zlib.decompress(content[tags[273] : tags[273] + tags[279]])
    return np.frombuffer(strip, "<f2").reshape(tags[257], tags[256])


def test_a_map_is_kept_as_16_bit_floats() -> None:
    """Values come back as the nearest 16-bit floats; what is too large for them stays finite."""
    anomaly_map = np.array([[0.1, -3.0, 1e6], [7.25, 1e-3, -1e6]], np.float32)
    found = _read(tiff_from_map(anomaly_map))
    assert found.tolist() == np.clip(anomaly_map, -65504, 65504).astype(np.float16).tolist()


def test_the_folders_are_those_of_the_benchmark(tiny_result: TrainResult, tiny_data: Path, tmp_path: Path) -> None:
    """Each private image has a float map and a mask of 0 and 255 at its size, under its object, split and name."""
    files = sorted((tiny_data / "test").rglob("*.png"))[:4]
    for split, name in (("test_private", "regular"), ("test_private_mixed", "mixed")):
        (tmp_path / "can" / split).mkdir(parents=True)
        for i, file in enumerate(files[:2] if name == "mixed" else files):
            shutil.copy(file, tmp_path / "can" / split / f"{i:03d}_{name}.png")
    out = tmp_path / "submission"
    with edgead.load(tiny_result.bundle.path, threads=1, false_alarm_rate=0.4) as model:
        assert write_submission(model, tmp_path / "can", out) == 6
        results = [model.predict(model.read_image(file)) for file in files]
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == sorted(
        f"{folder}/can/{split}/{i:03d}_{name}.{suffix}"
        for folder, suffix in (("anomaly_images", "tiff"), ("anomaly_images_thresholded", "png"))
        for split, name, n in (("test_private", "regular", 4), ("test_private_mixed", "mixed", 2))
        for i in range(n)
    )
    for i, result in enumerate(results):
        name = f"can/test_private/{i:03d}_regular"
        values = _read((out / "anomaly_images" / f"{name}.tiff").read_bytes())
        np.testing.assert_allclose(values, result.anomaly_map, rtol=1e-3, atol=1e-3)
        mask = cv2.imread(str(out / "anomaly_images_thresholded" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, result.mask * np.uint8(255))


def test_a_folder_without_the_split_is_named(tiny_result: TrainResult, tmp_path: Path) -> None:
    """A wrong folder is an error before anything is written."""
    (tmp_path / "can" / "test_private").mkdir(parents=True)
    with (
        edgead.load(tiny_result.bundle.path, threads=1) as model,
        pytest.raises(DataError, match="test_private has no images"),
    ):
        write_submission(model, tmp_path / "can", tmp_path / "out")
    assert not (tmp_path / "out").exists()
