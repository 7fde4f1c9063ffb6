"""A scan continues without broken images as long as enough good ones remain."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from edgead.data.scan import data_digest, scan_images
from edgead.errors import DataError

WriteImages = Callable[..., list[Path]]


def _samples(root: Path, write_images: WriteImages, count: int) -> list[Sample]:
    write_images(root, *(f"{index}.png" for index in range(count)))
    return list(find_dataset(root).train)


def test_broken_images_are_left_out(tmp_path: Path, write_images: WriteImages) -> None:
    """Broken images are reported with their reason, in order, and the rest is kept in order."""
    samples = _samples(tmp_path, write_images, 8)
    samples[2].path.write_bytes(b"")
    samples[5].path.write_bytes(samples[5].path.read_bytes()[:-20])
    calls: list[tuple[int, int]] = []
    scan = scan_images(samples, min_good=6, progress=lambda done, total: calls.append((done, total)))
    assert scan.readable == tuple(sample for index, sample in enumerate(samples) if index not in (2, 5))
    assert [sample for sample, _ in scan.broken] == [samples[2], samples[5]]
    assert ["empty" in scan.broken[0][1], "truncated" in scan.broken[1][1]] == [True, True]
    assert calls == [(done, 8) for done in range(1, 9)]
    assert scan.sizes == {(20, 20): 6}
    assert scan.white_level == 255
    assert scan.digests[samples[0].path] == hashlib.sha256(samples[0].path.read_bytes()).hexdigest()


def test_too_few_remain(tmp_path: Path, write_images: WriteImages) -> None:
    """With too few good images left, the error counts them and names the first broken files."""
    samples = _samples(tmp_path, write_images, 9)
    for sample in samples[:7]:
        sample.path.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"has 2 readable good images; at least 3 are needed\. 7 cannot be read"
    ) as caught:
        scan_images(samples, min_good=3)
    assert caught.value.message.count("the file is empty") == 5
    assert "and 2 more" in caught.value.message


def test_one_image_is_not_enough(tmp_path: Path, write_images: WriteImages) -> None:
    """A folder with one image is refused with the number needed, and without mention of broken files."""
    with pytest.raises(DataError, match="has 1 readable good images; at least 20 are needed") as caught:
        scan_images(_samples(tmp_path, write_images, 1), min_good=20)
    assert "cannot be read" not in caught.value.message


def test_every_class_needs_enough(tmp_path: Path, write_images: WriteImages) -> None:
    """Every class needs enough images of its own, and defective ones do not count."""
    write_images(tmp_path / "a" / "train" / "good", *(f"{index}.png" for index in range(5)))
    write_images(tmp_path / "b" / "train" / "good", "0.png")
    write_images(tmp_path / "b" / "test" / "dent", *(f"{index}.png" for index in range(5)))
    dataset = find_dataset(tmp_path)
    with pytest.raises(DataError, match="Class b has 1 readable"):
        scan_images([*dataset.train, *dataset.test], min_good=2)


@pytest.mark.parametrize(("peak", "level"), [(900, 1023), (4000, 4095), (65535, 65535)])
def test_white_level_of_16_bit_images(tmp_path: Path, write_images: WriteImages, peak: int, level: int) -> None:
    """The white level covers the largest value of all 16-bit images; 8-bit images among them do not matter."""
    samples = _samples(tmp_path, write_images, 3)
    deep = np.full((20, 30), peak, np.uint16)
    samples[1].path.write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    scan = scan_images(samples, min_good=1)
    assert scan.white_level == level
    assert scan.sizes == {(20, 20): 2, (20, 30): 1}


def test_digest_depends_on_names_and_contents_only(tmp_path: Path, write_images: WriteImages) -> None:
    """The digest survives a move and another order, and changes with a byte or a name."""
    samples = _samples(tmp_path / "a", write_images, 4)
    digest = data_digest(samples)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    moved = list(find_dataset(tmp_path / "b").train)
    assert data_digest(moved[::-1]) == digest
    assert data_digest(samples, scan_images(samples, min_good=1).digests) == digest
    moved[0].path.rename(tmp_path / "b" / "z.png")
    assert data_digest(find_dataset(tmp_path / "b").train) != digest
    samples[3].path.write_bytes(samples[3].path.read_bytes() + b"\0")
    assert data_digest(samples) != digest


def test_one_image_of_each_digest_is_kept(tmp_path: Path, write_images: WriteImages) -> None:
    """Files with the same bytes count once, whatever their names, folders and order; the rest says whose copies they are."""
    samples = _samples(tmp_path, write_images, 6)
    for index, original in ((3, 1), (5, 1), (4, 0)):
        samples[index].path.write_bytes(samples[original].path.read_bytes())
    scan = scan_images(samples, min_good=3)
    assert scan.readable == (samples[0], samples[1], samples[2])
    assert scan.copies == ((samples[3], samples[1]), (samples[4], samples[0]), (samples[5], samples[1]))
    turned = scan_images(samples[::-1], min_good=3)
    assert set(turned.readable) == set(scan.readable)
    assert set(turned.copies) == set(scan.copies)


def test_copies_do_not_make_a_class_large_enough(tmp_path: Path, write_images: WriteImages) -> None:
    """The number of images that a class needs counts different ones, and the error counts the copies."""
    samples = _samples(tmp_path, write_images, 8)
    for sample in samples[4:]:
        sample.path.write_bytes(samples[0].path.read_bytes())
    with pytest.raises(
        DataError, match=r"has 4 readable good images that differ \(4 more are exact copies\); at least 5"
    ):
        scan_images(samples, min_good=5)
