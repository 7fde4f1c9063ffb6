"""How far a trained model's likelihood and its latent norm say the same: the link to Deep SVDD."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgead.bundle import Bundle
from edgead.data.layouts import find_dataset
from edgead.data.reader import read_image
from edgead.errors import ConfigError, DataError
from edgead.progress import Progress

BATCH = 8


@dataclass(frozen=True)
class Alignment:
    r"""Correlation over test images of the NLL and half the squared norm of the latent.

    For a uniformly scaling flow :math:`-\log p(x) = \tfrac12 \lVert F(x) \rVert^2 + c` with one constant for all images,
    so both correlations are 1: maximum likelihood minimises the distance to a centre, as Deep SVDD does, with the
    volume term in the place of its weight decay (Abu Zaid et al., 2025, arXiv:2510.09452). For an affine flow the
    log-determinant of each image comes between.

    Attributes:
        spearman, pearson: Of the two over the images, -1..1.
        log_det_spread: Standard deviation over the images of their difference, nats per dimension; 0 for a uniform flow.
        n_images: How many.
        is_uniform: Whether the flow is uniformly scaling.
    """

    spearman: float
    pearson: float
    log_det_spread: float
    n_images: int
    is_uniform: bool

    def describe(self) -> str:
        """One sentence for the user."""
        kind = "uniform" if self.is_uniform else "affine"
        return (
            f"NLL and latent norm over {self.n_images} images ({kind} flow): Spearman {self.spearman:.4f}, Pearson "
            f"{self.pearson:.4f}, spread of the log-determinant {self.log_det_spread:.2g} nats per dimension."
        )

    def to_json(self) -> dict[str, float | int | bool]:
        """The fields under their names."""
        return dict(self.__dict__)


def measure_alignment(bundle: Bundle, data: Path, progress: Progress) -> Alignment:
    """Run the unfolded torch model of a bundle over the test images of a data set, in float32.

    Raises:
        ConfigError: If the model's base distribution is not normal, so that there is no such norm (hgad).
        DataError: If there are fewer than two test images that can be read.
        MissingDependencyError: Without torch.
    """
    import torch

    from edgead.models.zoo import load_model

    model = load_model(bundle)
    if not model.has_normal_base:
        raise ConfigError(
            f"{bundle.manifest.model} has a mixture as its base: its likelihood is not a function of a latent norm.",
            hint="Leave --alignment out.",
        )
    samples = find_dataset(data, need_train=False).test
    white_level = bundle.manifest.preprocessing.white_level
    pairs: list[NDArray[np.float64]] = []
    for start in range(0, len(samples), BATCH):
        images = []
        for sample in samples[start : start + BATCH]:
            try:
                images.append(bundle.preprocess(read_image(sample.path, white_level)))
            except DataError:
                continue
        if images:
            with torch.inference_mode():
                values = model.nll_and_norm(torch.from_numpy(np.stack(images)))
            pairs.append(torch.stack(values).double().numpy())
        progress.update("Alignment", min(start + BATCH, len(samples)), len(samples))
    if sum(pair.shape[1] for pair in pairs) < 2:
        raise DataError(f"{data} has fewer than two labelled test images that can be read.")
    nll, norm = np.concatenate(pairs, axis=1)
    dimensions = sum(level.channels * level.size[0] * level.size[1] for level in model.levels)
    return Alignment(
        spearman=correlation(_ranks(nll), _ranks(norm)),
        pearson=correlation(nll, norm),
        log_det_spread=float(np.std(nll - norm)) / dimensions,
        n_images=len(nll),
        is_uniform=model.flow.is_uniform,
    )


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's correlation of two samples `(n,)`; 1 where both are constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 1.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse]
