"""Base distributions, as flows to the standard normal one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from edgead.flows.flow import Flow, FlowSequence, no_log_det
from edgead.flows.linear import ChannelLinear

BaseKind = Literal["normal", "altub"]


class DiagonalBase(ChannelLinear):
    r"""A learnable Gaussian base :math:`\mathcal N(\mu, \operatorname{diag} e^{2\rho})` of the channels (AltUB).

    Kim et al., 2022, arXiv:2210.14913. Written as the flow :math:`u = (z - \mu) \odot e^{-\rho}` to the standard normal
    base, so that the likelihood of :math:`u` is that of the learnt base, a uniform flow stays uniform, and folding takes
    it away at export. After a last ActNorm it adds no freedom; it acts through how it is learnt: in steps of its own,
    large ones, while the flow stands still (`train/loop.py`).

    Args:
        channels: C; mean and log standard deviation, one each per channel for all positions, start at 0.
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
        """Set the maximum-likelihood values for latents `(N, C, H, W)`: what the alternating steps approach."""
        dims = [0, *range(2, z.ndim)]
        self.mean.copy_(z.mean(dim=dims))
        self.log_std.copy_(torch.log(z.std(dim=dims, correction=0)))


def make_base(kind: BaseKind, channels: int) -> Flow:
    """The flow from a latent with C channels to the standard normal base: nothing, or a learnable Gaussian."""
    return DiagonalBase(channels) if kind == "altub" else FlowSequence([])
