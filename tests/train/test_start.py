"""The closed-form start, against direct computations."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgead.errors import TrainingError
from edgead.flows.linear import ActNorm, PositionLinear
from edgead.models.scoring import ScoreHead
from edgead.train.features import FeatureStore
from edgead.train.start import Indices, fit_head, fit_start, resemblance, whitened_arrays

from ..tiny import CPU, make_images, make_model, store_of

N = 90
LABELS = np.zeros(90, np.int64)
PARTS = Indices(tuple(range(70)), tuple(range(70, 80)), tuple(range(80, 90)))


def test_the_start_whitens_each_position(tmp_path: Path) -> None:
    """After the start, the good images have mean 0 and covariance I at every position of the level."""
    model = make_model(("16:6",))
    features = np.random.default_rng(0).normal(size=(N, 48, 4, 4)) + np.arange(16).reshape(4, 4)
    store = FeatureStore({"16": features.astype(np.float16)}, CPU)
    starts = fit_start(model, store, PARTS, amounts=(0.0,), ridge=1e-6)
    assert [start.shrinkage for start in starts] == [0.0]
    (array,) = whitened_arrays(model, store, PARTS.fit + PARTS.early_stop, memory_limit=10**9, folder=tmp_path)
    columns = array.astype(np.float64).reshape(80, 6, -1)
    for position in range(columns.shape[2]):
        z = columns[:, :, position]
        np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.02)
        np.testing.assert_allclose(z.T @ z / 80, np.eye(6), atol=0.05)


def test_levels_without_positions_start_standardised() -> None:
    """Without the per-position layer each channel starts with mean 0 and mean square 1."""
    model = make_model(("16:6", "8"), positions=False)
    store = store_of(model, make_images(N))
    fit_start(model, store, PARTS, amounts=(0.0, 0.5), ridge=0.01)
    for level in model.levels:
        assert isinstance(level.start, ActNorm)
        with torch.no_grad():
            z = level.whitened(store.batch(PARTS.fit)).transpose(0, 1).flatten(1)
        torch.testing.assert_close(z.mean(dim=1), torch.zeros(len(z)), atol=1e-3, rtol=0)
        live = z.square().mean(dim=1) > 0.5
        assert int(live.sum()) >= len(z) // 2
        torch.testing.assert_close(z.square().mean(dim=1)[live], torch.ones(int(live.sum())), atol=1e-3, rtol=0)


def test_the_shrinkage_with_the_best_pseudo_defect_auroc_is_taken() -> None:
    """The candidate with the largest AUROC is set, the largest amount on a tie."""
    model = make_model(("8+16:12",))
    images = make_images(N)
    images[80:, 20:30, 20:30] = 255 - images[80:, 20:30, 20:30]
    (start,) = fit_start(model, store_of(model, images), PARTS, amounts=(0.0, 0.3, 1.0), ridge=0.01)
    assert set(start.pseudo_auroc) == {0.0, 0.3, 1.0}
    assert start.pseudo_auroc[start.shrinkage] == max(start.pseudo_auroc.values())
    assert max(start.pseudo_auroc.values()) > 0.8
    obvious, other = images.copy(), make_model(("8+16:12",))
    obvious[80:] = 255 * (make_images(10) > 127)
    (tied,) = fit_start(other, store_of(other, obvious), PARTS, amounts=(0.3, 1.0, 0.5), ridge=0.01)
    assert set(tied.pseudo_auroc.values()) == {1.0}
    assert tied.shrinkage == 1.0
    again = make_model(("8+16:12",))
    fit_start(again, store_of(again, images), PARTS, amounts=(start.shrinkage,), ridge=0.01)
    for a, b in zip(model.levels, again.levels, strict=True):
        assert isinstance(a.start, PositionLinear)
        assert isinstance(b.start, PositionLinear)
        assert torch.equal(a.start.weight, b.start.weight)


def test_images_without_any_variation_are_an_error() -> None:
    """Identical good images end in a TrainingError that says so, not in a linear-algebra error."""
    model = make_model(("16",))
    images = np.repeat(make_images(1), N, axis=0)
    store = store_of(model, images)
    with pytest.raises(TrainingError, match="no variation"):
        fit_start(model, store, PARTS, amounts=(0.0,), ridge=0.01)


def test_features_that_are_not_finite_are_an_error() -> None:
    """An overflow of float16 features ends in a TrainingError too."""
    model = make_model(("16:6",))
    store = store_of(model, make_images(N))
    store.arrays["16"][3] = np.inf
    broken = FeatureStore(store.arrays, CPU)
    with pytest.raises(TrainingError):
        fit_start(model, broken, PARTS, amounts=(0.0,), ridge=0.01)


def test_the_head_standardises_the_good_images(tmp_path: Path) -> None:
    """After `fit_head` unseen good images have maps of mean 0 and deviation about 1."""
    model = make_model(("16:6",), mix="permutation")
    store = store_of(model, make_images(N))
    fit_start(model, store, PARTS, amounts=(0.2,), ridge=0.01)
    rows = range(N)
    arrays = whitened_arrays(model, store, rows, memory_limit=10**9, folder=tmp_path)
    fit_head(model, arrays, LABELS, PARTS)
    with torch.no_grad():
        latents = model.latents([torch.from_numpy(arrays[0][70:80]).float()])
        anomaly_map, _ = model.head(model.statistics(latents))
    assert abs(float(anomaly_map.mean())) < 0.2
    assert 0.5 < float(anomaly_map.std()) < 2.0


def test_fitted_maps_are_brought_to_the_level_of_the_others_first() -> None:
    """Fitted images, whose maps are lower, are scaled to the mean of the early-stopping ones before both count."""
    model = make_model(("16:6",), blocks=0)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(80, 6, 4, 4)).astype(np.float16)]
    arrays[0][70:] *= 2
    fit_head(model, arrays, LABELS, Indices(tuple(range(70)), tuple(range(70, 80)), ()))
    unseen = np.square(arrays[0][70:].astype(np.float32)).mean()
    assert float(model.head.get_buffer("mean_0").mean()) == pytest.approx(float(unseen), rel=1e-2)


def test_standardisation_is_the_smoothed_formula() -> None:
    """Mean and deviation per position, blurred over the neighbours, by a direct computation."""
    maps = torch.rand(12, 5, 7) + torch.linspace(0, 3, 7)
    head = ScoreHead([(5, 7)], [3.0], 0.1)
    head.standardise(0, maps)
    values = maps.double().numpy()

    def smooth(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE)

    np.testing.assert_allclose(head.mean_0, smooth(values.mean(0)), rtol=1e-5)
    np.testing.assert_allclose(head.gain_0, 3.0 / smooth(values.std(0)), rtol=1e-5)


def test_a_constant_map_does_not_divide_by_zero() -> None:
    """Maps without any spread give a finite gain."""
    head = ScoreHead([(3, 3)], [1.0], 0.1)
    head.standardise(0, torch.ones(4, 3, 3))
    assert bool(torch.isfinite(head([torch.ones(1, 3, 3)])[0]).all())


def test_started_arrays_are_the_levels_own_output(tmp_path: Path) -> None:
    """Arrays in memory and on disk hold `level.whitened` of each row, in float16, in the order of the rows."""
    model = make_model(("16:6", "8:4"))
    store = store_of(model, make_images(N))
    fit_start(model, store, PARTS, amounts=(0.2,), ridge=0.01)
    rows = [5, 80, 3, *range(40)]
    memory = whitened_arrays(model, store, rows, memory_limit=10**9, folder=tmp_path)
    disk = whitened_arrays(model, store, rows, memory_limit=0, folder=tmp_path)
    for level, a, b in zip(model.levels, memory, disk, strict=True):
        np.testing.assert_array_equal(a, b)
        with torch.no_grad():
            expected = level.whitened(store.batch(rows)).numpy()
        np.testing.assert_allclose(a, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("shared", "alike"), [(0.0, False), (1.0, True)])
def test_resemblance_tells_photographs_of_the_same_part(shared: float, alike: bool) -> None:
    """Images that share most of their whitened features with a fitted one have a cosine of 0.5; others stay under 0.2."""
    rng = np.random.default_rng(0)
    fitted = rng.normal(size=(45, 20, 8, 8))
    unseen = shared * fitted[:10] + rng.normal(size=(10, 20, 8, 8))
    arrays = [np.concatenate([fitted, unseen]).astype(np.float16)]
    found = resemblance(arrays, Indices(tuple(range(45)), tuple(range(45, 55)), ()))
    assert (found > 0.5) is alike
    assert alike or found < 0.2
    cosines = [
        max(float(np.dot(u.ravel(), f.ravel()) / np.linalg.norm(u) / np.linalg.norm(f)) for f in fitted) for u in unseen
    ]
    assert found == pytest.approx(np.sort(cosines)[4], abs=5e-3)
