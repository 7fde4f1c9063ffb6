"""Linear flows: one matrix for all positions (permutation, rotation, LU, ActNorm) or one per position."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.flows.flow import Flow, no_log_det


class ChannelLinear(Flow):
    r"""Affine map :math:`z = M x + m` of the channels, the same at every position; uniformly scaling.

    Subclasses provide the matrix; everything else, folding included, follows from it.
    """

    @property
    def is_uniform(self) -> bool:
        return True

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        """Matrix M `(C, C)` and offset m `(C,)`."""
        raise NotImplementedError

    def log_abs_det(self) -> Tensor:
        """Log |det M| of one position, a scalar."""
        raise NotImplementedError

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        matrix, offset = self.matrix_and_offset()
        return apply_channels(matrix, offset, x), no_log_det(x) + self.log_abs_det().to(x.dtype)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        matrix, offset = self.matrix_and_offset()
        inverse = torch.linalg.inv(matrix)
        return apply_channels(inverse, -(inverse @ offset), z)


class FixedRotation(ChannelLinear):
    """Fixed random orthogonal matrix: mixes all channels, |det| 1, perfectly conditioned.

    Example:
        >>> z, log_det = FixedRotation(4)(torch.ones(1, 4))
        >>> round(z.square().sum().item(), 4), log_det.item()
        (4.0, 0.0)
    """

    matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        q, r = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
        self.register_buffer("matrix", (q * torch.sign(torch.diagonal(r))).to(torch.get_default_dtype()))

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        return self.matrix, self.matrix.new_zeros(self.matrix.shape[0])

    def log_abs_det(self) -> Tensor:
        return self.matrix.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return apply_channels(self.matrix.T, self.matrix.new_zeros(self.matrix.shape[0]), z)


class FixedPermutation(ChannelLinear):
    """Fixed random order of the channels, as in the blocks of FastFlow, CFLOW and U-Flow."""

    order: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(channels))

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        matrix = torch.eye(len(self.order), device=self.order.device)[self.order]
        return matrix, matrix.new_zeros(len(self.order))

    def log_abs_det(self) -> Tensor:
        return torch.zeros((), device=self.order.device)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x[:, self.order], no_log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z[:, torch.argsort(self.order)]


class LULinear(ChannelLinear):
    r"""Learnable invertible matrix :math:`W = L U` with offset b (Kingma & Dhariwal, 2018, section 3.2).

    L is unit lower triangular, U upper triangular with diagonal sign · exp(log_scale), so that the matrix never
    becomes singular. Deviates from the block of the uniformly-scaling-flow code, whose diagonal is unconstrained and
    whose triangles start Kaiming-uniform (condition number about 100): here it starts as the identity with small
    noise, because the fixed rotation or permutation beside it already mixes the channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        spread = 0.1 / math.sqrt(channels)
        self.lower = nn.Parameter(torch.randn(channels, channels) * spread)
        self.upper = nn.Parameter(torch.randn(channels, channels) * spread)
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.log_scale), dtype=self.lower.dtype, device=self.lower.device)
        lower = torch.tril(self.lower, -1) + identity
        upper = torch.triu(self.upper, 1) + torch.diag(torch.exp(self.log_scale))
        return lower, upper

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        return lower @ upper, self.offset

    def inverse_matrix(self) -> Tensor:
        """Inverse W⁻¹ from two triangular solves."""
        lower, upper = self._factors()
        identity = torch.eye(len(self.log_scale), dtype=lower.dtype, device=lower.device)
        half = torch.linalg.solve_triangular(lower, identity, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, half, upper=True)

    def log_abs_det(self) -> Tensor:
        return self.log_scale.sum()

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        inverse = self.inverse_matrix()
        return apply_channels(inverse, -(inverse @ self.offset), z)


class Inverted(ChannelLinear):
    """Inverse of a channel-linear flow, with shared parameters: `Inverted(a), f, a` is f conjugated by a."""

    def __init__(self, flow: ChannelLinear) -> None:
        super().__init__()
        self.flow = flow

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        matrix, offset = self.flow.matrix_and_offset()
        inverse = self.flow.inverse_matrix() if isinstance(self.flow, LULinear) else torch.linalg.inv(matrix)
        return inverse, -(inverse @ offset)

    def log_abs_det(self) -> Tensor:
        return -self.flow.log_abs_det()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.flow.inverse(x), no_log_det(x) + self.log_abs_det().to(x.dtype)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        x, _ = self.flow(z)
        return x  # type: ignore[no-any-return]


class OnFirstChannels(ChannelLinear):
    """Channel-linear flow of the first channels that leaves the others unchanged, with shared parameters.

    Args:
        flow: Flow of the first `inner` channels.
        inner: Number of channels that `flow` changes.
        channels: Total number of channels, at least `inner`.
    """

    def __init__(self, flow: ChannelLinear, inner: int, channels: int) -> None:
        super().__init__()
        self.flow = flow
        self.inner = inner
        self.channels = channels

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        matrix, offset = self.flow.matrix_and_offset()
        rest = torch.eye(self.channels - self.inner, dtype=matrix.dtype, device=matrix.device)
        return torch.block_diag(matrix, rest), torch.cat([offset, rest.new_zeros(len(rest))])

    def log_abs_det(self) -> Tensor:
        return self.flow.log_abs_det()


class ActNorm(ChannelLinear):
    r"""Scale and shift per channel, :math:`z = e^{s} \odot x + o`, initialised to standardise its first batch.

    Deviates from the softplus form of the published blocks (whose scale moves by about 1e-4 per Adam step and so
    adapts the volume slowly): the scale is stored as its logarithm.

    Example:
        >>> norm = ActNorm(3)
        >>> z = norm.initialise(10.0 + 4.0 * torch.randn(64, 3, 4, 4))
        >>> torch.allclose(z.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-4)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        return torch.diag(torch.exp(self.log_scale)), self.offset

    def log_abs_det(self) -> Tensor:
        return self.log_scale.sum()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        z = x * torch.exp(self.log_scale).view(shape) + self.offset.view(shape)
        return z, no_log_det(x) + self.log_abs_det()

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        shape = (1, -1) + (1,) * (z.ndim - 2)
        return (z - self.offset.view(shape)) * torch.exp(-self.log_scale).view(shape)

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        dims = [0, *range(2, x.ndim)]
        std = x.std(dim=dims, correction=0)
        # a channel that is constant in this batch may vary later: keep the scale within the range of float16
        std = std.clamp_min(max(1e-3 * float(std.square().mean().sqrt()), 1e-6))
        self.log_scale.copy_(-torch.log(std))
        self.offset.copy_(-x.mean(dim=dims) / std)
        return self(x)[0]  # type: ignore[no-any-return]


class SharedLinear(ChannelLinear):
    r"""Affine map of the channels, :math:`z = W (x - \mu)`, the same at every position, fitted in closed form.

    With :math:`W = \Sigma^{-1/2}` of the covariance over all positions it whitens the features wherever they are: the first
    layer of a flow whose parts do not lie still.

    Args:
        weight: Invertible matrix `(C, C)`.
        mean: Mean `(C,)`.
    """

    weight: Tensor
    mean: Tensor

    def __init__(self, weight: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("mean", mean)

    def matrix_and_offset(self) -> tuple[Tensor, Tensor]:
        return self.weight, -(self.weight @ self.mean)

    def log_abs_det(self) -> Tensor:
        return torch.linalg.slogdet(self.weight).logabsdet

    def whiten(self, x: Tensor) -> Tensor:
        """Latent without the log-determinant, which is constant."""
        return apply_channels(*self.matrix_and_offset(), x)


class PositionLinear(Flow):
    r"""Affine map of the channels, a separate one at every position, :math:`z_p = W_p (x_p - \mu_p)`; uniformly scaling.

    The Jacobian is block diagonal and does not depend on x, so this is a uniformly scaling flow. With
    :math:`W_p = \Sigma_p^{-1/2}` its latent norm is the Mahalanobis distance of PaDiM (Defard et al., 2021,
    arXiv:2011.08785, section 3.2): a flow with this first layer starts from PaDiM.

    Args:
        weight: Invertible matrices `(P, C, C)` of the P = H·W positions in row order; z_c = sum_k weight[p, c, k] x_k.
        mean: Means `(P, C)`.

    Example:
        >>> flow = PositionLinear(2.0 * torch.eye(3).repeat(4, 1, 1), torch.ones(4, 3))
        >>> z, log_det = flow(torch.ones(1, 3, 2, 2))
        >>> z.abs().max().item(), round(log_det[0, 0, 0].item(), 4)
        (0.0, 2.0794)
    """

    weight: Tensor
    mean: Tensor

    def __init__(self, weight: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("mean", mean)

    @property
    def is_uniform(self) -> bool:
        return True

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = torch.linalg.slogdet(self.weight).logabsdet.reshape(x.shape[2:])
        return self.whiten(x), log_det.expand(len(x), *x.shape[2:])

    def whiten(self, x: Tensor) -> Tensor:
        """Latent without the log-determinant, which is constant and expensive."""
        n, c, h, w = x.shape
        # contiguous matrices are multiplied four times as fast
        centred = (x.flatten(2).permute(2, 0, 1) - self.mean[:, None, :]).contiguous()
        return torch.bmm(centred, self.weight.transpose(1, 2)).permute(1, 2, 0).reshape(n, c, h, w)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        columns = z.flatten(2).permute(2, 1, 0)
        x = torch.linalg.solve(self.weight, columns) + self.mean[:, :, None]
        return x.permute(2, 1, 0).reshape(z.shape)


def apply_channels(matrix: Tensor, offset: Tensor, x: Tensor) -> Tensor:
    """Apply `matrix @ x + offset` over the channel dimension of `(N, C)` or `(N, C, H, W)`, in the dtype of `x`."""
    matrix, offset = matrix.to(x.dtype), offset.to(x.dtype)
    if x.ndim == 2:
        return F.linear(x, matrix, offset)
    return F.conv2d(x, matrix[:, :, None, None], offset)
