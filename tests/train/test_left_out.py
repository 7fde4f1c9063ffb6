"""Leaving images out of a closed-form fit equals fitting without them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from edgead.evaluation.threshold import binomial_interval, certified_above, threshold_from_scores
from edgead.flows.linear import PositionLinear
from edgead.models.gaussian import PositionGaussians, fit_position_gaussians, inverse_factor
from edgead.models.level import Level, LevelSpec, nearest_norm
from edgead.models.scoring import ScoreHead
from edgead.train.centre_fits import fit_centres
from edgead.train.cross_fit import cross_fit
from edgead.train.features import FeatureStore
from edgead.train.left_out import (
    Energies,
    Rows,
    fit_positions,
    fitted_energies,
    gather_positions,
    standardise,
)

SIZE = (3, 4)
CHANNELS = 5
RIDGE = 0.02


def make_level(centres: int = 0) -> Level:
    return Level(LevelSpec.parse("16"), {"16": CHANNELS}, {"16": SIZE}, positions=not centres, centres=centres).double()


class DoubleStore(FeatureStore):
    """Features in float64, to compare fits exactly."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def batch(self, indices: object) -> dict[str, Tensor]:
        return {"16": self.features[torch.as_tensor(np.asarray(indices))]}


def make_features(count: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(CHANNELS, CHANNELS, generator=random, dtype=torch.float64)
    x = torch.randn(count, CHANNELS, *SIZE, generator=random, dtype=torch.float64)
    return torch.einsum("cd,ndhw->nchw", mix, x) + 3.0


def refitted(
    features: Tensor, others: list[int], x: Tensor, amount: float, pooled: Tensor, displacements: Tensor
) -> Tensor:
    """Energies of `x` under a second fit on the other images, with the covariance of all positions from all images."""
    fit = fit_position_gaussians(iter([features[others]]))
    own = PositionGaussians(fit.mean, fit.covariance, fit.count)
    ridge = RIDGE * max(1.0, CHANNELS / fit.count) * float(pooled.diagonal().mean())
    moved = (1.0 - amount) * displacements + amount * displacements.mean(dim=0)
    mixed = (1.0 - amount) * own.covariance + amount * pooled + moved + ridge * torch.eye(CHANNELS, dtype=torch.float64)
    layer = PositionLinear(inverse_factor(mixed), own.mean)
    return layer.whiten(x).square().mean(dim=1)


@given(
    st.integers(8, 14), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=14),
    st.booleans(),
)  # fmt: skip
def test_leaving_out_equals_a_second_fit(
    count: int, amount: float, seed: int, names: list[int], has_copies: bool
) -> None:
    """Left-out energies of images, groups of images and their copies are those of a fit without them, in float64."""
    features = make_features(count + 7, seed)
    # the first six images form groups, the others stand alone
    groups = tuple([names[i] % 3 for i in range(6)] + list(range(10, 10 + count - 6)))
    varied = tuple(range(count + 4, count + 7)) if has_copies else ()
    rows = Rows(
        tuple(range(count)),
        tuple(range(count, count + 4)),
        (0, 3, 6, 7),
        groups,
        varied,
        (1, 1, 7) if has_copies else (),
    )
    level, store = make_level(), DoubleStore(features)
    fit = gather_positions(level, store, rows, 0.4)
    offsets = (features[count + 4 : count + 7] - features[[1, 1, 7]]).flatten(2).permute(2, 0, 1)
    displacements = (0.4 / 3 if has_copies else 0.0) * offsets.transpose(1, 2) @ offsets
    found = fit_positions(level, store, rows, fit, amount=amount, ridge=RIDGE)
    pooled = fit.gaussians.covariance.mean(dim=0)
    for image in range(count):
        others = [i for i in range(count) if groups[i] != groups[image]]
        expected = refitted(features, others, features[[image]], amount, pooled, displacements)[0]
        torch.testing.assert_close(found.left_out[image], expected, rtol=1e-9, atol=1e-9)
    for copy, origin in enumerate(rows.origin):
        others = [i for i in range(count) if groups[i] != groups[origin]]
        expected = refitted(features, others, features[[count + copy]], amount, pooled, displacements)[0]
        torch.testing.assert_close(found.pseudo[copy], expected, rtol=1e-9, atol=1e-9)


def test_leaving_out_matters_most_with_few_images() -> None:
    """An image that was fitted has a lower energy than the same image left out, by as much as theory says."""
    features = make_features(12, 0)
    rows = Rows(tuple(range(12)), (), (), tuple(range(12)))
    level, store = make_level(), DoubleStore(features)
    found = fit_positions(level, store, rows, gather_positions(level, store, rows), amount=0.0, ridge=1e-9)
    fitted = fitted_energies(level, store, rows.good)
    assert (found.left_out > fitted).all()
    # for n images and C channels the fitted mean square is (n - 1) / n; left out it is far more
    assert float(fitted.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(found.left_out.mean()) > 2.0


def test_left_out_images_behave_like_unseen_ones() -> None:
    """Mean energies of left-out images and of images that no fit has seen agree; those of fitted ones do not."""
    ratios, fitted = [], []
    for seed in range(12):
        features = make_features(60, seed)
        rows = Rows(tuple(range(30)), tuple(range(30, 60)), tuple(range(30)), tuple(range(30)))
        level, store = make_level(), DoubleStore(features)
        found = fit_positions(level, store, rows, gather_positions(level, store, rows), amount=0.2, ridge=RIDGE)
        unseen = level.energy(level.whitened(store.batch(range(30, 60))))
        ratios.append(float(found.left_out.mean() / unseen.mean()))
        fitted.append(float(fitted_energies(level, store, rows.good).mean() / unseen.mean()))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)
    assert np.mean(fitted) < 0.9


def test_centres_without_an_image_are_those_of_the_others() -> None:
    """The energy of a left-out image is the distance to centres without its features; a centre of its own is not used."""
    random = torch.Generator().manual_seed(0)
    features = 0.1 * torch.randn(8, CHANNELS, *SIZE, generator=random, dtype=torch.float64)
    features[0] += 20.0  # one image far from all others gets centres of its own
    rows = Rows(tuple(range(8)), (), (), tuple(range(8)))
    level, store = make_level(centres=6), DoubleStore(features)
    found = fit_centres(level, store, rows, ridge=RIDGE, seed=0)
    assert float(fitted_energies(level, store, [0]).mean()) < 1.0
    assert float(found.left_out[0].mean()) > 20.0 * float(found.left_out[1:].mean())


def test_the_nearest_centre_gives_the_energy() -> None:
    """`nearest_norm` is the smallest mean squared offset over the centres."""
    random = torch.Generator().manual_seed(1)
    z = torch.randn(2, CHANNELS, *SIZE, generator=random)
    centres = torch.randn(7, CHANNELS, generator=random)
    offsets = z[:, None] - centres[None, :, :, None, None]
    expected = offsets.square().mean(dim=2).amin(dim=1)
    torch.testing.assert_close(nearest_norm(z, centres), expected, rtol=1e-5, atol=1e-6)
    assert nearest_norm(centres.T.reshape(1, CHANNELS, 7, 1), centres).abs().max() < 1e-5


def test_an_image_does_not_standardise_itself() -> None:
    """With few images an outlier scores by what the others vary, beyond (n - 1) / sqrt(n), the bound of its own deviation."""
    maps = torch.ones(6, 4, 4) + 0.01 * torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(2))
    maps[0] += 5.0
    head = ScoreHead([(4, 4)], [1.0], 0.1)
    found = standardise(head, [Energies(maps, maps[:2])], [0.1, 0.5])
    assert found.scores[0.1][0] > 50.0 > 5.0 / np.sqrt(6)
    assert set(found.scores) == {0.1, 0.5}
    assert found.pseudo[0.1].shape == (2,)
    # the finished head standardises by all six
    assert float(head([maps[:1]])[1]) < 3.0


def test_the_tiles_of_an_image_are_left_out_together() -> None:
    """Its score is the highest of its tiles, each standardised by the tiles of all other images."""
    maps = torch.randn(12, 4, 4, generator=torch.Generator().manual_seed(5)).abs()
    maps[3:6] += 2.0  # all three tiles of the second image
    head = ScoreHead([(4, 4)], [1.0], 0.1)
    found = standardise(head, [Energies(maps, maps[:1])], [0.1], tiles=3)
    others = torch.cat([maps[:3], maps[6:]])
    alone = ScoreHead([(4, 4)], [1.0], 0.1)
    alone.standardise(0, others)
    expected = alone([maps[3:6]])
    torch.testing.assert_close(found.maps[3:6], expected[0], rtol=1e-4, atol=1e-4)
    assert found.scores[0.1].shape == (4,)
    assert found.scores[0.1][1] == pytest.approx(float(expected[1].max()), rel=1e-4)


def scores_by_others(level: Level, head: ScoreHead, store: FeatureStore, rows: Rows) -> NDArray[np.float64]:
    """Left-out scores by folds, under fits on the other images alone."""

    def fit(others: Rows) -> list[Energies]:
        return [fit_positions(level, store, others, gather_positions(level, store, others), amount=0.2, ridge=RIDGE)]

    return cross_fit([level], head, store, rows, fit, [0.2]).scores[0.2]


@pytest.mark.parametrize(
    "way", ["positions", *(pytest.param(way, marks=pytest.mark.slow) for way in ("centres", "folds"))]
)
def test_thresholds_of_left_out_scores_keep_the_promise(way: str) -> None:
    """Over 200 draws of the good images, realised false-alarm rates are those of a certified threshold.

    Their mean is at most the promised rate, they exceed the 95 % quantile of the Beta(k, n + 1 - k) share that the k-th
    highest of n exchangeable scores has in 5 % of the draws, and with a confidence of 95 % they break the promise in 5 %.
    In-sample scores would promise 5 % and realise several times as much. Full conformal prediction, which adds each new
    image to the fit, keeps the rate for any distribution (Vovk et al., 2005); leaving out differs from it by one image.
    """
    rate, n, n_new, draws = 0.05, 59, 1000, 200
    realised, confident, naive = [], [], []
    for seed in range(draws):
        features = make_features(n + n_new, seed)
        rows = Rows(tuple(range(n)), (), (), tuple(range(n)))
        level, store, head = (
            make_level(3 if way == "centres" else 0),
            DoubleStore(features),
            ScoreHead([SIZE], [1.0], 0.2),
        )
        if way == "centres":
            energies = fit_centres(level, store, rows, ridge=RIDGE, seed=seed)
        else:
            energies = fit_positions(level, store, rows, gather_positions(level, store, rows), amount=0.2, ridge=RIDGE)
        scores = standardise(head.double(), [energies], [0.2]).scores[0.2]
        if way == "folds":
            scores = scores_by_others(level, head, store, rows)
        maps = fitted_energies(level, store, (*rows.good, *range(n, n + n_new)))
        own = head.pooled(head.standardised(0, maps)).numpy()
        fitted, new = own[:n], own[n:]
        threshold, safe = threshold_from_scores(scores, rate), threshold_from_scores(scores, rate, 0.95)
        assert threshold.certified
        assert safe.certified
        realised.append(float(np.mean(new > threshold.value)))
        confident.append(float(np.mean(new > safe.value)))
        naive.append(float(np.mean(new > threshold_from_scores(fitted, rate).value)))
    error = np.std(realised) / np.sqrt(draws)
    assert 0.5 * rate < np.mean(realised) < rate + 2.0 * error
    if way != "centres":  # few centres of many positions hardly follow a single image
        assert np.mean(naive) > 2.0 * rate
    # 5 % of 200 draws, and two standard deviations of that share
    often = 0.05 + 2.0 * np.sqrt(0.05 * 0.95 / draws)
    limit = binomial_interval(certified_above(n, rate) or 0, n, 0.9)[1]
    noise = 2.0 * np.sqrt(limit * (1.0 - limit) / n_new)  # of the rate that 200 new images show
    assert np.mean(np.array(realised) > limit + noise) < often
    assert np.mean(np.array(confident) > rate + 2.0 * np.sqrt(rate * (1.0 - rate) / n_new)) < often


@pytest.mark.parametrize("centres", [0, 1])
def test_directions_of_varied_copies_count_less(centres: int) -> None:
    """An offset that copies show raises the energy less the more weight they have; an offset across it, as much as before."""
    features = 0.3 * torch.randn(40, CHANNELS, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    moved = features[:10].clone()
    moved[:5, 0] += 3.0
    moved[5:, 0] -= 3.0
    probes = torch.zeros(2, CHANNELS, *SIZE, dtype=torch.float64)
    probes[0, 0], probes[1, 1] = 3.0, 3.0
    store = DoubleStore(torch.cat([features, moved, probes]))
    rows = Rows(tuple(range(40)), (), (), tuple(range(40)), tuple(range(40, 50)), tuple(range(10)))
    energies = []
    for weight in (0.0, 0.1, 1.0):
        level = make_level(centres=centres)
        if centres:
            fit_centres(level, store, rows, ridge=RIDGE, seed=0, variation=weight)
        else:
            fit_positions(level, store, rows, gather_positions(level, store, rows, weight), amount=0.5, ridge=RIDGE)
        energies.append(level.energy(level.whitened(store.batch([50, 51]))).mean(dim=(1, 2)))
    along, across = torch.stack(energies).T
    assert along[0] > 3 * along[1] > 3 * along[2]
    assert across.min() > 0.9 * across.max()


def test_centres_of_copies_leave_with_their_original() -> None:
    """A left-out image is not judged by centres of its own varied copy; those of another image's copy are used."""
    random = torch.Generator().manual_seed(0)
    features = 0.1 * torch.randn(9, CHANNELS, *SIZE, generator=random, dtype=torch.float64)
    features[0] += 20.0
    features[8] = features[0]  # a copy of an image far from all others
    store = DoubleStore(features)
    found = []
    for origin in (0, 1):
        rows = Rows(tuple(range(8)), (), (), tuple(range(8)), (8,), (origin,))
        found.append(fit_centres(make_level(centres=6), store, rows, ridge=RIDGE, seed=0, variation=1e-9).left_out[0])
    assert float(found[0].mean()) > 20.0 * float(found[1].mean())


def test_varied_copies_are_judged_by_a_fit_without_their_original() -> None:
    """Behind the pseudo-defective copies, in the same way, and the scores of both are told apart."""
    features = torch.randn(12, CHANNELS, *SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    store = DoubleStore(features)
    rows = Rows(tuple(range(8)), (8,), (3,), tuple(range(8)), (9, 10), (5, 0)).with_varied_judged()
    assert (rows.pseudo, rows.origin, rows.varied) == ((8, 9, 10), (3, 5, 0), (9, 10))
    level = make_level()
    found = fit_positions(level, store, rows, gather_positions(level, store, rows), amount=0.5, ridge=RIDGE)
    head = ScoreHead([SIZE], [1.0], 1.0)
    scores, varied = standardise(head, [found], [1.0]).split(1)
    swapped = Rows(tuple(range(8)), (9, 10, 8), (5, 0, 3), tuple(range(8)))
    expected = fit_positions(level, store, swapped, gather_positions(level, store, swapped), amount=0.5, ridge=RIDGE)
    (first, second), last = head([expected.pseudo])[1].split([2, 1])
    np.testing.assert_allclose(varied[1.0], [float(first), float(second)], rtol=1e-6)
    np.testing.assert_allclose(scores.pseudo[1.0], last.numpy(), rtol=1e-6)
    assert len(scores.pseudo_maps) == 1
