"""Left-out maps of few pictures: each under a model that is taught with others alone.

The fast left-out energies of a fit on all pictures keep each picture in the projection, in the covariance of all positions and
in the whitening. Among ten pictures each is a tenth of these, and the scores come out so low that half of all new parts lie
above them. With few pictures a whole fit takes a moment, so each is left out of everything; with more than 30, a tenth of them at a
time (`train/cross_fit.py` does the same on the workstation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgead.teach import centres, positions
from edgead.teach.base import Base, FormName
from edgead.teach.features import Features, LevelInputs, fit_projections
from edgead.teach.form import Floats, LevelEnergies
from edgead.teach.scoring import anomaly_maps, standardise

# Beyond this number a picture's part in what all share no longer raises the false-alarm rate.
MOST_PICTURES = 100
# Beyond this number single fits would take long.
MOST_ALONE = 30
FOLDS = 10


def maps_by_others(
    base: Base,
    pictures: Sequence[Features],
    form: FormName,
    *,
    amount: float | None,
    ridge: float,
    n_centres: int,
    seed: int,
    own_share: float,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Floats:
    """Anomaly map `(n, h, w)` of each picture under the model that the others teach, or those of the other folds.

    Args:
        base: Base bundle.
        pictures: Features of n >= 5 good pictures.
        form: Form of the model.
        amount: Weight of the covariance of all positions; None for centres.
        ridge: Ridge of the form, as a share of the mean variance.
        n_centres: Wanted number of centres.
        seed: Seed of the first centres.
        own_share: Weight of a position's own mean and deviation in the standardisation.
        on_step: Called with the number of models fitted and the total.

    Raises:
        TrainingError: If the features of the others do not vary.
    """
    n = len(pictures)
    folds = n if n <= MOST_ALONE else FOLDS
    maps: list[Floats | None] = [None] * n
    for fold in range(folds):
        left = range(fold, n, folds)
        others = [picture for number, picture in enumerate(pictures) if number not in left]
        inputs = LevelInputs(base, fit_projections(base, others))
        found = [inputs(other) for other in others]
        judged = [inputs(pictures[number]) for number in left]
        of_others: list[LevelEnergies] = []
        own: list[list[Floats]] = []
        for number in range(inputs.n_levels):
            level, unseen = [one[number] for one in found], [one[number] for one in judged]
            if form == "positions":
                assert amount is not None
                moments = positions.gather(level)
                of_others.append(positions.energies(moments, (), (), amount=amount, ridge=ridge))
                own.append([positions.unseen(moments, x, amount=amount, ridge=ridge) for x in unseen])
            else:
                fit = centres.fit(level, n_centres, ridge=ridge, seed=seed)
                of_others.append(centres.energies(fit, level, (), ()))
                own.append([centres.unseen(fit, x) for x in unseen])
        head = standardise(base.manifest, of_others, own_share)
        for place, energies in zip(left, zip(*own, strict=True), strict=True):
            maps[place] = anomaly_maps(base.manifest, [energy[None] for energy in energies], head)[0]
        on_step(fold + 1, folds)
    return np.stack([one for one in maps if one is not None])
