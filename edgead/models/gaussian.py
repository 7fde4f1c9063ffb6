"""Closed-form fits: feature projections by principal components, and one Gaussian per position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@torch.no_grad()
def fit_projection(conv: nn.Conv2d, features: Iterable[Tensor]) -> None:
    """Set a 1x1 convolution to the leading principal components of its input, centred, in the input's units.

    Args:
        conv: Convolution from C_in to C_out <= C_in channels.
        features: Batches of features `(N, C_in, H, W)`.
    """
    count, total, products = 0, torch.zeros(0), torch.zeros(0)
    for batch in features:
        columns = batch.cpu().double().permute(1, 0, 2, 3).flatten(1)
        if count == 0:
            total, products = columns.new_zeros(len(columns)), columns.new_zeros(len(columns), len(columns))
        count += columns.shape[1]
        total += columns.sum(dim=1)
        products += columns @ columns.T
    mean = total / count
    _, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    weight = vectors.flip(1)[:, : conv.out_channels].T
    # the sign of an eigenvector is arbitrary: fix it, so that two machines agree
    weight = weight * torch.sign(weight.gather(1, weight.abs().argmax(dim=1, keepdim=True)))
    assert conv.bias is not None
    conv.weight.copy_(weight[:, :, None, None])
    conv.bias.copy_(-(weight @ mean))


@dataclass(frozen=True)
class PositionGaussians:
    """Mean and covariance of the features at each position.

    Attributes:
        mean: Means `(P, C)`, float64.
        covariance: Maximum-likelihood covariances `(P, C, C)`, float64.
        count: Number of images.
    """

    mean: Tensor
    covariance: Tensor
    count: int

    def shrunk(self, amount: float, ridge: float) -> Tensor:
        r"""Shrunk covariances `(P, C, C)`, :math:`(1 - a)\,\Sigma_p + a\,\bar\Sigma + r\,I`, where :math:`\bar\Sigma` is the mean over
        all positions.

        Args:
            amount: Weight a of the mean covariance, 0..1.
            ridge: Ridge r as a share of the mean variance; scaled up in proportion if there are fewer images than
                channels, because the smallest variances are then unknown.
        """
        pooled = self.covariance.mean(dim=0)
        mixed = (1.0 - amount) * self.covariance + amount * pooled
        ridge *= max(1.0, len(pooled) / self.count)
        mixed.diagonal(dim1=1, dim2=2).add_(ridge * float(pooled.diagonal().mean()))
        return mixed


def fit_position_gaussians(batches: Iterable[Tensor]) -> PositionGaussians:
    """Fit mean and covariance per position to batches `(N, C, H, W)`, accumulated in float64."""
    count, total, products, origin = 0, torch.zeros(0), torch.zeros(0), torch.zeros(0)
    for batch in batches:
        columns = batch.flatten(2).permute(2, 1, 0)
        positions, channels, _ = columns.shape
        if count == 0:
            total = torch.zeros(positions, channels, dtype=torch.float64)
            products = torch.zeros(positions, channels, channels, dtype=torch.float64)
            # float32 products of features far from zero would drown the variance in rounding
            origin = columns.mean(dim=2, keepdim=True)
        columns = (columns - origin).contiguous()
        count += columns.shape[2]
        total += columns.sum(dim=2).cpu()
        products += torch.bmm(columns, columns.transpose(1, 2)).cpu()
    mean = total / count
    covariance = products / count - mean[:, :, None] * mean[:, None, :]
    return PositionGaussians(mean + origin[:, :, 0].cpu().double(), covariance, count)


def inverse_factor(covariance: Tensor) -> Tensor:
    """Inverse Cholesky factors, `(P, C, C)`, lower triangular: W with W Σ Wᵀ = I at each position."""
    factor = torch.linalg.cholesky(covariance)
    identity = torch.eye(factor.shape[1], dtype=factor.dtype, device=factor.device)
    return torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
