"""Level of a detector: backbone features on one grid and on a common scale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import ConfigError
from edgead.flows.linear import ActNorm, PositionLinear, SharedLinear
from edgead.models.feature_key import FeatureKey


@dataclass(frozen=True)
class LevelSpec:
    """Features of a level: `(key, channels)` pairs; the first defines the grid, and 0 channels means all of them.

    Written `16+32:100`: the grid and all channels of stride 16, joined by 100 principal channels of stride 32. Keys may
    be longer, see `FeatureKey`.
    """

    sources: tuple[tuple[str, int], ...]

    @staticmethod
    def parse(text: str) -> LevelSpec:
        """Parse the written form.

        Raises:
            ConfigError: If the text is not `KEY[:CHANNELS][+KEY[:CHANNELS]...]`.
        """
        sources = []
        for part in text.split("+"):
            match = re.fullmatch(r"\s*([^:\s]+)\s*(?::(\d+))?\s*", part)
            if not match:
                raise ConfigError(
                    f"model.levels entry {text!r} is not STRIDE[:CHANNELS] joined by '+'.",
                    hint="For example 16+32:100.",
                )
            sources.append((str(FeatureKey.parse(match[1])), int(match[2] or 0)))
        return LevelSpec(tuple(sources))

    def at_size(self, size: int, image_size: int) -> LevelSpec:
        """Same features of the image at another size, for a pyramid; unchanged for `image_size` itself."""
        if size == image_size:
            return self
        keys = [(FeatureKey.parse(key), kept) for key, kept in self.sources]
        return LevelSpec(tuple((str(FeatureKey(k.backbone, size, k.stride, k.block)), kept) for k, kept in keys))

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key, _ in self.sources)


class Level(nn.Module):
    """Features on one grid, and the frozen first layer of their flow, fitted in closed form.

    Args:
        spec: Features of the level.
        channels: Number of channels of each feature map of the backbone.
        sizes: Size `(height, width)` of each feature map.
        positions: Whether the first layer is a separate linear map at every position.
        centres: Number K of centres of the whitened features, with one first layer for all positions; 0 = none. Without
            either, the first layer is a scale per channel.

    Attributes:
        projections: Fixed 1x1 convolution of each source to its principal channels, or the identity.
        start: Frozen first layer: a linear map per position, one for all positions, or a scale per channel.
        centres: Centres `(K, C)` of the whitened features; None without any.
    """

    centres: Tensor | None

    def __init__(
        self,
        spec: LevelSpec,
        channels: Mapping[str, int],
        sizes: Mapping[str, tuple[int, int]],
        positions: bool,
        centres: int = 0,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.sizes = dict(sizes)
        self.size = sizes[spec.keys[0]]
        self.projections = nn.ModuleList(_projection(key, kept, channels[key]) for key, kept in spec.sources)
        self.channels = sum(kept or channels[key] for key, kept in spec.sources)
        self.register_buffer("centres", torch.zeros(centres, self.channels) if centres else None)
        self.start: PositionLinear | SharedLinear | ActNorm
        if centres:
            self.start = SharedLinear(torch.eye(self.channels), torch.zeros(self.channels))
        elif positions:
            count = self.size[0] * self.size[1]
            identity = torch.eye(self.channels).repeat(count, 1, 1)
            self.start = PositionLinear(identity, torch.zeros(count, self.channels))
        else:
            self.start = ActNorm(self.channels)
        self.start.requires_grad_(False)

    def inputs(self, features: Mapping[str, Tensor]) -> Tensor:
        """Input `(N, C, h, w)` of the flow, from backbone features by key."""
        parts = []
        for (key, _), projection in zip(self.spec.sources, self.projections, strict=True):
            parts.append(resample(projection(features[key]), self.sizes[key], self.size))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def whitened(self, features: Mapping[str, Tensor]) -> Tensor:
        """Output `(N, C, h, w)` of the frozen first layer, computed once for the whole training."""
        return self.whiten(self.inputs(features))

    def whiten(self, x: Tensor) -> Tensor:
        """Output of the frozen first layer for its input `(N, C, h, w)`."""
        return self.start(x)[0] if isinstance(self.start, ActNorm) else self.start.whiten(x)

    def energy(self, z: Tensor) -> Tensor:
        """Mean square of latents `(N, C, h, w)` over the channels, from the nearest centre if there are any, `(N, h, w)`."""
        return squared_norm(z) if self.centres is None else nearest_norm(z, self.centres)


def squared_norm(z: Tensor) -> Tensor:
    """Mean square over the channels: `(N, C, h, w)` to `(N, h, w)`, >= 0, expected 1 for a good position."""
    return z.square().mean(dim=1)


def nearest_norm(z: Tensor, centres: Tensor) -> Tensor:
    """Mean square over the channels of the offset of `(N, C, h, w)` from the nearest of K centres `(K, C)`, `(N, h, w)`.

    Up to the constants, the negative log-likelihood of an equal mixture of unit Gaussians with its sum replaced by its
    largest term. The products with the centres are one 1x1 convolution; the norm of z stays in floating point.
    """
    affinity = F.conv2d(z, 2.0 * centres[:, :, None, None], -centres.square().sum(dim=1))
    return (z.square().sum(dim=1) - affinity.amax(dim=1)) / centres.shape[1]


def resample(x: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Resample `(N, C, *source)` to `(N, C, *target)`: bilinear when growing, average when shrinking.

    The sizes are arguments rather than read from `x`, so that an exported graph contains constants.
    """
    if source == target:
        return x
    if source[0] > target[0]:
        return F.avg_pool2d(x, (source[0] // target[0], source[1] // target[1]))
    factor = (target[0] / source[0], target[1] / source[1])
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _projection(key: str, kept: int, available: int) -> nn.Module:
    if kept > available:
        raise ConfigError(f"model.levels requests {kept} channels of {key}, which has {available}.")
    if kept in (0, available):
        return nn.Identity()
    return nn.Conv2d(available, kept, 1).requires_grad_(False)
