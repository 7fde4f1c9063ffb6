"""Fit of the composition of good images: promise, left-out distances, and what it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgead.evaluation.threshold import threshold_from_scores
from edgead.models.composition import Composition
from edgead.train import composition_fit
from edgead.train.composition_fit import Offsets, fit_composition
from edgead.train.cross_fit import FOLDS, MOST_GROUPS
from edgead.train.left_out import LeftOutScores, Rows

from .test_left_out import DoubleStore

KINDS, CHANNELS, SIDE, WORDS = 5, 6, 6, 8
COUNTS = (20, 6, 4, 3, 3)


def pictures(count: int, seed: int, counts: tuple[int, ...] = COUNTS) -> Tensor:
    """Features of things of five kinds in fixed numbers, each at a place of its own, with noise `(count, C, h, w)`."""
    look = torch.randn(KINDS, CHANNELS, generator=torch.Generator().manual_seed(9), dtype=torch.float64) * 3.0
    random = torch.Generator().manual_seed(seed)
    kinds = torch.tensor([kind for kind, number in enumerate(counts) for _ in range(number)])
    placed = torch.stack([kinds[torch.randperm(SIDE * SIDE, generator=random)] for _ in range(count)])
    features = look[placed] + 0.2 * torch.randn(count, SIDE * SIDE, CHANNELS, generator=random, dtype=torch.float64)
    return features.permute(0, 2, 1).reshape(count, CHANNELS, SIDE, SIDE)


def rows_of(count: int) -> Rows:
    return Rows(tuple(range(count)), (count, count + 1), (0, 1), (0, 0, *range(2, count)))


def fitted(good: Tensor, scores: NDArray[np.float64]) -> tuple[Composition, Offsets, DoubleStore, Rows]:
    n = len(good)
    store, rows = DoubleStore(torch.cat([good, good[:2]])), rows_of(n)
    composition = Composition("16", CHANNELS, (SIDE, SIDE), WORDS).double()
    return composition, fit_composition(composition, store, rows, scores, promised_rate=0.02, seed=0), store, rows


@pytest.mark.parametrize("count", [MOST_GROUPS - 20, MOST_GROUPS + 100])
def test_missing_extra_and_swapped_things_are_found_and_good_images_keep_their_rate(count: int) -> None:
    """Where things lie at random, a wrong number of them raises an ordinary image to the threshold, and right ones rarely do."""
    scores = np.random.default_rng(0).normal(1.0, 0.1, count)
    composition, _, _, _ = fitted(pictures(count, 1), scores)
    # what lifts the median to the threshold
    height = threshold_from_scores(scores, max(0.02, 1.0 / (count + 1))).value - float(np.median(scores))

    def share(counts: tuple[int, ...], seed: int) -> float:
        return float((composition({"16": pictures(300, seed, counts)}) >= height).double().mean())

    assert share(COUNTS, 2) < 0.06
    assert share((21, 5, 4, 3, 3), 3) > 0.9
    assert share((19, 6, 4, 4, 3), 4) > 0.9
    assert share((20, 6, 4, 2, 4), 5) > 0.9


def test_an_image_takes_no_part_in_its_own_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group's distances are those under a Gaussian of the other images' shares, and so are those of its copies."""
    monkeypatch.setattr(composition_fit, "has_few_groups", lambda rows: False)
    good = pictures(60, 1)
    composition, offsets, store, _ = fitted(good, np.linspace(0.0, 1.0, 60))
    shares = composition.shares(store.batch(range(60))).numpy()
    start, gain = (float(composition.get_buffer(name)) for name in ("start", "gain"))
    alone = Composition("16", CHANNELS, (SIDE, SIDE), WORDS).double()
    for group in ([0, 1], [7]):
        composition_fit._fit_shares(alone, np.delete(shares, group, axis=0))
        far = alone.distance(torch.from_numpy(shares[group])).numpy()
        np.testing.assert_allclose(offsets.good[group], np.maximum(far - start, 0.0) * gain, rtol=1e-9, atol=1e-9)
        if group == [0, 1]:
            np.testing.assert_allclose(offsets.pseudo, offsets.good[group], rtol=1e-9, atol=1e-9)


def test_few_images_are_judged_by_words_of_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a hundred groups no constant has seen the image; the composition itself is the fit on all."""
    seen: list[set[int]] = []
    words = composition_fit._fit_words

    def watched(composition: Composition, store: DoubleStore, rows: tuple[int, ...], seed: int) -> None:
        seen.append(set(rows))
        words(composition, store, rows, seed)

    monkeypatch.setattr(composition_fit, "_fit_words", watched)
    fitted(pictures(30, 1), np.linspace(0.0, 1.0, 30))
    assert len(seen) == FOLDS + 1
    assert seen[-1] == set(range(30))
    # images 0 and 1 are one group, which is never split
    assert all(({0, 1} <= part) or not ({0, 1} & part) for part in seen)
    assert all(sum(image not in part for part in seen) == 1 for image in range(30))


def test_offsets_raise_maps_and_scores_of_every_share() -> None:
    """Left-out maps, scores and those of the copies rise by the offset of their image."""
    scores = LeftOutScores(torch.zeros(3, 2, 2), torch.zeros(2, 2, 2), {0.1: np.arange(3.0)}, {0.1: np.arange(2.0)})
    found = Offsets(np.array([1.0, 0.0, 2.0]), np.array([0.0, 4.0])).added_to(replace(scores))
    assert found.maps[:, 0, 0].tolist() == [1.0, 0.0, 2.0]
    assert found.pseudo_maps[:, 1, 1].tolist() == [0.0, 4.0]
    assert found.scores[0.1].tolist() == [1.0, 1.0, 4.0]
    assert found.pseudo[0.1].tolist() == [0.0, 5.0]
    assert scores.scores[0.1].tolist() == [0.0, 1.0, 2.0]
