"""FastFlow with either coupling: a frozen backbone, one flow per level, one score head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgead.flows.flow import Flow
from edgead.models.backbone import Backbone
from edgead.models.level import FlowSettings, Level, LevelSpec
from edgead.models.scoring import ScoreHead


class FastFlow(nn.Module):
    """Normalizing flows on feature maps (Yu et al., 2021, arXiv:2111.07677), affine or uniformly scaling.

    Deviates from the paper: a level may join several strides on one grid, its flow may start with a linear map of its
    own at every position, and the score is a standardised norm (`scoring.py`).

    Args:
        backbone: Frozen features for every stride that a level names.
        levels: What each level sees.
        settings: How the flows are made.
        level_weights: Weight of each level's standardised map.
        top_fraction: Share of the map that the image score averages over.
    """

    def __init__(
        self,
        backbone: Backbone,
        levels: Sequence[LevelSpec],
        settings: FlowSettings,
        level_weights: Sequence[float],
        top_fraction: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self._levels = nn.ModuleList(Level(spec, backbone.channels, backbone.sizes, settings) for spec in levels)
        self.head = ScoreHead([level.size for level in self.levels], level_weights, top_fraction)

    @property
    def levels(self) -> list[Level]:
        return [level for level in self._levels if isinstance(level, Level)]

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Backbone features by stride from `(N, H, W, 3)` uint8 RGB."""
        return dict(zip(self.backbone.strides, self.backbone(images), strict=True))

    def nll(self, images: Tensor) -> Tensor:
        """Negative log-likelihood per sample, `(N,)`, of `(N, H, W, 3)` uint8 RGB: see `level_nll`, summed."""
        features = self.features(images)
        terms = [level_nll(level.flow, level.inputs(features)) for level in self.levels]
        return torch.stack(terms).sum(dim=0)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`anomaly_map` `(N, h, w)` and `pred_score` `(N,)` of `(N, H, W, 3)` uint8 RGB."""
        features = self.features(images)
        return self.head([level.norm(level.started(features)) for level in self.levels])  # type: ignore[no-any-return]


def level_nll(flow: Flow, x: Tensor) -> Tensor:
    """Negative log-likelihood per sample, `(N,)`, nats per dimension, without the constant log(2 pi)/2."""
    z, log_det = flow(x)
    return (0.5 * z.square().flatten(1).sum(dim=1) - log_det) / z[0].numel()
