"""HGAD's head: the published map, and constants that behave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from edgead.flows.mixture import HierarchicalMixture
from edgead.models.hgad_head import HgadHead, LevelStatistics, blur_matrix, resize_matrix

from ..invariants import randomise

SIZES = [(32, 24), (8, 12)]
Latents = list[tuple[Tensor, Tensor]]


def make_head(
    classes: int = 3, sizes: Sequence[tuple[int, int]] = SIZES, channels: int = 8, **settings: Any
) -> HgadHead:
    """A head whose mixtures have no symmetries."""
    mixtures = [HierarchicalMixture(channels, classes, 4) for _ in sizes]
    for mixture in mixtures:
        randomise(mixture, 0.7)
    return HgadHead(mixtures, sizes, **settings).eval()


def make_latents(n: int, head: HgadHead, scale: float = 1.0) -> Latents:
    """Latents around the main centres, class by class, image by image."""
    latents = []
    for mixture, size in zip(head.mixtures, head.sizes, strict=True):
        centres = mixture.mu.detach()[torch.arange(n) % head.classes].view(n, -1, 1, 1)
        z = (centres + 0.5 * torch.randn(n, mixture.channels, *size)) * scale
        latents.append((z, 0.1 * torch.randn(n, *size)))
    return latents


def one_hot_bias(labels: Sequence[int], classes: int) -> Tensor:
    """Only the given class of each image allowed."""
    return torch.where(torch.tensor(labels)[:, None] == torch.arange(classes), 0.0, -1e4)


@torch.no_grad()
def fitted(head: HgadHead, n: int = 6) -> HgadHead:
    """The head with constants from good images, in two batches."""
    head.fit(head.statistics(make_latents(n, head)) for _ in range(2))
    return head


def published_factor(values: Sequence[Tensor], size: tuple[int, int]) -> np.ndarray:
    """A factor of the published score, its constants the maxima over the images at hand; scipy's blur."""
    total = np.zeros(1)
    for value in values:
        part = torch.exp(value - value.max()).unsqueeze(1)
        total = total + F.interpolate(part, size, mode="bilinear", align_corners=True).squeeze(1).numpy()
    score = total.max() - total
    sigma = [4 / 256 * side for side in size]
    return np.stack([gaussian_filter(image, sigma, mode="reflect", truncate=4.0) for image in score])


@torch.no_grad()
def test_with_maxima_of_the_images_at_hand_the_map_is_the_published_one() -> None:
    """Quantile 1, no floor, fitted on the images that are scored: the product of the reference formula."""
    head = make_head(quantile=1.0, entropy_floor=0.0)
    statistics = head.statistics(make_latents(4, head))
    head.fit(
        [
            [LevelStatistics(*(v[:2] for v in e)) for e in statistics],
            [LevelStatistics(*(v[2:] for v in e)) for e in statistics],
        ]
    )
    likelihood = published_factor([e.likelihood for e in statistics], head.size)
    entropy = published_factor([e.certainty for e in statistics], head.size)
    anomaly_map, pred_score, _ = head.score(statistics)
    np.testing.assert_allclose(anomaly_map.numpy(), likelihood * entropy, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pred_score.numpy(), (likelihood * entropy).max(axis=(1, 2)), rtol=1e-4)
    alone = HgadHead(head.mixtures, head.sizes, mode="likelihood", quantile=1.0)
    alone.load_state_dict(head.state_dict())
    np.testing.assert_allclose(alone.score(statistics)[0].numpy(), likelihood, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_given_class_is_that_class_alone_and_none_is_all() -> None:
    """One-hot bias gives each image the density of its class per channel; zeros and None that of all classes."""
    head = make_head()
    latents = make_latents(4, head)
    labels = torch.tensor([2, 0, 1, 1])
    bias = one_hot_bias(labels.tolist(), 3)
    for mixture, (z, log_det), given_class, unknown in zip(
        head.mixtures, latents, head.statistics(latents, bias), head.statistics(latents, torch.zeros(4, 3)), strict=True
    ):
        own = [mixture.class_log_likelihood(z, log_det, torch.full((4,), k)) / 8 for k in range(3)]
        picked = mixture.class_log_likelihood(z, log_det, labels) / 8
        torch.testing.assert_close(given_class.likelihood, picked, rtol=1e-5, atol=1e-5)
        mixed = torch.logsumexp(torch.stack(own) * 8, 0) / 8
        torch.testing.assert_close(unknown.likelihood, mixed, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(given_class.certainty, unknown.certainty)
    for first, second in zip(head(latents), head(latents, torch.zeros(4, 3)), strict=True):
        torch.testing.assert_close(first, second)


@torch.no_grad()
def test_the_class_score_is_the_mean_log_softmax() -> None:
    """The class score is torch's, averaged over positions and then levels; its argmax is the class under any bias."""
    head = make_head(channels=20)
    latents = make_latents(6, head)
    expected = torch.stack(
        [
            torch.log_softmax(m.class_logits(z), 1).mean(dim=(2, 3))
            for m, (z, _) in zip(head.mixtures, latents, strict=True)
        ]
    ).mean(dim=0)
    for bias in (None, one_hot_bias([1] * 6, 3)):
        class_score = head(latents, bias)[2]
        torch.testing.assert_close(class_score, expected, rtol=1e-4, atol=1e-4)
        assert class_score.argmax(dim=1).tolist() == [0, 1, 2, 0, 1, 2]


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"classes": 1}, {"mode": "likelihood"}])
def test_one_class_or_the_likelihood_mode_is_the_likelihood(settings: dict[str, Any]) -> None:
    """The map does not depend on the entropy, and is not zero."""
    head = fitted(make_head(**settings))
    statistics = head.statistics(make_latents(2, head))
    expected = head.score(statistics)[0]
    changed = [e._replace(certainty=e.certainty - 1.0) for e in statistics]
    assert torch.equal(head.score(changed)[0], expected)
    assert float(expected.max()) > 0.0


@torch.no_grad()
def test_a_confident_stranger_is_not_vetoed() -> None:
    """Far out along a centre z is surer than any good position: the published product is zero there, ours is high."""
    torch.manual_seed(1)
    mixture = HierarchicalMixture(30, 3, 1)
    mixture.mu.mul_(0.5)
    scores = {}
    for floor in (0.0, 0.5):
        head = HgadHead([mixture], [(8, 8)], entropy_floor=floor)
        good = mixture.mu.detach()[torch.arange(300) % 3].view(300, 30, 1, 1) + torch.randn(300, 30, 8, 8)
        head.fit([head.statistics([(good, torch.zeros(300, 8, 8))])])
        z = good[:1].clone()
        z[0, :, 4, 4] = 10 * mixture.mu[0]
        clean, odd = (head([(x, torch.zeros(1, 8, 8))])[0][0, 4, 4] for x in (good[:1], z))
        typical = head([(good, torch.zeros(300, 8, 8))])[0].median()
        scores[floor] = float(odd / typical)
        assert floor == 0.0 or float(odd) > float(clean)
    assert scores[0.0] < 1e-6
    assert scores[0.5] > 2.0


@torch.no_grad()
def test_factors_are_not_negative() -> None:
    """More normal than the constants in both kinds is a score of zero or the floor, never a product of negatives."""
    head = fitted(make_head())
    perfect = [
        LevelStatistics(torch.full((1, *size), 50.0), torch.zeros(1, *size), torch.zeros(1, 3)) for size in head.sizes
    ]
    anomaly_map, pred_score, _ = head.score(perfect)
    assert float(anomaly_map.abs().max()) == float(pred_score) == 0.0
    worst = [e._replace(likelihood=e.likelihood - 1e6, certainty=e.certainty - 1.1) for e in perfect]
    assert float(head.score(worst)[0].min()) > 0.1
    assert float(head.score([worst[0], perfect[1]])[0].min()) > 0.01, "one level outvoted the other"


@torch.no_grad()
def test_flat_entropy_keeps_the_likelihoods_ranking() -> None:
    """Where good images all have the same entropy, the product is a multiple of the likelihood map, not zero."""
    head = make_head()
    flat = [e._replace(certainty=torch.zeros_like(e.certainty)) for e in head.statistics(make_latents(4, head))]
    head.fit([flat])
    alone = HgadHead(head.mixtures, head.sizes, mode="likelihood")
    alone.load_state_dict(head.state_dict())
    torch.testing.assert_close(head.score(flat)[0] / 1e-3, alone.score(flat)[0])
    assert float(alone.score(flat)[0].max()) > 0.1


@torch.no_grad()
@given(st.integers(1, 200), st.floats(0.01, 1.0))
def test_constants_are_quantiles_of_the_good_positions(count: int, quantile: float) -> None:
    """Peaks, totals and floor are numpy's quantiles of what the formulas give, over any batching."""
    head = HgadHead([HierarchicalMixture(2, 2, 1)] * 2, [(1, 1)] * 2, quantile=quantile)
    levels = [
        LevelStatistics(torch.randn(count, 1, 1), -torch.rand(count, 1, 1), torch.zeros(count, 2)) for _ in range(2)
    ]
    parts = [[LevelStatistics(*(v[i : i + 7] for v in level)) for level in levels] for i in range(0, count, 7)]
    head.fit(iter(parts))
    found = {name: float(value) for name, value in head.named_buffers()}
    for kind in ("likelihood", "certainty"):
        normality = np.zeros(count)
        for index, level in enumerate(levels):
            values = getattr(level, kind).double().numpy().ravel()
            peak = np.quantile(values, quantile, method="inverted_cdf")
            assert found[f"{kind}_peak_{index}"] == pytest.approx(peak)
            normality += np.exp(np.minimum(values - peak, 0.0))
        total = np.quantile(normality, quantile, method="inverted_cdf")
        assert found[f"{kind}_total"] == pytest.approx(total, rel=1e-5)
    floor = max(1e-3, np.quantile(total - normality, 0.5, method="inverted_cdf"))
    assert found["certainty_floor"] == pytest.approx(floor, rel=1e-5, abs=1e-6)
    assert found["likelihood_floor"] == 0.0


def test_constants_are_saved() -> None:
    """A fresh head gets its constants, and so its scores, from the state of a fitted one."""
    head = fitted(make_head())
    other = make_head()
    latents = make_latents(2, head)
    with torch.no_grad():
        assert not torch.equal(other(latents)[0], head(latents)[0])
        other.load_state_dict(head.state_dict())
        assert torch.equal(other(latents)[0], head(latents)[0])


@torch.no_grad()
def test_the_image_score_pools_the_asked_share() -> None:
    """No share takes the maximum, a share the mean of that many of the highest values."""
    for share, count in ((0.0, 1), (0.01, 8), (1.0, 768)):
        head = fitted(make_head(top_fraction=share))
        anomaly_map, pred_score, _ = head(make_latents(3, head))
        expected = np.sort(anomaly_map.numpy().reshape(3, -1), axis=1)[:, -count:].mean(axis=1)
        np.testing.assert_allclose(pred_score.numpy(), expected, rtol=1e-5)


@given(st.integers(1, 40), st.floats(0.01, 20.0))
def test_the_blur_is_scipys(size: int, sigma: float) -> None:
    """Symmetric boundary and cut at 4 sigma, also where the kernel is longer than the row."""
    row = np.random.default_rng(size).normal(size=size)
    expected = gaussian_filter(row, sigma, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(row @ blur_matrix(size, sigma).double().numpy(), expected, atol=1e-5)


@given(st.integers(1, 20), st.integers(1, 40))
def test_the_resize_is_torchs_with_aligned_corners(source: int, target: int) -> None:
    """The matrix interpolates as torch does, between any two sizes."""
    row = torch.randn(1, 1, source, 1)
    expected = F.interpolate(row, (target, 1), mode="bilinear", align_corners=True).flatten()
    torch.testing.assert_close(row.flatten() @ resize_matrix(source, target), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"quantile": 1.5}, "quantile"),
        ({"top_fraction": -0.1}, "top_fraction"),
        ({"entropy_floor": 2.0}, "entropy_floor"),
    ],
)
def test_shares_outside_0_to_1_are_refused(settings: dict[str, float], match: str) -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match=match):
        make_head(**settings)


def test_parts_that_do_not_fit_are_refused() -> None:
    """Levels without a mixture, mixtures of different classes, and no good image at all."""
    for mixtures in ([], [HierarchicalMixture(4, 2)], [HierarchicalMixture(4, 2), HierarchicalMixture(4, 3)]):
        with pytest.raises(ValueError, match="same number of classes"):
            HgadHead(mixtures, SIZES)
    with pytest.raises(ValueError, match="at least one good image"):
        make_head().fit([])
