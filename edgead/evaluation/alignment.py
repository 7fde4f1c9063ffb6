"""Agreement of a model's likelihood with its latent norm: the link to Deep SVDD."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Alignment:
    r"""Correlation over test images of the NLL and half the squared norm of the latent.

    For a uniformly scaling flow :math:`-\log p(x) = \tfrac12 \lVert F(x) \rVert^2 + c` with one constant for all images,
    so both correlations are 1: maximum likelihood minimises the distance to a centre, as Deep SVDD does, with the
    volume term in place of its weight decay (Abu Zaid et al., 2025, arXiv:2510.09452). For an affine flow the
    log-determinant differs from image to image.

    Attributes:
        spearman: Rank correlation over the images, -1..1.
        pearson: Linear correlation over the images, -1..1.
        log_det_spread: Standard deviation of the difference over the images, nats per dimension; 0 for a uniform flow.
        n_images: Number of images.
        is_uniform: Whether the flow is uniformly scaling.
    """

    spearman: float
    pearson: float
    log_det_spread: float
    n_images: int
    is_uniform: bool

    def describe(self) -> str:
        """Describe the agreement in one sentence for users."""
        kind = "uniform" if self.is_uniform else "affine"
        return (
            f"NLL and latent norm over {self.n_images} images ({kind} flow): Spearman {self.spearman:.4f}, Pearson "
            f"{self.pearson:.4f}, spread of the log-determinant {self.log_det_spread:.2g} nats per dimension."
        )

    def to_json(self) -> dict[str, float | int | bool]:
        """Fields under their names."""
        return dict(self.__dict__)


def alignment_of(
    nll: NDArray[np.float64], norm: NDArray[np.float64], *, dimensions: int, is_uniform: bool
) -> Alignment:
    """Compare the two scores of the same images.

    Args:
        nll: Negative log-likelihood of each image, `(n,)`.
        norm: Half the squared norm of each image's latent, `(n,)`.
        dimensions: Dimension of the latent.
        is_uniform: Whether the flow is uniformly scaling.
    """
    return Alignment(
        spearman=correlation(_ranks(nll), _ranks(norm)),
        pearson=correlation(nll, norm),
        log_det_spread=float(np.std(nll - norm)) / dimensions,
        n_images=len(nll),
        is_uniform=is_uniform,
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
