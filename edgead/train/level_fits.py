"""Closed-form fit of all levels of a model in one form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgead.models.level import Level
from edgead.train.centre_fits import fit_centres
from edgead.train.features import FeatureStore
from edgead.train.left_out import Energies, Rows, fit_positions, gather_positions


def fit_levels(
    levels: Sequence[Level],
    store: FeatureStore,
    rows: Rows,
    amounts: Sequence[float] | None,
    *,
    ridge: float,
    centre_ridge: float,
    seed: int,
    variation: float = 0.0,
) -> Iterator[tuple[float | None, list[Energies]]]:
    """Fit the levels with one shrinkage after the other, and yield it with the left-out energies of each level.

    Args:
        levels: Levels of one form, with their projections; they keep the last fit.
        store: Features.
        rows: Rows of the store.
        amounts: Weights of the covariance of all positions; None for centres, which are fitted once.
        ridge: Ridge of the covariances per position.
        centre_ridge: Ridge of the covariance behind the centres.
        seed: Seed of the centres.
        variation: Weight of changes of light, noise and compression; 0 = not learned.

    Raises:
        TrainingError: If the features do not vary.
    """
    if amounts is None:
        yield (
            None,
            [fit_centres(level, store, rows, ridge=centre_ridge, seed=seed, variation=variation) for level in levels],
        )
        return
    fits = [gather_positions(level, store, rows, variation) for level in levels]
    for amount in amounts:
        pairs = zip(levels, fits, strict=True)
        yield amount, [fit_positions(level, store, rows, fit, amount=amount, ridge=ridge) for level, fit in pairs]
