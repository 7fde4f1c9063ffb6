"""Flows over several feature maps at once: side by side (FastFlow, CFLOW, HGAD), or U-shaped (U-Flow)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import ConfigError
from edgead.flows.flow import Flow

Conditions = Sequence[Tensor | None]


class Latent(NamedTuple):
    """Latent of one scale: `z` `(N, C, h, w)`, and `log_det` `(N, h, w)` of the flow on this grid, in nats."""

    z: Tensor
    log_det: Tensor


class MultiScaleFlow(nn.Module):
    """Invertible map of several feature maps `(N, C_i, h_i, w_i)`, the scales, to one latent each.

    The log-determinant of the whole map is the sum of `log_det` over all scales and positions.
    """

    @property
    def is_uniform(self) -> bool:
        """Whether the log-determinant is the same for every input."""
        return all(flow.is_uniform for flow in self.stages())

    @property
    def latent_channels(self) -> tuple[int, ...]:
        """Number of channels of each latent."""
        raise NotImplementedError

    def stages(self) -> list[Flow]:
        """Flow on each grid, in the order of the scales."""
        raise NotImplementedError

    def forward(self, xs: Sequence[Tensor], conditions: Conditions) -> list[Latent]:
        """Map the scales, each with its condition or None, to their latents."""
        raise NotImplementedError

    def inverse(self, zs: Sequence[Tensor], conditions: Conditions) -> list[Tensor]:
        """Map latents back to the scales."""
        raise NotImplementedError

    @torch.no_grad()
    def initialise(self, xs: Sequence[Tensor], conditions: Conditions) -> None:
        """Set the parameters that are initialised from data."""
        raise NotImplementedError


class ParallelFlow(MultiScaleFlow):
    """Independent flows, one for each scale.

    Args:
        flows: Flow of each scale.
        channels: Number of channels C of each scale.

    Example:
        >>> from edgead.flows.linear import FixedRotation
        >>> flow = ParallelFlow([FixedRotation(4), FixedRotation(6)], channels=[4, 6])
        >>> fine, coarse = flow([torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)], [None, None])
        >>> fine.z.shape, coarse.log_det.shape
        (torch.Size([1, 4, 8, 8]), torch.Size([1, 4, 4]))
    """

    def __init__(self, flows: Sequence[Flow], channels: Sequence[int]) -> None:
        super().__init__()
        self.flows = nn.ModuleList(flows)
        self.channels = tuple(channels)

    @property
    def latent_channels(self) -> tuple[int, ...]:
        return self.channels

    def stages(self) -> list[Flow]:
        return list(_flows(self.flows))

    def forward(self, xs: Sequence[Tensor], conditions: Conditions) -> list[Latent]:
        triples = zip(self.stages(), xs, conditions, strict=True)
        return [Latent(*flow(x, condition)) for flow, x, condition in triples]

    def inverse(self, zs: Sequence[Tensor], conditions: Conditions) -> list[Tensor]:
        triples = zip(self.stages(), zs, conditions, strict=True)
        return [flow.inverse(z, condition) for flow, z, condition in triples]

    @torch.no_grad()
    def initialise(self, xs: Sequence[Tensor], conditions: Conditions) -> None:
        for flow, x, condition in zip(self.stages(), xs, conditions, strict=True):
            flow.initialise(x, condition)


class UShapedFlow(MultiScaleFlow):
    """U-Flow (Tailanian et al., 2024, arXiv:2211.12353, section 3.2): from the coarsest scale to the finest.

    Each stage sees its own features and, up-sampled by rearranging channels to pixels (volume preserving), one half of
    the coarser stage's output; the other half is that scale's latent. Deviates: where half of the channels does not
    divide by four, the latent keeps the rest.

    Args:
        make_stage: Function from the index of a scale and the number of channels to the flow of that stage.
        channels: Number of channels C of each scale's features, finest first.
        sizes: Grid `(h, w)` of each scale, each twice that of the next.

    Raises:
        ConfigError: If the sizes do not halve.

    Example:
        >>> from edgead.flows.linear import FixedRotation
        >>> flow = UShapedFlow(lambda index, width: FixedRotation(width), [8, 16], [(8, 8), (4, 4)])
        >>> flow.latent_channels
        (10, 8)
    """

    def __init__(
        self, make_stage: Callable[[int, int], Flow], channels: Sequence[int], sizes: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__()
        for fine, coarse in itertools.pairwise(sizes):
            if (fine[0], fine[1]) != (2 * coarse[0], 2 * coarse[1]):
                raise ConfigError(
                    f"A U-shaped flow needs levels whose grids halve, finest first (got {list(sizes)}).",
                    hint="For example model.levels=[8, 16, 32].",
                )
        self.channels = tuple(channels)
        stages: list[Flow] = []
        passed: list[int] = []
        for index in reversed(range(len(channels))):
            width = channels[index] + (passed[-1] // 4 if passed else 0)
            passed.append(0 if index == 0 else width // 2 // 4 * 4)
            if index and not passed[-1]:
                raise ConfigError(f"A stage of a U-shaped flow needs at least 8 channels (got {width}).")
            stages.append(make_stage(index, width))
        self._stages = nn.ModuleList(reversed(stages))
        self.passed = tuple(reversed(passed))
        self.widths = tuple(c + p // 4 for c, p in zip(channels, (*self.passed[1:], 0), strict=True))

    @property
    def latent_channels(self) -> tuple[int, ...]:
        return tuple(width - passed for width, passed in zip(self.widths, self.passed, strict=True))

    def stages(self) -> list[Flow]:
        return list(_flows(self._stages))

    def forward(self, xs: Sequence[Tensor], conditions: Conditions) -> list[Latent]:
        return self.walk(xs, lambda index, x: self.stages()[index](x, conditions[index]))

    def walk(self, xs: Sequence[Tensor], stage: Callable[[int, Tensor], tuple[Tensor, Tensor]]) -> list[Latent]:
        """Run from the coarsest scale to the finest, with `stage` in place of the flow's own stages."""
        latents: list[Latent] = []
        carried: Tensor | None = None
        for index in reversed(range(len(xs))):
            x = xs[index] if carried is None else torch.cat([xs[index], F.pixel_shuffle(carried, 2)], dim=1)
            y, log_det = stage(index, x)
            kept = self.latent_channels[index]
            carried = y[:, kept:]
            latents.append(Latent(y[:, :kept] if self.passed[index] else y, log_det))
        return latents[::-1]

    def inverse(self, zs: Sequence[Tensor], conditions: Conditions) -> list[Tensor]:
        xs: list[Tensor] = []
        carried: Tensor | None = None
        for index, (z, flow) in enumerate(zip(zs, self.stages(), strict=True)):
            y = z if carried is None else torch.cat([z, F.pixel_unshuffle(carried, 2)], dim=1)
            x = flow.inverse(y, conditions[index])
            xs.append(x[:, : self.channels[index]])
            carried = x[:, self.channels[index] :]
        return xs

    @torch.no_grad()
    def initialise(self, xs: Sequence[Tensor], conditions: Conditions) -> None:
        def stage(index: int, x: Tensor) -> tuple[Tensor, Tensor]:
            self.stages()[index].initialise(x, conditions[index])
            return self.stages()[index](x, conditions[index])  # type: ignore[no-any-return]

        self.walk(xs, stage)


def _flows(modules: nn.ModuleList) -> Iterator[Flow]:
    for module in modules:
        assert isinstance(module, Flow)
        yield module
