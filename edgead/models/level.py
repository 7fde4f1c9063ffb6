"""One level of a detector: backbone features brought to one grid, and the flow over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import ConfigError
from edgead.flows.blocks import CouplingKind, MixKind, coupling_block
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import ActNorm, PositionLinear


@dataclass(frozen=True)
class LevelSpec:
    """Which features a level sees: `(stride, channels)` pairs, the first giving the grid; 0 channels = all of them.

    Written `16+32:100`: the grid and all channels of stride 16, beside them 100 principal channels of stride 32.
    """

    sources: tuple[tuple[int, int], ...]

    @staticmethod
    def parse(text: str) -> LevelSpec:
        """Read the written form.

        Raises:
            ConfigError: If it is not `STRIDE[:CHANNELS][+STRIDE[:CHANNELS]...]`.
        """
        sources = []
        for part in text.split("+"):
            match = re.fullmatch(r"\s*(\d+)(?::(\d+))?\s*", part)
            if not match:
                raise ConfigError(
                    f"model.levels entry {text!r} is not STRIDE[:CHANNELS] joined by '+'.",
                    hint="For example 16+32:100.",
                )
            sources.append((int(match[1]), int(match[2] or 0)))
        return LevelSpec(tuple(sources))

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(stride for stride, _ in self.sources)


@dataclass(frozen=True)
class FlowSettings:
    """How the flow of a level is made.

    Attributes:
        coupling: `uniform` or `affine`.
        mix: How channels are mixed between couplings; see `coupling_block`.
        blocks: Number of couplings.
        kernels: Kernel sizes of each subnet's two convolutions, repeated along the blocks.
        hidden_ratio: Hidden width of a subnet as a share of the level's channels.
        positions: Whether a per-position linear layer comes first.
        clamp: Of the affine coupling.
    """

    coupling: CouplingKind
    mix: MixKind
    blocks: int
    kernels: tuple[tuple[int, int], ...]
    hidden_ratio: float
    positions: bool
    clamp: float = 2.0


class Level(nn.Module):
    """Features of one grid and their flow: a frozen start in closed form, then trained couplings.

    Args:
        spec: What the level sees.
        channels: Channels of each backbone stride.
        sizes: `(height, width)` of each backbone stride.
        settings: How the flow is made.

    Attributes:
        projections: Per source, a fixed 1x1 convolution to its principal channels, or the identity.
        start: The frozen first layer: per position, or one scale per channel.
        couplings: What is trained.
    """

    def __init__(
        self, spec: LevelSpec, channels: Mapping[int, int], sizes: Mapping[int, tuple[int, int]], settings: FlowSettings
    ) -> None:
        super().__init__()
        self.spec = spec
        self.sizes = dict(sizes)
        self.size = sizes[spec.sources[0][0]]
        self.projections = nn.ModuleList(_projection(stride, kept, channels[stride]) for stride, kept in spec.sources)
        self.channels = sum(kept or channels[stride] for stride, kept in spec.sources)
        self.start: PositionLinear | ActNorm
        if settings.positions:
            count = self.size[0] * self.size[1]
            identity = torch.eye(self.channels).repeat(count, 1, 1)
            self.start = PositionLinear(identity, torch.zeros(count, self.channels))
        else:
            self.start = ActNorm(self.channels)
        self.start.requires_grad_(False)
        self.couplings = coupling_sequence(self.channels, settings)
        self._settings = settings

    @property
    def flow(self) -> FlowSequence:
        """The whole flow, from the level's input to the latent."""
        return FlowSequence([self.start, self.couplings])

    def inputs(self, features: Mapping[int, Tensor]) -> Tensor:
        """The flow's input `(N, C, h, w)` from backbone features by stride."""
        parts = []
        for (stride, _), projection in zip(self.spec.sources, self.projections, strict=True):
            parts.append(resample(projection(features[stride]), self.sizes[stride], self.size))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def started(self, features: Mapping[int, Tensor]) -> Tensor:
        """Output of the frozen start `(N, C, h, w)`: what training needs, computed once."""
        return self.start(self.inputs(features))[0]  # type: ignore[no-any-return]

    def drop_couplings(self) -> None:
        """Leave the start alone, followed by a scale and offset per channel that change nothing."""
        device = next(self.couplings.parameters()).device
        self.couplings = coupling_sequence(self.channels, replace(self._settings, blocks=0)).to(device)

    def norm(self, started: Tensor) -> Tensor:
        """Mean square of the latent at each position, `(N, h, w)`, from the output of the start."""
        return squared_norm(self.couplings(started)[0])


def coupling_sequence(channels: int, settings: FlowSettings) -> FlowSequence:
    """The trained part of a level's flow, ending in a scale and offset per channel."""
    flows: list[Flow] = [
        coupling_block(
            channels,
            coupling=settings.coupling,
            mix=settings.mix,
            kernel_sizes=settings.kernels[index % len(settings.kernels)],
            hidden_channels=max(1, round(settings.hidden_ratio * channels)),
            clamp=settings.clamp,
        )
        for index in range(settings.blocks)
    ]
    return FlowSequence([*flows, ActNorm(channels)])


def squared_norm(z: Tensor) -> Tensor:
    """Mean square over the channels: `(N, C, h, w)` to `(N, h, w)`, >= 0, expected 1 for a good position."""
    return z.square().mean(dim=1)


def resample(x: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Bring `(N, C, *source)` to `(N, C, *target)`: bilinear when growing, average when shrinking.

    The sizes are given rather than read from `x`, so that an exported graph holds constants.
    """
    if source == target:
        return x
    if source[0] > target[0]:
        return F.avg_pool2d(x, (source[0] // target[0], source[1] // target[1]))
    factor = (target[0] / source[0], target[1] / source[1])
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _projection(stride: int, kept: int, available: int) -> nn.Module:
    if kept > available:
        raise ConfigError(f"model.levels asks stride {stride} for {kept} channels; it has {available}.")
    if kept in (0, available):
        return nn.Identity()
    return nn.Conv2d(available, kept, 1).requires_grad_(False)
