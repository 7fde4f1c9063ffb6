"""The closed forms, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgead.flows.linear import PositionLinear
from edgead.models.gaussian import PositionGaussians, fit_position_gaussians, fit_projection, inverse_factor


def correlated(n: int, channels: int, size: tuple[int, int], offset: float = 0.0) -> torch.Tensor:
    """Features with a different covariance at each position."""
    positions = size[0] * size[1]
    mixing = torch.eye(channels) * 1.5 + 0.3 * torch.randn(positions, channels, channels)
    z = torch.randn(n, positions, channels)
    x = torch.einsum("pck,npk->npc", mixing, z) + offset + torch.randn(positions, channels)
    return x.permute(0, 2, 1).reshape(n, channels, *size)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_gaussians_are_numpys(offset: float) -> None:
    """Mean and covariance per position equal `numpy.cov`, over any batching, and far from zero too."""
    x = correlated(50, 4, (3, 2), offset)
    for size in (50, 16, 1):
        gaussians = fit_position_gaussians(x.split(size))
        assert gaussians.count == 50
        for position in range(6):
            columns = x.flatten(2)[:, :, position].double().numpy()
            np.testing.assert_allclose(gaussians.mean[position], columns.mean(axis=0), rtol=1e-6, atol=1e-6)
            expected = np.cov(columns, rowvar=False, bias=True)
            np.testing.assert_allclose(gaussians.covariance[position], expected, rtol=2e-4, atol=2e-4)


def test_inverse_factor_whitens() -> None:
    """A per-position layer made from the inverse factor turns the training features into covariance I and mean 0."""
    x = correlated(200, 5, (2, 3))
    gaussians = fit_position_gaussians([x])
    layer = PositionLinear(inverse_factor(gaussians.covariance), gaussians.mean)
    z = layer(x.double())[0].flatten(2)
    for position in range(6):
        columns = z[:, :, position]
        torch.testing.assert_close(columns.mean(dim=0), torch.zeros(5, dtype=torch.float64), atol=1e-5, rtol=0)
        torch.testing.assert_close(columns.T @ columns / 200, torch.eye(5, dtype=torch.float64), atol=1e-4, rtol=0)


def test_the_latent_norm_is_the_mahalanobis_distance() -> None:
    """The squared norm after the layer is (x-mu)' S^-1 (x-mu) as numpy computes it, for unseen features too."""
    gaussians = fit_position_gaussians([correlated(100, 4, (2, 2))])
    covariance = gaussians.shrunk(0.3, 0.01)
    layer = PositionLinear(inverse_factor(covariance), gaussians.mean)
    x = torch.randn(7, 4, 2, 2, dtype=torch.float64) * 3
    norms = layer(x)[0].square().sum(dim=1).flatten(1).numpy()
    for n in range(7):
        for position in range(4):
            difference = (x.flatten(2)[n, :, position] - gaussians.mean[position]).numpy()
            expected = difference @ np.linalg.solve(covariance[position].numpy(), difference)
            assert norms[n, position] == pytest.approx(expected, rel=1e-8)


def test_shrinkage_is_the_formula() -> None:
    """(1-a) S_p + a mean(S) + r mean(diag) I, by a direct computation; the Gaussians stay as they were."""
    covariance = torch.stack([torch.diag(torch.tensor([1.0, 3.0])), torch.tensor([[2.0, 1.0], [1.0, 6.0]])]).double()
    gaussians = PositionGaussians(torch.zeros(2, 2), covariance.clone(), 9)
    shrunk = gaussians.shrunk(0.25, 0.1)
    pooled = np.array([[1.5, 0.5], [0.5, 4.5]])
    for position in range(2):
        expected = 0.75 * covariance[position].numpy() + 0.25 * pooled + 0.1 * 3.0 * np.eye(2)
        np.testing.assert_allclose(shrunk[position], expected, rtol=1e-12)
    assert torch.equal(gaussians.covariance, covariance)


def test_fewer_images_than_channels_get_more_ridge() -> None:
    """With n images for C > n channels the ridge is C / n times as large."""
    covariance = torch.stack([torch.diag(torch.tensor([1.0, 2.0, 3.0, 6.0]))]).double()
    many, few = (PositionGaussians(torch.zeros(1, 4), covariance.clone(), count) for count in (4, 2))
    added = [(g.shrunk(0.0, 0.1) - covariance)[0].diagonal() for g in (many, few)]
    torch.testing.assert_close(added[0], torch.full((4,), 0.3).double())
    torch.testing.assert_close(added[1], torch.full((4,), 0.6).double())


def test_more_dimensions_than_images_still_whiten() -> None:
    """With fewer images than channels the shrunk covariance is invertible."""
    gaussians = fit_position_gaussians([correlated(5, 12, (2, 2))])
    factor = inverse_factor(gaussians.shrunk(0.05, 0.001))
    assert bool(torch.isfinite(factor).all())


def test_the_projection_is_the_leading_principal_components() -> None:
    """The 1x1 convolution gives centred scores that equal numpy's SVD, up to each component's sign."""
    x = torch.randn(30, 6, 4, 3) * torch.tensor([5.0, 0.1, 3.0, 1.0, 0.5, 2.0])[None, :, None, None] + 4.0
    conv = nn.Conv2d(6, 3, 1)
    fit_projection(conv, x.split(7))
    columns = x.permute(0, 2, 3, 1).reshape(-1, 6).double().numpy()
    centred = columns - columns.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    scores = conv(x).detach().permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    expected = centred @ components[:3].T
    for k in range(3):
        sign = np.sign(scores[:, k] @ expected[:, k])
        np.testing.assert_allclose(scores[:, k], sign * expected[:, k], atol=2e-3)
    weight = conv.weight.detach()[:, :, 0, 0]
    assert bool((weight.gather(1, weight.abs().argmax(dim=1, keepdim=True)) > 0).all())
