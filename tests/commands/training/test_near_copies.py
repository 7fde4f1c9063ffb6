"""Re-encoded and resized images do not count as independent ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.commands.train import TrainResult, train
from edgead.commands.training.near_copies import independent_images
from edgead.data.copies import are_near_copies
from edgead.data.dataset import Sample
from edgead.data.split import Split
from edgead.imaging import Image, resize
from edgead.manifest import POOLED
from tests.notes import Notes
from tests.tiny import make_images
from tests.tiny_run import SIDE, tiny_config


def jpeg(image: Image, quality: int) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def stored_at(image: Image, factor: float) -> Image:
    """Input of an image that was stored at another size."""
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return resize(cv2.resize(image, None, fx=factor, fy=factor, interpolation=way), (SIDE, SIDE))


@pytest.fixture
def parts(tiny_data: Path) -> list[Image]:
    """Two parts of one kind."""
    return [cv2.imread(str(tiny_data / "train" / "good" / f"00{index}.png")) for index in range(2)]


@pytest.mark.parametrize("quality", [30, 50, 80, 95])
def test_encodings_of_one_picture_are_near_copies(quality: int, parts: list[Image]) -> None:
    """A JPEG of any usual quality is a near-copy of its original, and not of another part."""
    first, second = parts
    assert are_near_copies(first, jpeg(first, quality))
    assert not are_near_copies(first, jpeg(second, quality))


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.3, 2.0])
def test_sizes_of_one_picture_are_near_copies(factor: float, parts: list[Image]) -> None:
    """A picture that was stored at another size is a near-copy."""
    first, second = (cv2.resize(part, (2 * SIDE, 2 * SIDE)) for part in parts)
    assert are_near_copies(stored_at(first, 1.0), stored_at(first, factor))
    assert not are_near_copies(stored_at(first, 1.0), stored_at(second, factor))


def test_smooth_parts_of_one_lot_are_no_near_copies() -> None:
    """Two parts that differ by less than 2 grey levels count twice if re-encoding would change a picture less than that."""
    y, x = np.mgrid[0:320, 0:320]
    first = np.repeat((120 + 40 * np.sin(x / 40) + 10 * np.cos(y / 30)).astype(np.uint8)[:, :, None], 3, axis=2)
    second = first.copy()
    second[25:250, 175:190] -= 10
    one, other = (cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(float) for image in (first, second))
    assert 1.0 < np.std(one - other) < 2.0
    assert not are_near_copies(first, second)
    assert are_near_copies(first, jpeg(first, 20))


def samples_of(*names: str) -> tuple[Sample, ...]:
    return tuple(Sample(Path(name), name, "part") for name in names)


def test_only_images_alike_in_features_and_pixels_are_left_out() -> None:
    """A threshold image is left out for a near-copy among all other images; similar features or pixels alone do not do it."""
    pictures = dict(zip("abcdefghi", make_images(9), strict=True))
    pictures["x"] = jpeg(pictures["a"], 95)  # of an image to fit
    pictures["y"] = jpeg(pictures["e"], 95)  # of an earlier threshold image
    pictures["z"] = jpeg(pictures["b"], 95)  # alike in pixels alone, as other parts before a fixed camera are
    random = np.random.default_rng(0)
    features = {name: random.normal(size=(4, 5, 5)).astype(np.float16) for name in pictures}
    features["x"], features["y"] = features["a"] + np.float16(0.1), features["e"]
    features["f"] = features["a"]  # alike in features alone, as parts of one lot are
    split = Split(samples_of("a", "b", "c"), samples_of("d"), samples_of(*"efghixyz"))

    def rows(*names: str) -> NDArray[np.float16]:
        return np.stack([features[name] for name in names])

    own = rows(*"efghixyz").reshape(8, -1)
    found = independent_images(split, lambda sample: pictures[sample.name], own, [rows(*"abcd")])
    assert [sample.name for sample in found.kept] == [*"efghiz"]
    assert [(copy.name, original.name) for copy, original in found.copies] == [("x", "a"), ("y", "e")]
    assert "2 of 8 images" in " ".join(found.notes())
    assert not found.too_few


def test_a_threshold_keeps_its_smallest_number() -> None:
    """With fewer than five independent images, near-copies make up the number, and the user is warned."""
    picture = make_images(1)[0]
    split = Split(samples_of("a"), samples_of("b"), samples_of(*"cdefgh"))
    same = np.ones((6, 8), np.float16)
    found = independent_images(split, lambda _: picture, same, [same[:2]])
    assert len(found.kept) == 5
    assert found.too_few == {"part": 0}
    assert "has 0 independent images" in " ".join(found.notes())


def test_training_states_the_independent_images(tiny_data: Path, tmp_path: Path) -> None:
    """Of pictures stored twice, the threshold counts one each: the stated number, the scores and the promise follow."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data / "train" / "good", data)
    for path in sorted(data.iterdir()):
        image = cv2.imread(str(path))
        assert cv2.imwrite(str(data / f"{path.stem}-again.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    notes = Notes()
    config = tiny_config(data, train__epochs=0, data__threshold_fraction=0.3, train__false_alarm_rate=0.049)
    result = train(config, notes, out=tmp_path / "run", runs=tmp_path, resume=False)
    record = result.bundle.manifest.thresholds[POOLED]
    images = result.bundle.manifest.provenance.n_images
    assert 24 - images["threshold"] == images["left_out"] > 3
    assert record.threshold.n_images == len(record.scores) == images["threshold"]
    assert not record.threshold.certified, "24 images would certify this rate"
    assert any(f"{images['threshold']} independent ones remain" in text for text in notes.texts)
    held_out = result.bundle.held_out()
    assert held_out is not None
    assert len(held_out[0]) == images["threshold"], "engines of lower precision take their thresholds from these"


def test_distinct_parts_are_all_independent(tiny_result: TrainResult) -> None:
    """Parts that differ are all kept, though they lie alike."""
    images = tiny_result.bundle.manifest.provenance.n_images
    assert (images["threshold"], images["left_out"]) == (5, 0)
