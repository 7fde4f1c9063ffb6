"""Interface of an invertible map, and maps in sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from edgead.errors import ShapeError


class Flow(nn.Module):
    r"""Invertible map of feature maps `(N, C, H, W)` or of feature vectors `(N, C)`.

    A flow is *uniformly scaling* when its log-determinant is the same for every input (Abu Zaid et al., 2025,
    arXiv:2510.09452): then :math:`-\log p(x) = \tfrac12 \lVert z \rVert^2 + \text{const}`, and ranking by likelihood
    is ranking by the latent norm.
    """

    @property
    def is_uniform(self) -> bool:
        """Whether the log-determinant is the same for every input."""
        raise NotImplementedError

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map `x` to its latent and its log-determinant.

        Args:
            x: Feature maps `(N, C, H, W)` or vectors `(N, C)`.
            condition: Additional input of conditional couplings, `(N or 1, P, H, W)`; other flows ignore it.

        Returns:
            The latent `z`, shaped like `x`, and `log_det`, `(N, H, W)` or `(N,)`, in nats: contributions whose sum over
            the positions is log |det dz/dx| of the sample. For a flow without spatial context each is the
            log-determinant of its own position.
        """
        raise NotImplementedError

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map a latent back: `inverse(forward(x)[0])` is `x` up to rounding."""
        raise NotImplementedError

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Set the parameters that are initialised from data (ActNorm's) and return the latent of `x`."""
        return self(x, condition)[0]  # type: ignore[no-any-return]


class FlowSequence(Flow):
    """Flows applied in sequence, the first in the list first; their log-determinants add up.

    Example:
        >>> from edgead.flows.linear import ActNorm, FixedRotation
        >>> flow = FlowSequence([FixedRotation(4), ActNorm(4)])
        >>> x = torch.randn(2, 4, 8, 8)
        >>> z, log_det = flow(x)
        >>> z.shape, log_det.shape, flow.is_uniform
        (torch.Size([2, 4, 8, 8]), torch.Size([2, 8, 8]), True)
        >>> torch.allclose(flow.inverse(z), x, atol=1e-5)
        True
    """

    def __init__(self, flows: Iterable[Flow]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(flows)

    def __iter__(self) -> Iterator[Flow]:
        for flow in self.flows:
            assert isinstance(flow, Flow)
            yield flow

    @property
    def is_uniform(self) -> bool:
        return all(flow.is_uniform for flow in self)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = no_log_det(x)
        for flow in self:
            x, step = flow(x, condition)
            log_det = log_det + step
        return x, log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        for flow in reversed(list(self)):
            z = flow.inverse(z, condition)
        return z

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        for flow in self:
            x = flow.initialise(x, condition)
        return x


def no_log_det(x: Tensor) -> Tensor:
    """Zeros, one per position of `x`: `(N, H, W)` for maps, `(N,)` for vectors.

    Raises:
        ShapeError: If `x` has another number of dimensions.
    """
    if x.ndim not in (2, 4):
        raise ShapeError("x", expected="(N, C) or (N, C, H, W)", actual=tuple(x.shape))
    return x.new_zeros(x.shape[:1] + x.shape[2:])


def per_sample(values: Tensor) -> Tensor:
    """Sum over the positions: `(N, H, W)` or `(N,)` to `(N,)`.

    Example:
        >>> per_sample(torch.ones(2, 3, 3))
        tensor([9., 9.])
    """
    return values if values.ndim == 1 else values.flatten(1).sum(dim=1)
