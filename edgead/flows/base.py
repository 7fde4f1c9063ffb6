"""Base distributions, written as flows to the standard normal one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from edgead.flows.flow import Flow, FlowSequence, no_log_det
from edgead.flows.linear import ChannelLinear

BaseKind = Literal["normal", "altub"]


class DiagonalBase(ChannelLinear):
    r"""Learnable Gaussian base :math:`\mathcal N(\mu, \operatorname{diag} e^{2\rho})` of the channels (AltUB).

    Kim et al., 2022, arXiv:2210.14913. Written as the flow :math:`u = (z - \mu) \odot e^{-\rho}` to the standard normal
    base: the likelihood of :math:`u` is that of the learnt base, a uniform flow stays uniform, and folding removes the
    base at export. After a final ActNorm it adds no freedom; it acts through its training, in separate large steps while
    the flow is fixed (`train/loop.py`).

    Args:
        channels: Number of channels C; each has a mean and a log standard deviation, both initially 0.

    Example:
        >>> base = DiagonalBase(3)
        >>> z = 5.0 + 2.0 * torch.randn(64, 3, 4, 4)
        >>> base.fit(z)
        >>> u, log_det = base(z)
        >>> torch.allclose(u.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_std = nn.Parameter(torch.zeros(channels))

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        inverse_std = torch.exp(-self.log_std)
        return torch.diag(inverse_std), -self.mean * inverse_std

    def log_abs_det(self) -> Tensor:
        return -self.log_std.sum()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        u = (x - self.mean.view(shape)) * torch.exp(-self.log_std).view(shape)
        return u, no_log_det(x) + self.log_abs_det()

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        shape = (1, -1) + (1,) * (z.ndim - 2)
        return z * torch.exp(self.log_std).view(shape) + self.mean.view(shape)

    @torch.no_grad()
    def fit(self, z: Tensor) -> None:
        """Set the maximum-likelihood values for latents `(N, C, H, W)`, the limit of the alternating steps."""
        dims = [0, *range(2, z.ndim)]
        self.mean.copy_(z.mean(dim=dims))
        self.log_std.copy_(torch.log(z.std(dim=dims, correction=0)))


def make_base(kind: BaseKind, channels: int) -> Flow:
    """Flow from a latent with C channels to the standard normal base: the identity, or a learnable Gaussian."""
    return DiagonalBase(channels) if kind == "altub" else FlowSequence([])
