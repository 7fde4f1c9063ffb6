"""HGAD: one detector for many classes of parts, with a Gaussian mixture per class as the base distribution."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from edgead.flows.flow import FlowSequence
from edgead.flows.mixture import LOSS_TERMS, HierarchicalMixture, LossTerm, hgad_loss
from edgead.flows.multiscale import Latent, MultiScaleFlow
from edgead.models.backbone import Backbone
from edgead.models.detector import Detector, TrainingBatch
from edgead.models.hgad_head import HgadHead, HgadMode, LevelStatistics
from edgead.models.level import Level
from edgead.runner import CLASS_EXCLUDED


class HgadDetector(Detector):
    """Hierarchical Gaussian mixture normalizing flow (Yao et al., 2024, arXiv:2403.13349), with either coupling.

    Conditional flows side by side, usually over one stride of an image pyramid; the class of each training image shapes
    the base distribution. At inference the optional input `class_bias` states the known class, or any. Deviates:
    see `HgadHead` for the score, `HierarchicalMixture` for the prior; the features are standardised by a frozen first
    layer; the best epoch is not chosen on test images. With additive couplings it is HGAD-USF.

    Args:
        backbone, levels, flow: Same as for `Detector`.
        classes: Number of classes K >= 1.
        components: Number of Gaussians per class.
        mode: Score map: `product` of likelihood and entropy map, or `likelihood` alone.
        top_fraction: Share of the map that the image score averages over.
        position_channels: Number of channels of the position code.
        terms: Terms of the loss besides the likelihood, see `hgad_loss`.
    """

    head: HgadHead  # type: ignore[assignment]

    def __init__(
        self,
        backbone: Backbone,
        levels: Sequence[Level],
        flow: MultiScaleFlow,
        *,
        classes: int,
        components: int,
        mode: HgadMode,
        top_fraction: float,
        position_channels: int,
        terms: Collection[LossTerm] = LOSS_TERMS,
    ) -> None:
        mixtures = [HierarchicalMixture(level.channels, classes, components) for level in levels]
        head = HgadHead(mixtures, [level.size for level in levels], mode=mode, top_fraction=top_fraction)
        super().__init__(
            backbone,
            levels,
            flow,
            [FlowSequence([]) for _ in levels],
            head,  # type: ignore[arg-type]
            position_channels=position_channels,
            likelihood_map=True,
        )
        self.classes = classes
        self.terms = terms

    @property
    def n_classes(self) -> int:
        return self.classes

    @property
    def is_standard_normal(self) -> bool:
        return False

    @property
    def has_normal_base(self) -> bool:
        return False

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        return {**super().outputs, "class_score": (self.classes,)}

    @property
    def needs_log_det(self) -> bool:
        return True

    @property
    def needs_latent(self) -> bool:
        return True

    def loss_terms(self, batch: TrainingBatch, stage: int = 2) -> list[Tensor]:
        """Two-stage objective per level; see `hgad_loss`."""
        latents = self.latents(batch.whitened, batch.conditions)
        quadruples = zip(self.head.mixtures, latents, batch.labels, strict=True)
        return [
            hgad_loss(mixture, z, log_det, labels, stage, terms=self.terms).total
            for mixture, (z, log_det), labels in quadruples
        ]

    def start_constant(self) -> float:
        return 0.0

    def class_bias(self, labels: Tensor) -> Tensor:
        bias = torch.full((len(labels), self.classes), CLASS_EXCLUDED, device=labels.device)
        return bias.scatter(1, labels[:, None], 0.0)

    def statistics(self, latents: Sequence[Latent], class_bias: Tensor | None = None) -> list[Tensor]:
        """Likelihood, certainty and class score of each level, one after the other."""
        return [part for level in self.head.statistics(latents, class_bias) for part in level]

    def score(self, statistics: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return self.head.score(_by_level(statistics))

    def fit_head(self, fitted: Sequence[Tensor], unseen: Sequence[Tensor]) -> None:
        """Set the constants of the score from the statistics of good images, fitted ones and others."""
        self.head.fit([_by_level(fitted), _by_level(unseen)])


def _by_level(statistics: Sequence[Tensor]) -> list[LevelStatistics]:
    return [LevelStatistics(*statistics[i : i + 3]) for i in range(0, len(statistics), 3)]
