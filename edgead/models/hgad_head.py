"""Score of HGAD: likelihood map times entropy map, with constants fitted on good images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from edgead.flows.mixture import HierarchicalMixture, log_softmax, softmax_entropy

HgadMode = Literal["product", "likelihood"]
BLUR_SHARE = 4.0 / 256.0
SMALLEST_BLUR = 0.125
SMALLEST_FLOOR = 1e-3


class LevelStatistics(NamedTuple):
    """Statistics of one level, per position and per image; larger is more normal.

    Attributes:
        likelihood: Log-density per channel, `(N, h, w)`, nats.
        certainty: Negative entropy of the class, `(N, h, w)`, nats, -log K..0.
        class_score: Mean log-probability of each class, `(N, K)`, nats.
    """

    likelihood: Tensor
    certainty: Tensor
    class_score: Tensor


class HgadHead(nn.Module):
    r"""Score head of HGAD: from the latents of all levels to an anomaly map, a score per image and a score per class.

    .. math:: n = \sum_l \mathrm{up}\big(e^{\min(v_l - a_l, 0)}\big), \qquad S = \mathrm{blur}\,\max(c - n, f), \qquad
       A = S_\text{likelihood} \cdot S_\text{entropy}

    for the two statistics v, log-density per channel and negative entropy (Yao et al., 2024, arXiv:2403.13349;
    map conversion of its reference implementation). There a_l and c are maxima over all test images of a class, and the
    label of the test image picks the density. Deviates:

    * a_l and c are `quantile`s over the positions of good images (`fit`), the same for all classes, and values above
      a_l count as a_l. With a maximum over millions of positions, one odd position decides c, and the excess becomes a
      floor under the factor of every position, which hides the differences there and changes the ranking.
    * With constants that do not come from the same image, c - n can be negative, and the product of two negative
      factors would raise an alarm: f >= 0. The likelihood has f = 0.
    * A product is an AND: a factor of zero vetoes the other. Training with smoothed labels leaves good positions *less*
      certain (0.14 nats for 15 classes) than a latent far out along one centre, so a strange but confident
      position would score zero. The entropy factor therefore never falls below its `entropy_floor` quantile over good
      positions: it can raise an alarm, and lower one only to what is typical. `entropy_floor=0` is the published product.
    * The map has the size of the finest level and the blur 4/256 of its height and width (none below 1/8 px), instead
      of 256 px and 4 px; up-sampling (align_corners=True) and boundary (half-sample symmetric) are the published
      ones. Both are products with constant matrices.
    * The class may be unknown, see `HierarchicalMixture.log_likelihood`.

    With one class the entropy carries no information and the map is that of the likelihood. Factors saturate: a position
    that is impossible at all levels has S = c.

    Args:
        mixtures: Base distribution of each level; the head owns them, with all parameters.
        sizes: Grid `(h, w)` of each level; the map has the largest.
        mode: Score map: `product`, or `likelihood` for that factor alone.
        top_fraction: Share of the map's positions that the image score averages over; 0 takes the maximum, as published.
        quantile: Quantile over good positions for a_l and c; 1 = maximum.
        entropy_floor: Quantile over good positions of the entropy factor that is its lower bound, at least 0.001 so that
            equal entropies keep the likelihood's ranking; 0 = no bound.

    Raises:
        ValueError: If the mixtures and sizes do not pair up or disagree on the classes, or a share is not in 0..1.
    """

    def __init__(
        self,
        mixtures: Sequence[HierarchicalMixture],
        sizes: Sequence[tuple[int, int]],
        *,
        mode: HgadMode = "product",
        top_fraction: float = 0.0,
        quantile: float = 0.999,
        entropy_floor: float = 0.5,
    ) -> None:
        super().__init__()
        if not mixtures or len(mixtures) != len(sizes) or len({m.classes for m in mixtures}) > 1:
            raise ValueError("every level needs one mixture and one size, all with the same number of classes")
        for name, share in (("top_fraction", top_fraction), ("quantile", quantile), ("entropy_floor", entropy_floor)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} must be in 0..1, got {share}")
        self._mixtures = nn.ModuleList(mixtures)
        self.classes = mixtures[0].classes
        self.sizes = tuple(sizes)
        self.size = max(sizes)
        self.top_k = max(1, round(top_fraction * self.size[0] * self.size[1]))
        self.uses_entropy = mode == "product" and self.classes > 1
        self.quantile = quantile
        self.entropy_floor = entropy_floor
        self.blurs = BLUR_SHARE * max(self.size) >= SMALLEST_BLUR
        for kind in ("likelihood", "certainty"):
            for index in range(len(sizes)):
                self.register_buffer(f"{kind}_peak_{index}", torch.zeros(()))
            self.register_buffer(f"{kind}_total", torch.tensor(float(len(sizes))))
            self.register_buffer(f"{kind}_floor", torch.zeros(()))
        for axis, side in enumerate(self.size):
            self.register_buffer(f"blur_{axis}", blur_matrix(side, BLUR_SHARE * side), persistent=False)
            for index, size in enumerate(sizes):
                self.register_buffer(f"up_{axis}_{index}", resize_matrix(size[axis], side), persistent=False)

    @property
    def mixtures(self) -> list[HierarchicalMixture]:
        return [m for m in self._mixtures if isinstance(m, HierarchicalMixture)]

    def statistics(
        self, latents: Sequence[tuple[Tensor, Tensor]], class_bias: Tensor | None = None
    ) -> list[LevelStatistics]:
        """Statistics of each level.

        Args:
            latents: Latent z `(N, C, h, w)` and log_det `(N, h, w)` in nats, per level.
            class_bias: Bias `(N, K)`, 0 = allowed, -1e4 = excluded, for the likelihood alone; None = all allowed.
        """
        found = []
        for mixture, (z, log_det) in zip(self.mixtures, latents, strict=True):
            likelihood = mixture.log_likelihood(z, log_det, class_bias) / mixture.channels
            affinity = mixture.class_affinity(z)
            class_score = log_softmax(affinity).mean(dim=(2, 3))
            found.append(LevelStatistics(likelihood, -softmax_entropy(affinity), class_score))
        return found

    def score(self, statistics: Sequence[LevelStatistics]) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of `forward`, from the statistics."""
        anomaly_map = self._factor("likelihood", [e.likelihood for e in statistics])
        if self.uses_entropy:
            anomaly_map = anomaly_map * self._factor("certainty", [e.certainty for e in statistics])
        flat = anomaly_map.reshape(-1, self.size[0] * self.size[1])
        pred_score = flat.amax(dim=1) if self.top_k == 1 else flat.topk(self.top_k, dim=1).values.mean(dim=1)
        class_score = sum((e.class_score for e in statistics[1:]), statistics[0].class_score) / len(statistics)
        return anomaly_map, pred_score, class_score

    def forward(
        self, latents: Sequence[tuple[Tensor, Tensor]], class_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score latents; the arguments are those of `statistics`.

        Returns:
            `anomaly_map` `(N, h, w)`, >= 0; `pred_score` `(N,)`; `class_score` `(N, K)`, nats, the mean over positions,
            then levels, of the log-probability of each class: its argmax is the predicted class, whatever the bias.
        """
        return self.score(self.statistics(latents, class_bias))

    @torch.no_grad()
    def fit(self, batches: Iterable[Sequence[LevelStatistics]]) -> None:
        """Set the constants from the statistics of good images, computed with the class bias of later use.

        They are kept on the CPU, 8 bytes per position.

        Raises:
            ValueError: If there are no batches.
        """
        kept = [[(e.likelihood.cpu(), e.certainty.cpu()) for e in batch] for batch in batches]
        if not kept:
            raise ValueError("the score needs the statistics of at least one good image")
        self._fit_factor("likelihood", [[likelihood for likelihood, _ in batch] for batch in kept], 0.0)
        self._fit_factor("certainty", [[certainty for _, certainty in batch] for batch in kept], self.entropy_floor)

    def _fit_factor(self, kind: str, batches: Sequence[Sequence[Tensor]], floor: float) -> None:
        for index in range(len(self.sizes)):
            values = torch.cat([batch[index].flatten() for batch in batches])
            self.get_buffer(f"{kind}_peak_{index}").copy_(_quantile(values, self.quantile))
        total = self.get_buffer(f"{kind}_total")
        normality = torch.cat([self._normality(kind, [v.to(total) for v in b]).cpu().flatten() for b in batches])
        total.copy_(_quantile(normality, self.quantile))
        lowest = torch.zeros(())
        if floor > 0.0:
            lowest = _quantile(total.cpu() - normality, floor).clamp_min(SMALLEST_FLOOR)
        self.get_buffer(f"{kind}_floor").copy_(lowest)

    def _normality(self, kind: str, values: Sequence[Tensor]) -> Tensor:
        total: Tensor | None = None
        for index, value in enumerate(values):
            part = (value - self.get_buffer(f"{kind}_peak_{index}")).clamp(max=0.0).exp()
            if self.sizes[index] != self.size:
                part = self._separable(part, f"up_0_{index}", f"up_1_{index}")
            total = part if total is None else total + part
        assert total is not None
        return total

    def _factor(self, kind: str, values: Sequence[Tensor]) -> Tensor:
        factor = self.get_buffer(f"{kind}_total") - self._normality(kind, values)
        factor = torch.maximum(factor, self.get_buffer(f"{kind}_floor"))
        return self._separable(factor, "blur_0", "blur_1") if self.blurs else factor

    def _separable(self, x: Tensor, rows: str, columns: str) -> Tensor:
        """Multiply `(N, h, w)` from both sides; the constant is always the right operand, like weights."""
        x = x @ self.get_buffer(columns)
        return (x.transpose(1, 2) @ self.get_buffer(rows)).transpose(1, 2)


def resize_matrix(source: int, target: int) -> Tensor:
    """Matrix `(source, target)` that interpolates a row of `source` values linearly, corners aligned."""
    step = (source - 1) / (target - 1) if target > 1 else 0.0
    position = (torch.arange(target, dtype=torch.float64) * step)[None]
    nodes = torch.arange(source, dtype=torch.float64)[:, None]
    return (1.0 - (position - nodes).abs()).clamp_min(0.0).to(torch.get_default_dtype())


def blur_matrix(size: int, sigma: float) -> Tensor:
    """Matrix `(size, size)` that blurs a row with a Gaussian of `sigma` positions, cut at 4 sigma.

    The row is continued by its mirror image, with the last value repeated (half-sample symmetric; torch's `reflect` does not
    repeat it). Below sigma = 1/8 the identity.
    """
    radius = int(4.0 * sigma + 0.5)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    offsets = range(-radius, radius + 1)
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) if offset else 1.0 for offset in offsets]
    for target in range(size):
        for offset, weight in zip(offsets, weights, strict=True):
            mirrored = (target + offset) % (2 * size)
            matrix[min(mirrored, 2 * size - 1 - mirrored), target] += weight / sum(weights)
    return matrix.to(torch.get_default_dtype())


def _quantile(values: Tensor, share: float) -> Tensor:
    """Smallest value that at least `share` of the values do not exceed; `torch.quantile` is limited to 16 million."""
    return values.kthvalue(min(len(values), max(1, math.ceil(share * len(values))))).values
