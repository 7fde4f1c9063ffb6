"""The split is exact, disjoint and the same on every machine."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.data.dataset import Sample
from edgead.data.split import Split, split_good
from edgead.errors import DataError

FRACTIONS = st.floats(0.01, 0.49)


def _samples(count: int, class_name: str = "screw", root: str = "/data") -> list[Sample]:
    return [Sample(Path(root, f"{index}.png"), f"{index}.png", class_name) for index in range(count)]


def _names(split: Split) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sample.name for sample in part) for part in (split.fit, split.early_stop, split.threshold))


@given(count=st.integers(7, 300), early_stop=FRACTIONS, threshold=FRACTIONS, seed=st.integers(0, 5))
def test_parts_are_disjoint_complete_and_of_exact_size(
    count: int, early_stop: float, threshold: float, seed: int
) -> None:
    """Every image is in one part; the parts have the rounded sizes, at least 1, 1 and 5."""
    split = split_good(_samples(count), early_stop, threshold, seed)
    parts = (split.fit, split.early_stop, split.threshold)
    assert sorted(sample.name for part in parts for sample in part) == sorted(f"{index}.png" for index in range(count))
    n_threshold = min(max(5, round(count * threshold)), count - 2)
    n_early_stop = min(max(1, round(count * early_stop)), count - n_threshold - 1)
    assert [len(part) for part in parts] == [count - n_early_stop - n_threshold, n_early_stop, n_threshold]
    assert len(split.fit) >= 1


@given(order=st.randoms(use_true_random=False), count=st.integers(7, 60))
def test_order_folder_and_class_name_do_not_matter(order: random.Random, count: int) -> None:
    """The same names give the same split in any order, from any folder, under any name of that folder."""
    expected = _names(split_good(_samples(count), 0.1, 0.2))
    moved = _samples(count, class_name="data2", root="/elsewhere")
    order.shuffle(moved)
    assert _names(split_good(moved, 0.1, 0.2)) == expected


def test_the_split_never_changes_between_versions() -> None:
    """The split of ten names is pinned: a change would let old bundles be checked on their own training images."""
    split = split_good(_samples(10), 0.1, 0.5)
    assert _names(split)[1:] == (("9.png",), ("3.png", "4.png", "5.png", "6.png", "8.png"))


def test_seeds_give_other_splits() -> None:
    """Another seed gives another split."""
    assert len({_names(split_good(_samples(50), 0.1, 0.2, seed)) for seed in range(5)}) == 5


def test_classes_are_split_one_by_one() -> None:
    """Each class has its own share in each part."""
    split = split_good(_samples(100, "a") + _samples(30, "b"), 0.1, 0.2)
    counts = [
        [sum(s.class_name == name for s in part) for name in "ab"] for part in (split.early_stop, split.threshold)
    ]
    assert counts == [[10, 3], [20, 6]]


def test_six_images_cannot_be_split() -> None:
    """Fewer than seven images are refused with both counts."""
    with pytest.raises(DataError, match=r"6 different good images; at least 7"):
        split_good(_samples(6), 0.1, 0.2)
