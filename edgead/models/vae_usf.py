"""VAE-USFlow: a variational autoencoder of the image with a flow as its prior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.flows.flow import Flow, FlowSequence, per_sample
from edgead.flows.multiscale import Conditions, Latent, ParallelFlow
from edgead.models.backbone import Backbone
from edgead.models.detector import Detector, TrainingBatch, log_likelihood
from edgead.models.level import Level
from edgead.models.scoring import ScoreHead

VaeScore = Literal["both", "reconstruction", "latent"]
SIGMA = 0.1
WIDTH, SMALLEST_WIDTH = 256, 32
SMALLEST_GRID = 4
COLOURS = 3


class VaeDetector(Detector):
    r"""Variational autoencoder of the image with a flow as its prior: VAE-USFlow (Abu Zaid et al., 2025, arXiv:2510.09452).

    With the posterior :math:`q(z \mid x) = \mathcal N(m, \operatorname{diag} v)` of an encoder on frozen features, the
    prior :math:`p(z)` of a flow F and the decoder's :math:`p(x \mid z) = \mathcal N(d(z), \sigma^2 I)`, σ = 0.1 for
    pixels in 0..1, training minimises, with one sample of z per image,

    .. math:: -\log p(x \mid z) + \log q(z \mid x) - \log p(z).

    Written as a flow of two scales, :math:`(z, x - d(z)) \mapsto (F(z), (x - d(z)) / \sigma)`: both latents are standard
    normal under the model, the likelihood of the pair is that of (z, x), and with a uniform F the pair is a uniformly
    scaling flow. `nll`, `latent_norm` and the exported graph follow from that, with z = m and images in units of σ;
    neither v nor noise is in the graph. The prior starts as the standard normal distribution, so that training starts from
    an ordinary VAE.

    The paper's text was not available; this follows its code. Deviates: the image is reconstructed at a fixed size
    instead of its own, the loss is a mean over pixels and colours instead of a sum (the same minimum), the optimiser is
    the one of all detectors here, and subnets have one hidden layer instead of two.

    Args:
        backbone: Frozen features for the keys of both levels.
        encoded: Level of the encoder's input, which is pooled over positions.
        image: Level of the image to reconstruct: stride 1, shrunk.
        prior: Flow from z, `(N, latent_size, 1, 1)`, to the latent of `base`.
        base: Flow from that latent to the standard normal base.
        latent_size: Number of channels of z.
        score: Image score, see `VaeHead`.
    """

    def __init__(
        self,
        backbone: Backbone,
        encoded: Level,
        image: Level,
        prior: Flow,
        base: Flow,
        *,
        latent_size: int,
        score: VaeScore = "both",
    ) -> None:
        flow = ParallelFlow([prior, FlowSequence([])], [latent_size, COLOURS])
        head = VaeHead(image.size, latent_size, score)
        super().__init__(backbone, [encoded, image], flow, [base, FlowSequence([])], head)
        self.latent_size = latent_size
        self.encoder = Encoder(encoded.channels, latent_size)
        self.decoder = Decoder(latent_size, image.size)

    @property
    def n_draws(self) -> int:
        return self.latent_size

    @property
    def is_standard_normal(self) -> bool:
        return False

    @property
    def needs_log_det(self) -> bool:
        return not self.flow.is_uniform

    @property
    def flow_grids(self) -> list[tuple[Flow | None, int, tuple[int, int]]]:
        return [(None, self.latent_size, (1, 1)), (None, COLOURS, self.levels[1].size)]

    def initialise(self, whitened: Sequence[Tensor]) -> None:
        """Do nothing: the prior starts as the standard normal distribution."""

    def start_constant(self) -> float:
        return 0.0

    def decode(self, z: Tensor) -> Tensor:
        """Mean image `(N, 3, S, S)`, in 0..1, of `(N, latent_size, 1, 1)`."""
        return self.levels[1].start.inverse(self.decoder(z))

    def unexplained(self, image: Tensor, z: Tensor) -> Tensor:
        """Reconstruction error of images `(N, 3, S, S)` in 0..1 from z, in units of σ."""
        return (image - self.decode(z)) * (1.0 / SIGMA)

    def inputs(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Inputs of the flow: the posterior mean `(N, latent_size, 1, 1)`, and its reconstruction error, in units of σ."""
        encoded, image = self.levels
        z, _ = self.encoder(encoded.whitened(features))
        return [z, self.unexplained(image.inputs(features), z)]

    def latents(self, whitened: Sequence[Tensor], conditions: Conditions | None = None) -> list[Latent]:
        features, image = whitened
        z, _ = self.encoder(features)
        return self.transform([z, self.unexplained(self.levels[1].start.inverse(image), z)])

    def transform(self, inputs: Sequence[Tensor]) -> list[Latent]:
        return super().latents(inputs)

    def loss_terms(self, batch: TrainingBatch, stage: int = 2) -> list[Tensor]:
        """Negative evidence lower bound, nats per pixel and colour, mean over the images; z is sampled from `batch.draws`."""
        features, standardised = batch.whitened
        assert batch.draws is not None
        mean, log_variance = self.encoder(features)
        z = mean + torch.exp(0.5 * log_variance) * batch.draws
        image = self.levels[1].start.inverse(standardised)
        latents = self.transform([z, self.unexplained(image, z)])
        log_joint = torch.stack([per_sample(log_likelihood(latent)) for latent in latents]).sum(dim=0)
        log_posterior = -0.5 * (batch.draws.square() + log_variance + math.log(2.0 * math.pi)).flatten(1).sum(dim=1)
        return [(log_posterior - log_joint).mean() / image[0].numel() + math.log(SIGMA)]


class Encoder(nn.Module):
    """Encoder: mean and log variance of the posterior, each a linear map of pooled features.

    Args:
        channels: Number of channels C of the features.
        latent_size: Number of channels of both results; the log variance starts at 0.
    """

    def __init__(self, channels: int, latent_size: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(channels, latent_size, 1)
        self.log_variance = nn.Conv2d(channels, latent_size, 1)
        for parameter in self.log_variance.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map features `(N, C, h, w)` to mean and log variance, `(N, latent_size, 1, 1)` each."""
        pooled = features.mean(dim=(2, 3), keepdim=True)
        return self.mean(pooled), self.log_variance(pooled)


class Decoder(nn.Module):
    """Decoder: transposed convolutions from a latent to a standardised image; each doubles the grid and halves the width.

    Args:
        latent_size: Number of channels of the latent.
        size: Image size `(S, S)`; halved while it is even and at least 8, it gives the first grid.
    """

    def __init__(self, latent_size: int, size: tuple[int, int]) -> None:
        super().__init__()
        grid, doublings = size[0], 0
        while grid % 2 == 0 and grid >= 2 * SMALLEST_GRID:
            grid, doublings = grid // 2, doublings + 1
        widths = [max(SMALLEST_WIDTH, WIDTH >> step) for step in range(doublings)]
        self.first = nn.ConvTranspose2d(latent_size, widths[0], grid)
        pairs = zip(widths, [*widths[1:], COLOURS], strict=True)
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairs)

    def forward(self, z: Tensor) -> Tensor:
        """Map latents `(N, latent_size, 1, 1)` to images `(N, 3, S, S)`."""
        x = self.first(z)
        for layer in self.doublings:
            x = layer(F.relu(x))
        return x


class VaeHead(ScoreHead):
    r"""Score head whose map is the standardised reconstruction error and whose score is a likelihood.

    The map compares the error of each position, the mean over the colours, with that of good images there, as
    `ScoreHead` does. The score of the image is in raw units, not the map's, nats without constants:

    * `both`: :math:`\big(-\log p(x \mid z) - \log p(z)\big) / D` with D = pixels x colours, the published score;
    * `reconstruction`: :math:`-\log p(x \mid z) / D`;
    * `latent`: :math:`-\log p(z) / d` with d = `latent_size`.

    Score and map have separate thresholds, both from held-out good images; an image can exceed either one alone. The
    division keeps float16 engines in range.

    Args:
        size: Size `(S, S)` of the image and of the map.
        latent_size: Dimension d of the latent.
        score: One of the three scores above.
    """

    def __init__(self, size: tuple[int, int], latent_size: int, score: VaeScore) -> None:
        super().__init__([size], [1.0], 1.0)
        self.score = score
        self.latent_share = latent_size / (COLOURS * size[0] * size[1])

    def fit(self, fitted: Sequence[Tensor], unseen: Sequence[Tensor], *, are_norms: bool = True) -> None:
        """Standardise the map; the first of the two energies is that of the latent and has no map."""
        super().fit(fitted[1:], unseen[1:], are_norms=are_norms)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Turn energies of latent `(N, 1, 1)` and image `(N, S, S)` into `anomaly_map` and `pred_score`."""
        latent, error = maps
        anomaly_map = (error - self.get_buffer("mean_0")) * self.get_buffer("gain_0")
        unlikely, unexplained = 0.5 * latent.reshape(-1), 0.5 * error.mean(dim=(1, 2))
        if self.score == "latent":
            return anomaly_map, unlikely
        if self.score == "reconstruction":
            return anomaly_map, unexplained
        return anomaly_map, unexplained + self.latent_share * unlikely
