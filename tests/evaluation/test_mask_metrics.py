"""Metrics of marked pixels: SegF1, region recall, marked good images, against brute force."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgead.evaluation.evaluate import ScoredImage, evaluate
from edgead.evaluation.mask_metrics import MaskCounts
from edgead.prediction import Segmentation

SIZE = (7, 9)
MAPS = arrays(np.float32, SIZE, elements=st.integers(0, 4).map(float))
MASKS = arrays(np.bool_, SIZE)


def _segmentation(marked: NDArray[np.bool_]) -> Segmentation:
    return Segmentation(marked.astype(np.float32), 0.5)


@given(st.lists(st.tuples(MASKS, MASKS), min_size=1, max_size=4), st.lists(MASKS, max_size=3))
@settings(max_examples=40, deadline=None)
def test_counts_over_images_are_those_of_all_pixels_at_once(
    defective: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]], good: list[NDArray[np.bool_]]
) -> None:
    """SegF1 and IoU are those of all pixels of all images in one array; a region is hit by a single pixel."""
    defective = [(marked, mask) for marked, mask in defective if mask.any()]
    counts = MaskCounts()
    hits = []
    for marked, mask in defective:
        counts.add_defective(_segmentation(marked), mask)
        n, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        hits += [bool(marked[regions == i].any()) for i in range(1, n)]
    for marked in good:
        counts.add_good(_segmentation(marked), SIZE, counts_as_good=True)
    assert counts.good_marked == (sum(bool(marked.any()) for marked in good), len(good))
    if not defective:
        assert (counts.f1, counts.iou, counts.region_recall) == (None, None, None)
        return
    marked = np.stack([marked for marked, _ in defective] + good)
    mask = np.stack([mask for _, mask in defective] + [np.zeros(SIZE, bool)] * len(good))
    both = np.count_nonzero(marked & mask)
    precision, recall = both / max(1, np.count_nonzero(marked)), both / np.count_nonzero(mask)
    assert counts.f1 == pytest.approx(2 * precision * recall / (precision + recall) if both else 0.0)
    assert counts.iou == pytest.approx(both / np.count_nonzero(marked | mask))
    assert (counts.n_regions, counts.region_recall) == (len(hits), pytest.approx(np.mean(hits)))


@given(st.lists(st.tuples(MAPS, MASKS), min_size=1, max_size=4), MAPS)
@settings(max_examples=30, deadline=None)
def test_best_seg_f1_is_that_of_the_best_single_threshold(
    defective: list[tuple[NDArray[np.float32], NDArray[np.bool_]]], good: NDArray[np.float32]
) -> None:
    """No threshold of the map gives a higher SegF1 than `seg_f1_best`, and one gives it."""
    defective = [(values, mask) for values, mask in defective if mask.any()]
    if not defective:
        return

    def seg_f1(limit: float) -> tuple[float | None, float | None]:
        images = [
            ScoredImage(
                Path("x.png"), "nut", "dent" if mask is not None else "good", mask is not None, 1.0, values, SIZE, mask,
                segmentation=Segmentation(values, limit),
            )
            for values, mask in [*defective, (good, None)]
        ]  # fmt: skip
        mean = evaluate(images, {"nut": 0.5}, lambda mask, size: np.asarray(mask, np.bool_), engine="fake").mean
        return mean.seg_f1, mean.seg_f1_best

    found = [seg_f1(limit) for limit in (-0.5, 0.5, 1.5, 2.5, 3.5, 4.5)]
    assert len({best for _, best in found}) == 1
    best = found[0][1]
    assert best is not None
    assert best == pytest.approx(max(value for value, _ in found if value is not None))


def test_a_seen_good_image_is_no_evidence_of_marks() -> None:
    """A good image of the training adds to SegF1, as to the other metrics, but not to the marked good images."""
    everything = np.ones(SIZE, bool)
    counts = MaskCounts()
    counts.add_defective(_segmentation(everything), everything)
    counts.add_good(_segmentation(everything), SIZE, counts_as_good=False)
    assert (counts.f1, counts.good_marked) == (pytest.approx(2 / 3), (0, 0))


def test_an_unknown_segmentation_makes_only_what_needs_it_undefined() -> None:
    """Without the segmentation of a defective image SegF1 is undefined, the marked good images are not."""
    counts = MaskCounts()
    counts.add_defective(None, np.ones(SIZE, bool))
    counts.add_good(_segmentation(np.zeros(SIZE, bool)), SIZE, counts_as_good=True)
    assert (counts.f1, counts.iou, counts.region_recall, counts.good_marked) == (None, None, None, (0, 1))
    counts.add_good(None, SIZE, counts_as_good=True)
    assert counts.good_marked is None
