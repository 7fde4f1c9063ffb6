"""Synthetic parts: reproducible, with exact masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.data.layouts import find_dataset
from edgead.data.reader import read_image, read_mask
from edgead.data.synthetic.make import make_part, write_dataset
from edgead.data.synthetic.parts import PARTS

CASES = [(part, defect) for part, kind in PARTS.items() for defect in kind.defects]
SMALL = (96, 96)


def test_registry() -> None:
    """There are at least four parts with at least five defects each, and their names sort."""
    assert len(PARTS) >= 4
    assert all(len(kind.defects) >= 5 and list(kind.defects) == sorted(kind.defects) for kind in PARTS.values())


@pytest.mark.parametrize(("part", "defect"), CASES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_masks_are_exact(part: str, defect: str, seed: int) -> None:
    """Outside the mask the defective image equals the good one of the same seed; inside, the difference is visible."""
    good, empty = make_part(part, np.random.default_rng(seed), SMALL)
    image, mask = make_part(part, np.random.default_rng(seed), SMALL, defect)
    assert not empty.any()
    np.testing.assert_array_equal(image[~mask], good[~mask])
    assert 5 <= mask.sum() < 0.25 * mask.size
    assert np.abs(image[mask].astype(int) - good[mask]).max(axis=1).mean() > 8


@pytest.mark.parametrize("part", PARTS)
def test_the_generator_is_seeded(part: str) -> None:
    """The same seed gives the same image, another seed another one."""
    one, again, other = (make_part(part, np.random.default_rng(seed), SMALL)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one.astype(int) - other).mean() > 1


@pytest.mark.parametrize("part", PARTS)
def test_good_parts_resemble_each_other(part: str) -> None:
    """Good parts vary in texture and pose, little in brightness."""
    means = [make_part(part, np.random.default_rng(seed), SMALL)[0].mean() for seed in range(8)]
    assert np.std(means) < 0.08 * np.mean(means)


@pytest.mark.parametrize("size", [(48, 48), (64, 120), (121, 75)])
@pytest.mark.parametrize("part", PARTS)
def test_any_size(part: str, size: tuple[int, int]) -> None:
    """Images have the requested size (height, width), 8-bit RGB, with a mask of the same size."""
    for defect in PARTS[part].defects:
        image, mask = make_part(part, np.random.default_rng(5), size, defect)
        assert (image.shape, mask.shape) == ((*size, 3), size)
        assert (image.dtype.name, mask.dtype.name) == ("uint8", "bool")
        assert mask.any()


def test_unknown_names_are_refused() -> None:
    """An unknown part or defect is refused with a list of the known ones."""
    with pytest.raises(ValueError, match="part must be one of disc"):
        make_part("gear", np.random.default_rng(0))
    with pytest.raises(ValueError, match="defect of disc must be one of crack"):
        make_part("disc", np.random.default_rng(0), defect="hole")


def test_a_written_data_set_is_read_back(tmp_path: Path) -> None:
    """The data set on disk has the layout of MVTec AD, all masks, and the pixels that were generated."""
    calls: list[tuple[int, int]] = []
    root = tmp_path / "disc"
    write_dataset(
        root, "disc", n_train=3, n_test_good=2, n_test_per_defect=1, seed=4, size=SMALL,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    dataset = find_dataset(root)
    n_defects = len(PARTS["disc"].defects)
    assert (dataset.layout, len(dataset.train), len(dataset.test)) == ("MVTec AD", 3, 2 + n_defects)
    assert calls[-1] == (5 + n_defects, 5 + n_defects)
    sample = next(sample for sample in dataset.test if sample.defect == "stain")
    assert sample.mask_path is not None
    number = 2 + PARTS["disc"].defects.index("stain")
    image, mask = make_part("disc", np.random.default_rng([4, number, 0]), SMALL, "stain")
    np.testing.assert_array_equal(read_image(sample.path), image)
    np.testing.assert_array_equal(read_mask(sample.mask_path, SMALL), mask)


def test_more_images_leave_the_first_as_they_are(tmp_path: Path) -> None:
    """An image depends only on the seed and its own number, so data sets can be extended."""
    for name, count in (("few", 1), ("many", 3)):
        write_dataset(tmp_path / name, "cap", n_train=count, n_test_good=1, n_test_per_defect=count, seed=1, size=SMALL)
    few = {path.relative_to(tmp_path / "few"): path.read_bytes() for path in (tmp_path / "few").rglob("*.png")}
    assert len(few) == 2 + 2 * len(PARTS["cap"].defects)
    assert all((tmp_path / "many" / name).read_bytes() == content for name, content in few.items())
