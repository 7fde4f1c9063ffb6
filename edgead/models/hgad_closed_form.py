"""HGAD in closed form: one model of many classes, each with its own Gaussians per position or centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgead.flows.flow import FlowSequence
from edgead.flows.linear import ActNorm
from edgead.flows.multiscale import Latent, ParallelFlow
from edgead.models.backbone import Backbone
from edgead.models.class_head import ClassHead
from edgead.models.detector import Detector, Transform
from edgead.models.level import Level
from edgead.runner import CLASS_EXCLUDED

POSITIONS, CENTRES = "positions", "centres"


class ClosedFormHgad(Detector):
    """Mixture over classes whose parts are fitted in closed form, each to the good images of its class alone.

    The backbone is shared. A class adds the principal channels of its features and a frozen first layer per level, which
    whitens them: one linear map per position, or one for all positions with centres. Deviates from HGAD (Yao et al., 2024,
    arXiv:2403.13349): no flow and no mixture is trained, so there is no entropy map, and a class can be added without
    fitting the others again; the class is decided for the whole image, see `ClassHead`.

    Args:
        backbone: Frozen features.
        levels: Levels that say which features each class has; their weights are not used.
        forms: Form of each class, `positions` or `centres`.
        centres: Number of centres of a class of the form `centres`.
        weights: Weight of each level.
        top_fractions: Share of the map that the image score averages over, for each class.
    """

    head: ClassHead  # type: ignore[assignment]

    def __init__(
        self,
        backbone: Backbone,
        levels: Sequence[Level],
        forms: Sequence[str],
        *,
        centres: int,
        weights: Sequence[float],
        top_fractions: Sequence[float],
    ) -> None:
        of_classes = [class_level(backbone, level, form, centres) for form in forms for level in levels]
        channels = [level.channels for level in of_classes]
        super().__init__(
            backbone,
            of_classes,
            ParallelFlow([FlowSequence([ActNorm(c)]) for c in channels], channels),
            [FlowSequence([]) for _ in of_classes],
            ClassHead([level.size for level in levels], weights, top_fractions),  # type: ignore[arg-type]
        )
        self.classes = len(forms)

    @property
    def n_classes(self) -> int:
        return self.classes

    @property
    def has_normal_base(self) -> bool:
        return False

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        return {**super().outputs, "class_score": (self.classes,)}

    def levels_of(self, index: int) -> list[Level]:
        """Levels of one class."""
        count = len(self.levels) // self.classes
        return self.levels[index * count : (index + 1) * count]

    def class_bias(self, labels: Tensor) -> Tensor:
        bias = torch.full((len(labels), self.classes), CLASS_EXCLUDED, device=labels.device)
        return bias.scatter(1, labels[:, None], 0.0)

    def score(self, statistics: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return self.head(statistics)  # type: ignore[no-any-return]

    def run(self, images: Tensor, transform: Transform, class_bias: Tensor | None = None) -> tuple[Tensor, ...]:
        latents: list[Latent] = transform(self.inputs(self.features(images)))
        return self.head(self.statistics(latents), class_bias)  # type: ignore[no-any-return]


def class_level(backbone: Backbone, level: Level, form: str, centres: int) -> Level:
    """Level of one class, not fitted yet, with the features of another level."""
    return Level(
        level.spec, backbone.channels, backbone.sizes, positions=form == POSITIONS, centres=centres * (form == CENTRES)
    )


@dataclass(frozen=True)
class ClassCost:
    """What a class adds to the graph.

    Attributes:
        megabytes: Weights in float32; a quarter of it in INT8.
        multiply_adds: Multiply-adds per image.
    """

    megabytes: float
    multiply_adds: int


def class_cost(levels: Sequence[Level]) -> ClassCost:
    """Cost of the levels of one class."""
    values = products = 0
    for level in levels:
        positions, channels = level.size[0] * level.size[1], level.channels
        for key, projection in zip(level.spec.keys, level.projections, strict=True):
            if isinstance(projection, nn.Conv2d):
                values += projection.weight.numel() + projection.out_channels
                products += projection.weight.numel() * level.sizes[key][0] * level.sizes[key][1]
        if level.centres is None:
            values += positions * channels * (channels + 1)
            products += positions * channels**2
        else:
            count = len(level.centres)
            values += channels * (channels + 1) + count * (channels + 1)
            products += positions * channels * (channels + count)
    return ClassCost(4e-6 * values, products)
