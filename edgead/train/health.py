"""Convergence check of a trained flow: its latents must be standard normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgead.models.detector import Detector
from edgead.train.batches import Arrays, load_batch

BATCH = 32
TOLERANCE = 0.25


@dataclass(frozen=True)
class LatentHealth:
    """Statistics of the latent over the fitted images, per channel, pixels pooled.

    At a maximum of the likelihood, a flow that ends in a free scale and offset per channel has mean 0 and mean square 1 in
    every channel.

    Attributes:
        mean: Maximum absolute mean of a channel.
        lowest, highest: Minimum and maximum mean square of a channel.
    """

    mean: float
    lowest: float
    highest: float

    @property
    def ok(self) -> bool:
        """Whether every channel is within `TOLERANCE`."""
        return self.mean <= TOLERANCE and 1.0 - TOLERANCE <= self.lowest and self.highest <= 1.0 + TOLERANCE

    def describe(self) -> str:
        """Sentence for the user."""
        text = (
            f"Latent of the fitted images: channel means within {self.mean:.2f} of 0, mean squares {self.lowest:.2f} to "
            f"{self.highest:.2f}"
        )
        if self.ok:
            return f"{text}, as expected from maximum likelihood."
        return f"{text}; maximum likelihood gives 0 and 1, so the training has not converged: more epochs may help."

    def metrics(self) -> dict[str, float]:
        """Numbers by the names under which a bundle stores them."""
        return {"latent_mean": self.mean, "latent_square_min": self.lowest, "latent_square_max": self.highest}


@torch.no_grad()
def latent_health(
    model: Detector, arrays: Arrays, labels: NDArray[np.int64], rows: Sequence[int], noise: float, seed: int
) -> LatentHealth | None:
    """Measure the latent under training noise; None for a model whose latent is not standard normal."""
    if not model.is_standard_normal:
        return None
    device = next(model.parameters()).device
    random = torch.Generator(device).manual_seed(seed)
    totals: list[torch.Tensor] = []
    squares: list[torch.Tensor] = []
    count = 0
    for start in range(0, len(rows), BATCH):
        chunk = np.asarray(rows[start : start + BATCH])
        latents = model.latents(load_batch(model, arrays, labels, chunk, noise, random).whitened)
        for index, (z, _) in enumerate(latents):
            part = z.double().mean(dim=(2, 3)).sum(dim=0), z.double().square().mean(dim=(2, 3)).sum(dim=0)
            if count == 0:
                totals.append(part[0])
                squares.append(part[1])
            else:
                totals[index] += part[0]
                squares[index] += part[1]
        count += len(chunk)
    mean, square = torch.cat(totals) / count, torch.cat(squares) / count
    # a dead channel (after a dead ReLU) carries no information
    live = square > 1e-6
    return LatentHealth(float(mean.abs().max()), float(square[live].min()), float(square.max()))
