"""Score head: from latent norms of all levels to an anomaly map and a score per image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgead.models.level import resample

SMOOTHING_SIGMA = 1.5
SMALLEST_DEVIATION = 1e-6
# Maps that are in float64 at a time.
_CHUNK = 1024


class ScoreHead(nn.Module):
    r"""Score head that standardises each level's map per position, adds the levels up and pools.

    .. math:: A = \sum_l w_l\, \mathrm{up}\big((m_l - \mu_l) / \sigma_l\big), \qquad s = \text{mean of the largest } k
       \text{ values of } A

    with the mean square :math:`m_l` of the latent and its mean and deviation over good images. Deviates from FastFlow
    (arXiv:2111.07677, section 3.3), which averages exp(-m/2) over the levels and takes the maximum: without the
    exponential, scores far from the good ones stay comparable; the standardisation makes levels and positions comparable.

    Args:
        sizes: Size `(h, w)` of each level's map; the anomaly map has the finest one.
        weights: Weight w_l of each level.
        top_fraction: Share of the map's positions that the image score averages over, > 0.
        size: Size `(h, w)` of the anomaly map; None = that of the finest level.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        weights: Sequence[float],
        top_fraction: float,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.size = size or max(sizes)
        self.weights = tuple(weights)
        self.pool(top_fraction)
        for index, (h, w) in enumerate(sizes):
            self.register_buffer(f"mean_{index}", torch.zeros(h, w))
            self.register_buffer(f"gain_{index}", torch.ones(h, w))

    def pool(self, top_fraction: float) -> None:
        """Set the share of the map's positions that the image score averages over."""
        self.top_fraction = top_fraction
        self.top_k = max(1, round(top_fraction * self.size[0] * self.size[1]))

    def set_level(self, index: int, mean: Tensor, std: Tensor) -> None:
        """Set the standardisation of one level from the mean and deviation `(h, w)` of its map on good images."""
        self.get_buffer(f"mean_{index}").copy_(mean)
        self.get_buffer(f"gain_{index}").copy_(self.weights[index] / std)

    def fit(self, fitted: Sequence[Tensor], unseen: Sequence[Tensor], *, are_norms: bool = True) -> None:
        """Standardise each level from its maps `(N, h, w)` of good images.

        The flow was fitted on some of the images, so their maps are lower and vary less: they are first scaled to the others.

        Args:
            fitted: Maps per level of images that the flow was fitted on.
            unseen: Maps per level of other images.
            are_norms: Whether the maps are norms, which are scaled to the mean of the others. Likelihoods have no natural
                zero, so they get the mean and deviation of the others.
        """
        match = _scaled_like if are_norms else _distributed_like
        for index, (known, new) in enumerate(zip(fitted, unseen, strict=True)):
            self.standardise(index, torch.cat([match(known, new), new]))

    def standardise(self, index: int, maps: Tensor) -> None:
        """Standardise one level from maps of good images `(N, h, w)`; mean and deviation are smoothed over neighbours."""
        chunks = maps.split(_CHUNK)
        mean = sum(part.double().sum(dim=0) for part in chunks) / len(maps)
        variance = sum((part.double() - mean).square().sum(dim=0) for part in chunks) / len(maps)
        assert isinstance(mean, Tensor)
        assert isinstance(variance, Tensor)
        std = np.maximum(_smooth(variance.sqrt().cpu().numpy()), SMALLEST_DEVIATION)
        self.set_level(index, torch.from_numpy(_smooth(mean.cpu().numpy())), torch.from_numpy(std))

    def as_if_normal(self, maps: Sequence[Tensor], channels: Sequence[int]) -> list[Tensor]:
        """Maps `(N, h_l, w_l)` rescaled to the mean and deviation over good images of C standard normal channels.

        The mean square of C such numbers has mean 1 and deviation sqrt(2 / C), the same at every position.
        """
        found = []
        for index, (level_map, c) in enumerate(zip(maps, channels, strict=True)):
            gain = self.get_buffer(f"gain_{index}") * (math.sqrt(2.0 / c) / self.weights[index])
            found.append((level_map - self.get_buffer(f"mean_{index}")) * gain + 1.0)
        return found

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Turn maps `(N, h_l, w_l)` into `anomaly_map` `(N, h, w)` and `pred_score` `(N,)`."""
        total: Tensor | None = None
        for index, level_map in enumerate(maps):
            part = self.standardised(index, level_map)
            total = part if total is None else total + part
        assert total is not None
        return total, self.pooled(total)

    def standardised(self, index: int, level_map: Tensor) -> Tensor:
        """Contribution `(N, h, w)` of one level's map `(N, h_l, w_l)` to the anomaly map."""
        part = (level_map - self.get_buffer(f"mean_{index}")) * self.get_buffer(f"gain_{index}")
        return self.on_finest(index, part)

    def on_finest(self, index: int, level_map: Tensor) -> Tensor:
        """Map of one level on the grid of the anomaly map."""
        return resample(level_map.unsqueeze(1), self.sizes[index], self.size).squeeze(1)

    def pooled(self, maps: Tensor) -> Tensor:
        """Score `(N,)` of anomaly maps `(N, h, w)`: the mean of their largest values."""
        return maps.reshape(-1, self.size[0] * self.size[1]).topk(self.top_k, dim=1).values.mean(dim=1)


def _scaled_like(known: Tensor, new: Tensor) -> Tensor:
    return known * (new.mean() / known.mean())


def _distributed_like(known: Tensor, new: Tensor) -> Tensor:
    """Match the others' overall mean, and their deviation over images averaged over positions."""
    ratio = 1.0
    if min(len(known), len(new)) > 1:
        before, after = (float(maps.std(dim=0).mean()) for maps in (known, new))
        ratio = after / max(before, 1e-12)
    return (known - known.mean()) * ratio + new.mean()


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed = cv2.GaussianBlur(values, (0, 0), SMOOTHING_SIGMA, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smoothed, np.float64)
