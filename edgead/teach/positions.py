r"""One Gaussian per position from few pictures; the fit and the left-out energies of `train/left_out.py` in numpy.

With n pictures the covariance of a position has rank n - 1 at most. With the deviations :math:`D` `(C, n)` of its features and
:math:`B = a \bar\Sigma + r I = L L^T`, which all positions share,

.. math:: G = B + c D D^T, \qquad D^T G^{-1} D = K (I + c K)^{-1}, \qquad K = (L^{-1} D)^T (L^{-1} D)

so that every energy follows from matrices of n by n, and one shrinkage after the other can be tried in no time. A map W with
:math:`W G W^T = I` is needed only for the form that is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgead.errors import TrainingError
from edgead.teach.form import Doubles, Floats, LevelConstants, LevelEnergies

# Positions at a time, so that no array holds the square matrices of all of them in float64.
BLOCK = 32


@dataclass(frozen=True)
class PositionMoments:
    """Moments of a level's inputs over the good pictures.

    Attributes:
        mean: Mean of each position, `(P, C)`.
        deviations: Offsets of each picture from it, `(P, n, C)`.
        pooled: Mean over all positions of their maximum-likelihood covariances, `(C, C)`.
    """

    mean: Doubles
    deviations: Doubles
    pooled: Doubles

    @property
    def n(self) -> int:
        """Number of pictures."""
        return int(self.deviations.shape[1])

    def base(self, amount: float, ridge: float, count: int) -> Doubles:
        """Part B `(C, C)` of the covariance that all positions share, of a fit on `count` pictures.

        Raises:
            TrainingError: If the features do not vary.
        """
        channels = len(self.pooled)
        share = ridge * max(1.0, channels / count)
        found = amount * self.pooled + share * float(np.diagonal(self.pooled).mean()) * np.eye(channels)
        if not (np.isfinite(found).all() and np.diagonal(found).min() > 0.0):
            raise TrainingError(
                "The good pictures show no variation that a detector could learn: their features are constant or not finite.",
                hint="Check that the pictures differ: each should show another part.",
            )
        return found


def gather(pictures: Sequence[Floats]) -> PositionMoments:
    """Moments of inputs `(P, C)` of a level, one array for each picture."""
    stacked = np.stack(pictures, axis=1).astype(np.float64)
    mean = stacked.mean(axis=1)
    stacked -= mean[:, None, :]
    positions, n, channels = stacked.shape
    columns = stacked.reshape(-1, channels)
    return PositionMoments(mean, stacked, columns.T @ columns / (positions * n))


def energies(
    moments: PositionMoments, pseudo: Iterable[Floats], origin: Sequence[int], *, amount: float, ridge: float
) -> LevelEnergies:
    """Energies of the good pictures and of their pseudo-defective copies.

    Args:
        moments: Moments of the good pictures, of which there are 2 or more.
        pseudo: Inputs `(P, C)` of the copies.
        origin: Index of the picture that each copy was made from.
        amount: Weight of the covariance of all positions in each position's own, 0..1.
        ridge: Ridge on the diagonal, as a share of the mean variance.

    Raises:
        TrainingError: If the features do not vary.
    """
    n, channels = moments.n, moments.mean.shape[1]
    rest = n - 1
    fitted = _own(moments, amount, ridge, n)[0]
    norm, inverse, factor, white = _own(moments, amount, ridge, rest)
    beta, ratio = (1.0 - amount) / rest * n / rest, n / rest
    left_out = ratio**2 * norm / (1.0 - beta * norm) / channels
    found = []
    for copy, own in zip(pseudo, origin, strict=True):
        q = (copy - moments.mean) @ factor.T
        projected = np.matmul(white, q[:, :, None])[:, :, 0]
        solved = np.matmul(inverse, projected[:, :, None])[:, :, 0]
        squared = (q * q).sum(axis=1) - (1.0 - amount) / rest * (projected * solved).sum(axis=1)
        cross, of_own = solved[:, own], norm[:, own]
        offset = cross + of_own / rest
        value = squared + 2.0 * cross / rest + of_own / rest**2 + beta * offset**2 / (1.0 - beta * of_own)
        found.append(value / channels)
    copies = np.stack(found) if found else np.zeros((0, len(moments.mean)))
    return LevelEnergies(*(v.astype(np.float32) for v in (left_out.T, copies, fitted.T / channels)))


def unseen(moments: PositionMoments, picture: Floats, *, amount: float, ridge: float) -> Floats:
    """Energies `(P,)` of the inputs `(P, C)` of a picture that was not fitted; the arguments as for `energies`."""
    _, inverse, factor, white = _own(moments, amount, ridge, moments.n)
    q = (picture - moments.mean) @ factor.T
    projected = np.matmul(white, q[:, :, None])[:, :, 0]
    solved = np.matmul(inverse, projected[:, :, None])[:, :, 0]
    squared = (q * q).sum(axis=1) - (1.0 - amount) / moments.n * (projected * solved).sum(axis=1)
    return np.asarray(squared / q.shape[1], np.float32)


def _own(
    moments: PositionMoments, amount: float, ridge: float, count: int
) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Squared norms `(P, n)` of the pictures, `(I + cK)^-1` `(P, n, n)`, L^-1 `(C, C)` and D L^-T `(P, n, C)`."""
    factor = np.linalg.inv(np.linalg.cholesky(moments.base(amount, ridge, count)))
    white = moments.deviations @ factor.T
    gram = np.matmul(white, white.transpose(0, 2, 1))
    c = (1.0 - amount) / count
    inverse = np.linalg.inv(np.eye(moments.n) + c * gram)
    return np.einsum("pij,pji->pi", gram, inverse), inverse, factor, white


def constants(moments: PositionMoments, *, amount: float, ridge: float) -> LevelConstants:
    """Linear map of each position, fitted to all pictures.

    Raises:
        TrainingError: If the features do not vary.
    """
    positions, n, channels = moments.deviations.shape
    factor = np.linalg.inv(np.linalg.cholesky(moments.base(amount, ridge, n)))
    c = (1.0 - amount) / n
    weight_t = np.empty((positions, channels, channels), np.float32)
    for start in range(0, positions, BLOCK):
        part = slice(start, start + BLOCK)
        white = moments.deviations[part] @ factor.T
        values, vectors = np.linalg.eigh(np.matmul(white, white.transpose(0, 2, 1)))
        values = np.maximum(values, 0.0)
        # ((1 + c v)^-1/2 - 1) / v, which tends to -c / 2
        change = np.where(
            values > 1e-12, np.expm1(-0.5 * np.log1p(c * values)) / np.where(values > 1e-12, values, 1.0), -0.5 * c
        )
        axes = np.matmul(vectors.transpose(0, 2, 1), white)
        weight = factor + np.matmul(axes.transpose(0, 2, 1), change[:, :, None] * (axes @ factor))
        weight_t[part] = weight.transpose(0, 2, 1)
    mean = moments.mean.astype(np.float32)
    return LevelConstants(
        {"weight_t": weight_t, "mean": mean[:, None, :]},
        # a view: the square matrices are stored once in memory
        {"start.weight": weight_t.transpose(0, 2, 1), "start.mean": mean},
    )
