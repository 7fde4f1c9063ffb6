"""Score of a closed-form model of several classes: one standardised map per class, on one scale for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgead.models.scoring import ScoreHead

# Deviations beyond which maps and classes are equally far: finite, so that a class of weight 0 adds 0 in every precision.
FARTHEST_MAP = 1e4
FARTHEST_CLASS = 1e3


class ClassHead(nn.Module):
    r"""Score head of K classes, each with its own standardisation.

    .. math:: A = \sum_k w_k\, (A_k - a_k) / b_k, \qquad w = \mathrm{softmax}(c + \beta), \qquad
       c_k = -(\bar A_k - \mu_k) / \sigma_k

    with the standardised map :math:`A_k` of class k (`ScoreHead`), the mean :math:`\bar A_k` of its lowest values, the class
    bias :math:`\beta`, and constants from good images of class k: a and b put its image scores on a scale on which one threshold
    serves all classes (`train.class_fits.scale_of_scores`), mu and sigma are mean and deviation of the mean of the lowest
    values. The class is a property of the whole image: a mark that is normal in one class stays a defect in another one that
    looks alike. A large defect leaves the lowest values as they are, whereas classes that differ in one mark need all values
    to be told apart. With a known class, or one that explains the image far better than the others, the map is that of this
    class alone.

    Args:
        sizes: Size `(h, w)` of each level's map, for each class; the anomaly map has the finest one of all.
        weights: Weight of each level.
        top_fractions: Share of the map's positions that the image score averages over, > 0, for each class.
        class_share: Share of the map's positions, lowest values first, that tells the class, > 0; 1 = all of them.
    """

    shares: Tensor

    def __init__(
        self,
        sizes: Sequence[Sequence[tuple[int, int]]],
        weights: Sequence[float],
        top_fractions: Sequence[float],
        class_share: float = 1.0,
    ) -> None:
        super().__init__()
        classes, size = len(top_fractions), max(size for own in sizes for size in own)
        self._heads = nn.ModuleList(
            ScoreHead(own, weights, fraction, size) for own, fraction in zip(sizes, top_fractions, strict=True)
        )
        self.class_share = class_share
        shares = torch.zeros(classes, self.top_k)
        for row, head in zip(shares, self.heads, strict=True):
            row[: head.top_k] = 1.0 / head.top_k
        self.register_buffer("shares", shares, persistent=False)
        for name in ("score", "distance"):
            self.register_buffer(f"{name}_mean", torch.zeros(classes))
            self.register_buffer(f"{name}_gain", torch.ones(classes))

    @property
    def heads(self) -> list[ScoreHead]:
        """Standardisation of each class."""
        return [head for head in self._heads if isinstance(head, ScoreHead)]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Size `(h, w)` of each level's map, class by class."""
        return tuple(size for head in self.heads for size in head.sizes)

    @property
    def size(self) -> tuple[int, int]:
        """Size `(h, w)` of the anomaly map."""
        return self.heads[0].size

    @property
    def top_k(self) -> int:
        """Largest number of map values that the image score of a class averages over."""
        return max(head.top_k for head in self.heads)

    def set_class(self, index: int, scores: tuple[float, float], distances: tuple[float, float]) -> None:
        """Set the scale of one class from (offset, deviation) of image scores and of `distances`, over good images."""
        for name, (mean, deviation) in (("score", scores), ("distance", distances)):
            self.get_buffer(f"{name}_mean")[index] = mean
            self.get_buffer(f"{name}_gain")[index] = 1.0 / deviation

    def copy_classes(self, other: ClassHead) -> None:
        """Take over all classes of another head, which become the first ones."""
        for mine, head in zip(self.heads, other.heads, strict=False):
            mine.load_state_dict(head.state_dict())
        for name in ("score_mean", "score_gain", "distance_mean", "distance_gain"):
            self.get_buffer(name)[: len(other.heads)] = other.get_buffer(name)

    def class_map(self, index: int, energies: Sequence[Tensor]) -> Tensor:
        """Standardised map `(N, h, w)` of one class from its energies `(N, h_l, w_l)` per level."""
        head = self.heads[index]
        parts = [head.standardised(level, energy) for level, energy in enumerate(energies)]
        return sum(parts[1:], parts[0]).clamp(max=FARTHEST_MAP)

    def distances(self, maps: Tensor) -> Tensor:
        """Mean of the lowest values of maps `(N, h, w)` or `(N, K, h, w)`: how far the images are from the class of the map."""
        positions = self.size[0] * self.size[1]
        classes = (len(self._heads),) if maps.dim() == 4 else ()
        values = maps.reshape(-1, *classes, positions)  # sizes read from the maps would stay in the exported graph
        if self.class_share < 1.0:
            count = max(1, round(self.class_share * positions))
            values = values.topk(count, dim=-1, largest=False).values
        return values.mean(dim=-1)

    def class_scores(self, maps: Tensor) -> Tensor:
        """Score `(N, K)` of each class from the maps `(N, K, h, w)` of all."""
        far = (self.distances(maps) - self.get_buffer("distance_mean")) * self.get_buffer("distance_gain")
        return -far.clamp(max=FARTHEST_CLASS)

    def scaled(self, maps: Tensor) -> Tensor:
        """Maps `(N, K, h, w)` on the scale of each class's image scores."""
        mean, gain = (self.get_buffer(f"score_{name}").view(1, -1, 1, 1) for name in ("mean", "gain"))
        return (maps - mean) * gain

    def mixed(
        self, scaled: Tensor, class_score: Tensor, class_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of `forward` from the maps of all classes on one scale, `(N, K, h, w)`, and their scores `(N, K)`."""
        logits = class_score if class_bias is None else class_score + class_bias
        weights = (logits - logits.amax(dim=1, keepdim=True)).exp()
        weights = weights / weights.sum(dim=1, keepdim=True)
        total = (scaled * weights.unsqueeze(-1).unsqueeze(-1)).sum(dim=1)
        top = total.reshape(-1, self.size[0] * self.size[1]).topk(self.top_k, dim=1).values
        return total, (top * (weights @ self.shares)).sum(dim=1), class_score

    def forward(self, energies: Sequence[Tensor], class_bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Score energies.

        Args:
            energies: Energy `(N, h_l, w_l)` of each level, class by class.
            class_bias: Bias `(N, K)`, 0 = allowed, -1e4 = excluded; None = all allowed.

        Returns:
            `anomaly_map` `(N, h, w)`; `pred_score` `(N,)`; `class_score` `(N, K)`, <= 0 where the image is farther from the
            class than its own good images: the largest is the predicted class. The bias does not change them.
        """
        levels = len(self.heads[0].sizes)
        parts = [energies[k * levels : (k + 1) * levels] for k in range(len(self._heads))]
        maps = torch.stack([self.class_map(index, own) for index, own in enumerate(parts)], dim=1)
        return self.mixed(self.scaled(maps), self.class_scores(maps), class_bias)
