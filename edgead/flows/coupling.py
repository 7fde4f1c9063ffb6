"""Coupling flows: one half of the channels is transformed as a function of the other half."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgead.flows.flow import Flow, no_log_det


class AdditiveCoupling(Flow):
    r"""NICE coupling, :math:`z = (x_1, x_2 + t(x_1))`; volume preserving, hence uniformly scaling.

    Dinh et al., 2014, arXiv:1410.8516, section 3.2. Deviates from the uniformly-scaling-flow code, whose subnet emits
    twice the channels and leaves half of them unused, and which scales t by 0.1: here the subnet emits the used channels
    alone, and starts at zero (`subnets.py`), so that the flow starts as its linear part.

    Args:
        subnet: Network from `(N, channels - channels // 2, *)` and the condition to `(N, channels // 2, *)`.
        channels: Number of channels C; the first C - C//2 condition the last C//2.

    Example:
        >>> from edgead.flows.subnets import ConvSubnet
        >>> coupling = AdditiveCoupling(ConvSubnet(2, 8, 2, kernel_sizes=(3, 1)), channels=4)
        >>> x = torch.randn(1, 4, 5, 5)
        >>> z, log_det = coupling(x)
        >>> torch.equal(z[:, :2], x[:, :2]), log_det.abs().max().item()
        (True, 0.0)
    """

    def __init__(self, subnet: nn.Module, channels: int) -> None:
        super().__init__()
        self.subnet = subnet
        self.n_first = channels - channels // 2

    @property
    def is_uniform(self) -> bool:
        return True

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, second = x[:, : self.n_first], x[:, self.n_first :]
        return torch.cat([first, second + self.subnet(first, condition)], dim=1), no_log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        first, second = z[:, : self.n_first], z[:, self.n_first :]
        return torch.cat([first, second - self.subnet(first, condition)], dim=1)


class AffineCoupling(Flow):
    r"""Real NVP coupling, :math:`z = (x_1, e^{s(x_1)} \odot x_2 + t(x_1))` with :math:`s = c \tanh(0.1\,a)`.

    Dinh et al., 2016, arXiv:1605.08803, section 3; the soft clamp c and the factor 0.1 on the raw scale a follow the
    blocks that FastFlow, CFLOW and U-Flow build on (clamp 2.0, 1.9 and 2.0).

    Args:
        subnet: Network from `(N, channels - channels // 2, *)` and the condition to `(N, 2 * (channels // 2), *)`: raw
            scales, then shifts.
        channels: Number of channels C.
        clamp: Maximum |log scale|, > 0.

    Example:
        >>> from edgead.flows.subnets import ConvSubnet
        >>> coupling = AffineCoupling(ConvSubnet(2, 8, 4, kernel_sizes=(1, 1)), channels=4, clamp=2.0)
        >>> x = torch.randn(1, 4, 5, 5)
        >>> torch.allclose(coupling.inverse(coupling(x)[0]), x, atol=1e-6)
        True
    """

    def __init__(self, subnet: nn.Module, channels: int, clamp: float) -> None:
        super().__init__()
        self.subnet = subnet
        self.n_first = channels - channels // 2
        self.n_second = channels // 2
        self.clamp = clamp

    @property
    def is_uniform(self) -> bool:
        return False

    def scale_and_shift(self, first: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log scale and shift `(N, channels // 2, *)` of the second half, from the first."""
        # slices, not chunk: a traced chunk reads the shape, which then stays in the exported graph
        answer = self.subnet(first, condition)
        return self.clamp * torch.tanh(0.1 * answer[:, : self.n_second]), answer[:, self.n_second :]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, second = x[:, : self.n_first], x[:, self.n_first :]
        log_scale, shift = self.scale_and_shift(first, condition)
        z = torch.cat([first, second * torch.exp(log_scale) + shift], dim=1)
        return z, log_scale.sum(dim=1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        first, second = z[:, : self.n_first], z[:, self.n_first :]
        log_scale, shift = self.scale_and_shift(first, condition)
        return torch.cat([first, (second - shift) * torch.exp(-log_scale)], dim=1)
