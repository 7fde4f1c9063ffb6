"""Composition of an image: how much it shows of each kind of thing, wherever that lies."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.backbone import Backbone

WORDS = 64
# Beyond it an image is equally unlike the good ones: finite in every precision.
LARGEST_OFFSET = 1e4


class Composition(nn.Module):
    r"""Offset of the anomaly map of an image in which parts are missing, extra or swapped.

    .. math:: p(u) = \mathrm{softmax}(A\, x(u) + b), \qquad d = \tfrac{1}{K} \lVert W (\bar p - m) \rVert^2, \qquad
       o = g \max(d - d_0, 0)

    K words stand for the kinds of features x that good images show; :math:`\bar p`, the mean of p over all positions u, is how
    large a share of the image each of them has. Its distance d from those of good images counts from :math:`d_0` on. Counts of
    words with a Gaussian over them are the usual way to see that a part is missing (bags of words: Csurka et al., 2004; for logical
    anomalies: Bergmann et al., 2022, doi:10.1007/s11263-022-01578-9). Deviates from them: a position is shared among words, so that a
    part between two positions of the grid counts as much as one on it, and everything is one 1x1 convolution, a
    mean and a small matrix, inside the graph.

    The offset is the same at all positions, since no position shows what is missing.

    Args:
        key: Feature map of the backbone.
        channels: Number of its channels.
        size: Its size `(h, w)`.
        words: Number of words K.
    """

    def __init__(self, key: str, channels: int, size: tuple[int, int], words: int = WORDS) -> None:
        super().__init__()
        self.key, self.size = key, size
        self.register_buffer("word_weight", torch.zeros(words, channels, 1, 1))
        self.register_buffer("word_bias", torch.zeros(words))
        self.register_buffer("mean", torch.zeros(words))
        self.register_buffer("whitening", torch.eye(words))
        self.register_buffer("start", torch.zeros(()))
        self.register_buffer("gain", torch.zeros(()))

    @staticmethod
    def of(backbone: Backbone, key: str) -> Composition:
        """Composition of one feature map of a backbone, not fitted yet."""
        return Composition(key, backbone.channels[key], backbone.sizes[key])

    def shares(self, features: Mapping[str, Tensor]) -> Tensor:
        """Share of each word in the images `(N, K)`, which add up to 1, from features `(N, C, h, w)` by key."""
        logits = F.conv2d(features[self.key], self.get_buffer("word_weight"), self.get_buffer("word_bias"))
        return logits.softmax(dim=1).mean(dim=(2, 3))

    def distance(self, shares: Tensor) -> Tensor:
        """Distance `(N,)` of shares `(N, K)` from those of good images, about 1 for a good one."""
        white = (shares - self.get_buffer("mean")) @ self.get_buffer("whitening").T
        return white.square().mean(dim=1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Offset `(N,)` of the anomaly maps, 0 or more, from features `(N, C, h, w)` by key."""
        far = self.distance(self.shares(features)) - self.get_buffer("start")
        return (far * self.get_buffer("gain")).clamp(0.0, LARGEST_OFFSET)

    def raised(self, features: Mapping[str, Tensor], outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Outputs of a detector with the offset added to the map `(N, h, w)` and the score `(N,)`, the first two."""
        offset = self(features)
        anomaly_map, score, *others = outputs
        return (anomaly_map + offset.unsqueeze(-1).unsqueeze(-1), score + offset, *others)
