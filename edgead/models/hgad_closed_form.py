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
from edgead.models.level import Level, LevelSpec
from edgead.runner import CLASS_EXCLUDED
from edgead.triangles import stored_in_triangle

POSITIONS, CENTRES = "positions", "centres"
# Multiply-adds that take as long as reading one weight: from the engine times of 15 classes at 256 px in ONNX Runtime on a CPU.
READ = 30


class ClosedFormHgad(Detector):
    """Mixture over classes whose parts are fitted in closed form, each to the good images of its class alone.

    The backbone is shared, and runs once for each input size that a class has. A class adds the principal channels of its
    features and a frozen first layer per level, which whitens them: one linear map per position, or one for all positions
    with centres. Deviates from HGAD (Yao et al., 2024, arXiv:2403.13349): no flow and no mixture is trained, so there is no entropy map, and a class can be added without
    fitting the others again; the class is decided for the whole image, see `ClassHead`.

    Args:
        backbone: Frozen features.
        specs: Features of each level of each class; as many levels in all classes.
        forms: Form of each class, `positions` or `centres`.
        centres: Number of centres of each class; without meaning for a class of another form.
        weights: Weight of each level.
        top_fractions: Share of the map that the image score averages over, for each class.
        class_share: Share of the map, lowest values first, that tells the class.
    """

    head: ClassHead  # type: ignore[assignment]

    def __init__(
        self,
        backbone: Backbone,
        specs: Sequence[Sequence[LevelSpec]],
        forms: Sequence[str],
        *,
        centres: Sequence[int],
        weights: Sequence[float],
        top_fractions: Sequence[float],
        class_share: float = 1.0,
    ) -> None:
        by_class = [
            [class_level(backbone, spec, form, count) for spec in own]
            for form, count, own in zip(forms, centres, specs, strict=True)
        ]
        of_classes = [level for own in by_class for level in own]
        channels = [level.channels for level in of_classes]
        sizes = [[level.size for level in own] for own in by_class]
        super().__init__(
            backbone,
            of_classes,
            ParallelFlow([FlowSequence([ActNorm(c)]) for c in channels], channels),
            [FlowSequence([]) for _ in of_classes],
            ClassHead(sizes, weights, top_fractions, class_share),  # type: ignore[arg-type]
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


def class_specs(levels: Sequence[str], size: int, image_size: int) -> list[LevelSpec]:
    """Features of the levels of a class whose input is the image at `size` pixels, which divides `image_size`.

    Args:
        levels: Levels in their written form, see `LevelSpec`.
        size: Side of the class's input, in pixels.
        image_size: Side of the model's input, in pixels.
    """
    return [LevelSpec.parse(text).at_size(size, image_size) for text in levels]


def class_level(backbone: Backbone, spec: LevelSpec, form: str, centres: int) -> Level:
    """Level of one class, not fitted yet."""
    return Level(
        spec, backbone.channels, backbone.sizes, positions=form == POSITIONS, centres=centres * (form == CENTRES)
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

    @property
    def total(self) -> int:
        """Multiply-adds per image, and those in whose time its weights are read."""
        return self.multiply_adds + round(READ * self.megabytes * 1e6 / 4)


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
            stored = stored_in_triangle(channels)
            values += positions * (stored + channels)
            products += positions * stored
        else:
            count = len(level.centres)
            values += channels * (channels + 1) + count * (channels + 1)
            products += positions * channels * (channels + count)
    return ClassCost(4e-6 * values, products)
