"""Flow detector: frozen features, levels, one flow over them, a base distribution, a score head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.flows.base import DiagonalBase
from edgead.flows.flow import Flow, FlowSequence, per_sample
from edgead.flows.linear import ActNorm, SharedLinear
from edgead.flows.multiscale import Conditions, Latent, MultiScaleFlow, ParallelFlow
from edgead.flows.position_code import position_code
from edgead.models.backbone import Backbone
from edgead.models.composition import Composition
from edgead.models.level import Level, squared_norm
from edgead.models.scoring import ScoreHead

LossKind = Literal["nll", "log_sigmoid"]
Transform = Callable[[Sequence[Tensor]], list[Latent]]


@dataclass(frozen=True)
class TrainingBatch:
    """Input of a training step, per level.

    Attributes:
        whitened: Outputs of the frozen first layers, `(N, C, h, w)`; for random feature vectors ("fibers"), `(1, C, 1, n)`.
        conditions: Matching position codes, or None.
        labels: Matching class indices, int64, `(N,)` or `(1, 1, n)`.
        draws: Standard normal numbers `(N, n_draws, 1, 1)` for a detector that needs them, else None.
    """

    whitened: list[Tensor]
    conditions: list[Tensor | None]
    labels: list[Tensor]
    draws: Tensor | None = None


class Detector(nn.Module):
    """Detector assembled from parts: FastFlow, CFLOW or U-Flow, with either coupling and base.

    FastFlow (Yu et al., 2021, arXiv:2111.07677), CFLOW-AD (Gudovskiy et al., 2021, arXiv:2107.12571), U-Flow (Tailanian
    et al., 2024, arXiv:2211.12353). Deviates from all: features are standardised by a frozen first layer instead of a
    trainable LayerNorm or none, a level may join several feature maps on one grid, and the score is a standardised norm
    (`scoring.py`).

    Args:
        backbone: Frozen features for every key that a level names.
        levels: Features of each scale.
        flow: Flow over the outputs of the levels.
        bases: Flow from each latent to the standard normal base.
        head: Score head, from latent norms to map and score.
        position_channels: Number of channels of the couplings' position code; 0 = none.
        likelihood_map: Whether the map includes each position's log-determinant, as in CFLOW, or not, as in FastFlow and
            U-Flow; for a uniform flow it is constant and left out.
        loss: Objective: `nll`, or CFLOW's `log_sigmoid`, -log sigmoid(log p / C), with less weight on likely positions.
        gives_norms: Whether `forward` also returns the mean square of each level's latent, `(N, h, w)` each, with the
            mean and deviation of a standard normal latent: the input of the NFA segmentation.
        composition: What raises map and score where parts are missing, extra or swapped; None = nothing.
    """

    def __init__(
        self,
        backbone: Backbone,
        levels: Sequence[Level],
        flow: MultiScaleFlow,
        bases: Sequence[Flow],
        head: ScoreHead,
        *,
        position_channels: int = 0,
        likelihood_map: bool = False,
        loss: LossKind = "nll",
        gives_norms: bool = False,
        composition: Composition | None = None,
    ) -> None:
        super().__init__()
        if gives_norms and likelihood_map and not flow.is_uniform:
            raise ValueError("a map that includes log-determinants is not made of norms")
        self.backbone = backbone
        self._levels = nn.ModuleList(levels)
        self.flow = flow
        self.bases = nn.ModuleList(bases)
        self.head = head
        self.likelihood_map = likelihood_map
        self.loss_kind = loss
        self.gives_norms = gives_norms
        self.composition = composition
        self.position_channels = position_channels
        for index, level in enumerate(levels if position_channels else ()):
            self.register_buffer(f"code_{index}", position_code(position_channels, *level.size), persistent=False)

    @property
    def levels(self) -> list[Level]:
        return [level for level in self._levels if isinstance(level, Level)]

    @property
    def n_classes(self) -> int:
        """Number of classes K of the optional input `class_bias` `(N, K)`; 0 for a detector without classes."""
        return 0

    @property
    def n_draws(self) -> int:
        """Number of standard normal numbers per image that `loss_terms` needs; 0 for a deterministic loss."""
        return 0

    @property
    def is_standard_normal(self) -> bool:
        """Whether maximum likelihood makes the latents standard normal."""
        return self.loss_kind == "nll"

    @property
    def has_normal_base(self) -> bool:
        """Whether the likelihood is that of a standard normal latent, a function of its norm and log-determinant."""
        return True

    @property
    def norm_names(self) -> tuple[str, ...]:
        """Names of the outputs with the standardised mean square of each level's latent; empty unless `gives_norms`."""
        return tuple(f"level_norm_{index}" for index in range(len(self._levels))) if self.gives_norms else ()

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Names and sizes, without the batch, of the outputs of `forward`."""
        norms = zip(self.norm_names, self.head.sizes, strict=False)
        return {"anomaly_map": self.head.size, "pred_score": (), **dict(norms)}

    @property
    def needs_log_det(self) -> bool:
        """Whether the score needs the log-determinant of each position."""
        return self.likelihood_map and not self.flow.is_uniform

    @property
    def needs_latent(self) -> bool:
        """Whether the score needs the latent itself, not only its norm."""
        return any(level.centres is not None for level in self.levels)

    @property
    def flow_grids(self) -> list[tuple[Flow | None, int, tuple[int, int]]]:
        """Input of each stage of the flow: its frozen first layer, None if `inputs` includes it; channels; `(h, w)`."""
        return [(level.start, level.channels, level.size) for level in self.levels]

    def codes(self) -> list[Tensor | None]:
        """Position code `(1, P, h, w)` of each level, or None."""
        if not self.position_channels:
            return [None] * len(self._levels)
        return [self.get_buffer(f"code_{index}") for index in range(len(self._levels))]

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Backbone features by key from `(N, H, W, 3)` uint8 RGB."""
        return self.backbone(images)  # type: ignore[no-any-return]

    def inputs(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Inputs `(N, C, h, w)` of the whole flow, before the frozen first layer, per level."""
        return [level.inputs(features) for level in self.levels]

    def initialise(self, whitened: Sequence[Tensor]) -> None:
        """Initialise parameters from data: the whitened features of some good images."""
        self.flow.initialise(whitened, self.codes())

    def latents(self, whitened: Sequence[Tensor], conditions: Conditions | None = None) -> list[Latent]:
        """Standard normal latents of whitened features; without conditions, those of whole maps."""
        found = self.flow(whitened, self.codes() if conditions is None else conditions)
        latents = []
        for base, (z, log_det) in zip(self.bases, found, strict=True):
            u, step = base(z)
            latents.append(Latent(u, log_det + step))
        return latents

    def transform(self, inputs: Sequence[Tensor]) -> list[Latent]:
        """Apply the whole flow: first layer, couplings, base. The constant log-determinant of the first layer is left out."""
        return self.latents([level.whiten(x) for level, x in zip(self.levels, inputs, strict=True)])

    def loss_terms(self, batch: TrainingBatch, stage: int = 2) -> list[Tensor]:
        """Scalars to minimise, each the mean over the samples of its level; a single one if the levels form one flow.

        Args:
            batch: Batch of whole maps or of fibers.
            stage: Stage of two-stage objectives; not used here.
        """
        latents = self.latents(batch.whitened, batch.conditions)
        if self.loss_kind == "log_sigmoid":
            return [-F.logsigmoid(log_likelihood(latent) / latent.z.shape[1]).mean() for latent in latents]
        sums = [0.5 * z.square().sum(dim=1) - log_det for z, log_det in latents]
        if isinstance(self.flow, ParallelFlow):
            return [s.mean() / x.shape[1] for s, x in zip(sums, batch.whitened, strict=True)]
        size = sum(x[0].numel() for x in batch.whitened)
        return [torch.stack([per_sample(s) for s in sums]).sum(dim=0).mean() / size]

    def start_constant(self) -> float:
        """Contribution of the frozen first layer that makes the loss the likelihood of the features; 0 for other losses."""
        if self.loss_kind != "nll":
            return 0.0
        terms = [(start_log_det(level), level.channels * level.size[0] * level.size[1]) for level in self.levels]
        if isinstance(self.flow, ParallelFlow):
            return -sum(value / size for value, size in terms)
        return -sum(value for value, _ in terms) / sum(size for _, size in terms)

    def nll_and_norm(self, images: Tensor) -> tuple[Tensor, Tensor]:
        r"""Negative log-likelihood and half the squared norm of the whole latent of `(N, H, W, 3)` uint8 RGB, `(N,)` each.

        The former in nats without the constant log(2 pi)/2 per dimension. For a uniform flow they differ by one constant
        for all images, and the latter is the loss of Deep SVDD (Abu Zaid et al., 2025, arXiv:2510.09452):
        :math:`-\log p(x) = \tfrac12 \lVert F(x) \rVert^2 - \log\lvert\det J\rvert`.
        """
        latents = self.transform(self.inputs(self.features(images)))
        norm = torch.stack([0.5 * per_sample(z.square().sum(dim=1)) for z, _ in latents]).sum(dim=0)
        log_det = torch.stack([per_sample(d) for _, d in latents]).sum(dim=0)
        starts = [start_log_det(level) for level, grid in zip(self.levels, self.flow_grids, strict=True) if grid[0]]
        return norm - log_det - sum(starts), norm

    def nll(self, images: Tensor) -> Tensor:
        """Negative log-likelihood per image; see `nll_and_norm`."""
        return self.nll_and_norm(images)[0]

    def class_bias(self, labels: Tensor) -> Tensor | None:
        """Input `class_bias` `(N, K)` for images of known classes, from indices `(N,)`; None if K is 0."""
        return None

    def statistics(self, latents: Sequence[Latent], class_bias: Tensor | None = None) -> list[Tensor]:
        """Input of the score head: the energy `(N, h, w)` of each level."""
        if not self.needs_log_det:
            return [level.energy(z) for level, (z, _) in zip(self.levels, latents, strict=True)]
        # channels come from the flow: a size read from a tensor would stay in the exported graph
        channels = self.flow.latent_channels
        return [squared_norm(z) - log_det * (2.0 / c) for (z, log_det), c in zip(latents, channels, strict=True)]

    def score(self, statistics: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs of `forward`, from the statistics."""
        found: tuple[Tensor, ...] = self.head(statistics)
        return (*found, *self.head.as_if_normal(statistics, self.flow.latent_channels)) if self.gives_norms else found

    def fit_head(self, fitted: Sequence[Tensor], unseen: Sequence[Tensor]) -> None:
        """Set the constants of the score from the statistics of good images, fitted ones and others."""
        self.head.fit(fitted, unseen, are_norms=not self.needs_log_det)

    def run(self, images: Tensor, transform: Transform, class_bias: Tensor | None = None) -> tuple[Tensor, ...]:
        """Run from images to the outputs, with `transform` replaceable: the exported graph has a folded one."""
        features = self.features(images)
        latents = transform(self.inputs(features))
        outputs = self.score(self.statistics(latents, class_bias))
        return outputs if self.composition is None else self.composition.raised(features, outputs)

    def forward(self, images: Tensor, class_bias: Tensor | None = None) -> tuple[Tensor, ...]:
        """Outputs named by `outputs`, `anomaly_map` and `pred_score` first, of `(N, H, W, 3)` uint8 RGB."""
        return self.run(images, self.transform, class_bias)

    def drop_couplings(self) -> None:
        """Keep the first layer alone, followed by an identity scale and offset per channel."""
        device = next(self.parameters()).device
        channels = [level.channels for level in self.levels]
        self.flow = ParallelFlow([FlowSequence([ActNorm(c)]) for c in channels], channels).to(device)
        self.bases = nn.ModuleList(FlowSequence([]) for _ in channels)

    def base_parameters(self) -> list[nn.Parameter]:
        """Parameters of learnable base distributions, which AltUB trains in separate steps."""
        return [p for base in self.bases if isinstance(base, DiagonalBase) for p in base.parameters()]


def log_likelihood(latent: Latent) -> Tensor:
    """Log-density of each position under the standard normal base, `(N, h, w)`, nats."""
    channels = latent.z.shape[1]
    return latent.log_det - 0.5 * latent.z.square().sum(dim=1) - 0.5 * channels * math.log(2.0 * math.pi)


@torch.no_grad()
def start_log_det(level: Level) -> float:
    """Log |det| of a level's frozen first layer over all positions, nats."""
    if isinstance(level.start, (ActNorm, SharedLinear)):
        return float(level.start.log_abs_det().cpu().double()) * level.size[0] * level.size[1]
    return float(torch.linalg.slogdet(level.start.weight.cpu().double()).logabsdet.sum())
