"""The contract of an invertible map, and maps in sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from edgead.errors import ShapeError


class Flow(nn.Module):
    r"""An invertible map of feature maps `(N, C, H, W)` or of feature vectors `(N, C)`.

    A flow is *uniformly scaling* when its log-determinant is the same for every input (Abu Zaid et al., 2025,
    arXiv:2510.09452): then :math:`-\log p(x) = \tfrac12 \lVert z \rVert^2 + \text{const}`, and ranking by likelihood
    is ranking by the latent norm.
    """

    @property
    def is_uniform(self) -> bool:
        """Whether the log-determinant is the same for every input."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x` to the latent `z` of the same shape, and give log |det dz/dx| per sample, `(N,)`, in nats."""
        raise NotImplementedError

    def inverse(self, z: Tensor) -> Tensor:
        """Map a latent back: `inverse(forward(x)[0])` is `x` up to rounding."""
        raise NotImplementedError

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        """Set what starts from data (only ActNorm does) and return the latent of `x`."""
        return self(x)[0]  # type: ignore[no-any-return]


class FlowSequence(Flow):
    """Flows applied one after the other, the first in the list first."""

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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(x.shape[0])
        for flow in self:
            x, step = flow(x)
            log_det = log_det + step
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        for flow in reversed(list(self)):
            z = flow.inverse(z)
        return z

    @torch.no_grad()
    def initialise(self, x: Tensor) -> Tensor:
        for flow in self:
            x = flow.initialise(x)
        return x


def count_positions(x: Tensor) -> int:
    """H·W of a feature map `(N, C, H, W)`, 1 for vectors `(N, C)`.

    Raises:
        ShapeError: For any other number of dimensions.
    """
    if x.ndim == 2:
        return 1
    if x.ndim == 4:
        return x.shape[2] * x.shape[3]
    raise ShapeError("x", expected="(N, C) or (N, C, H, W)", actual=tuple(x.shape))
