"""Choice of the form of a closed-form model on the device, by its left-out scores and pseudo-defects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgead.evaluation.metrics import auroc
from edgead.evaluation.threshold import threshold_from_scores
from edgead.teach import centres, positions
from edgead.teach.base import Base, FormName
from edgead.teach.features import Features, LevelInputs, fit_projections
from edgead.teach.form import Doubles, Floats, LevelConstants, LevelEnergies, describe_form
from edgead.teach.scoring import Standardised, anomaly_maps, pooled, standardise
from edgead.teach.taught_by_others import MOST_PICTURES, maps_by_others

# With fewer pictures than channels the covariance of a position is mostly unknown: that of all positions counts for more.
FEW_PICTURES = (0.2, 0.5, 0.8, 0.95)
RATES = (0.005, 0.01, 0.02, 0.05)
SLACK = 0.02
# Weight of a position's own mean and deviation in the standardisation of its map: as in a training, and for few pictures.
OWN_SHARES = (1.0, 0.25)


@dataclass(frozen=True)
class FitSettings:
    """Settings of the closed form, as the base bundle states them.

    Attributes:
        ridge: Ridge of each position's covariance, as a share of the mean variance.
        centre_ridge: Ridge of the covariance behind the centres.
        centres: Wanted number of centres.
        shrinkage: Candidate weights of the all-position covariance where there are more pictures than channels.
        top_fractions: Candidate shares of the map behind the score.
        seed: Seed of all random choices.
        own_shares: Candidate weights of a position's own mean and deviation in the standardisation of its map.
    """

    ridge: float
    centre_ridge: float
    centres: int
    shrinkage: tuple[float, ...]
    top_fractions: tuple[float, ...]
    seed: int
    own_shares: tuple[float, ...] = OWN_SHARES


@dataclass(frozen=True)
class Candidate:
    """One form that was tried.

    Attributes:
        form: `positions` or `centres`.
        shrinkage: Weight of the covariance of all positions; None for centres.
        top_fraction: Share of the map that the score averages over.
        own_share: Weight of a position's own mean and deviation in the standardisation of its map.
        power: Share of pseudo-defects above the thresholds of the left-out pictures, mean over the rates.
        separation: AUROC of the pseudo-defects against the left-out pictures.
    """

    form: FormName
    shrinkage: float | None
    top_fraction: float
    own_share: float
    power: float
    separation: float

    @property
    def merit(self) -> float:
        """What decides: with few pictures the highest left-out score alone, which `power` goes by, is a matter of chance."""
        return 0.5 * (self.power + self.separation)

    def describe(self) -> str:
        """One sentence for the user."""
        form = describe_form(self.shrinkage)
        return (
            f"{form[0].upper()}{form[1:]}: {self.power:.0%} of the pseudo-defects found, AUROC {self.separation:.3f}, scores "
            f"from {self.top_fraction:.2%} of the map, standardised {self.own_share:.0%} by position."
        )


@dataclass(frozen=True)
class Learnt:
    """Fitted model.

    Attributes:
        chosen: Form that was kept.
        tried: All forms that were tried.
        inputs: Inputs of the levels, with the projections.
        levels: Constants of each level.
        head: Standardised head, with left-out maps.
        scores: Left-out scores of the pictures, `(n,)`; up to 100 pictures each under a model that others teach alone.
        fitted_scores: Scores of the pictures under the finished model, `(n,)`.
        pseudo_scores: Scores of the pseudo-defective copies, `(m,)`.
    """

    chosen: Candidate
    tried: tuple[Candidate, ...]
    inputs: LevelInputs
    levels: tuple[LevelConstants, ...]
    head: Standardised
    scores: Doubles
    fitted_scores: Doubles
    pseudo_scores: Doubles


@dataclass(frozen=True)
class _Trial:
    candidate: Candidate
    head: Standardised
    constants: Callable[[], tuple[LevelConstants, ...]]


def learn(
    base: Base,
    pictures: Sequence[Features],
    pseudo: Iterable[Features],
    origin: Sequence[int],
    settings: FitSettings,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Learnt:
    """Fit every form of the model to good pictures, and keep the one that tells pseudo-defects best.

    Args:
        base: Base bundle.
        pictures: Features of the good pictures, 5 or more, no two of them of one part.
        pseudo: Features of pseudo-defective copies; each is taken once, so that they need not be in memory together.
        origin: Index of the picture that each copy was made from.
        settings: Settings of the closed form.
        on_step: Called with the number of forms tried and the total.

    Raises:
        TrainingError: If the features do not vary.
    """
    inputs = LevelInputs(base, fit_projections(base, pictures))
    good = _by_level(inputs, pictures)
    copies = _by_level(inputs, pseudo)
    n, amounts = len(pictures), _amounts(base, len(pictures), settings)
    total = (len(amounts) if "positions" in base.manifest.forms else 0) + ("centres" in base.manifest.forms)
    best: _Trial | None = None
    tried: list[Candidate] = []

    def keep(trial: _Trial) -> None:
        nonlocal best
        tried.append(trial.candidate)
        on_step(len(tried), total)
        if best is None or trial.candidate.merit > best.candidate.merit:
            best = trial

    if "positions" in base.manifest.forms:
        moments = [positions.gather(level) for level in good]
        for amount in amounts:
            keep(_positions_trial(base, moments, copies, origin, amount, settings))
    if "centres" in base.manifest.forms:
        keep(_centres_trial(base, good, copies, origin, settings))
    assert best is not None
    chosen, head = best.candidate, best.head
    # a map per position needs the memory that these take
    good.clear()
    copies.clear()
    if n <= MOST_PICTURES:
        ridge = settings.ridge if chosen.form == "positions" else settings.centre_ridge
        maps = maps_by_others(
            base, pictures, chosen.form, amount=chosen.shrinkage, ridge=ridge, n_centres=settings.centres,
            seed=settings.seed, own_share=chosen.own_share,
        )  # fmt: skip
        head = replace(head, maps=maps)
    scores, fitted, of_pseudo = (
        pooled(maps, chosen.top_fraction) for maps in (head.maps, head.fitted_maps, head.pseudo_maps)
    )
    return Learnt(chosen, tuple(tried), inputs, best.constants(), head, scores, fitted, of_pseudo)


def left_out_scores(
    base: Base, pictures: Sequence[Features], settings: FitSettings, on_step: Callable[[int, int], None]
) -> Doubles:
    """Score `(n,)` of each of n >= 5 pictures under a model that others teach alone, in the form that `learn` tries first.

    That is what `learn` gives up to 100 pictures without pseudo-defects, in less time: no other form is fitted.

    Args:
        base: Base bundle.
        pictures: Features of the good pictures.
        settings: Settings of the closed form.
        on_step: Called with the number of models fitted and the total.

    Raises:
        TrainingError: If the features do not vary.
    """
    form: FormName = "positions" if "positions" in base.manifest.forms else "centres"
    maps = maps_by_others(
        base, pictures, form, amount=_amounts(base, len(pictures), settings)[0] if form == "positions" else None,
        ridge=settings.ridge if form == "positions" else settings.centre_ridge, n_centres=settings.centres,
        seed=settings.seed, own_share=settings.own_shares[0], on_step=on_step,
    )  # fmt: skip
    return pooled(maps, max(settings.top_fractions))


def outputs(base: Base, learnt: Learnt, pictures: Sequence[Sequence[NDArray[Any]]]) -> dict[str, NDArray[np.float32]]:
    """Map `(N, h, w)` and score `(N,)` of pictures from their features, computed without the graph, to check it."""
    maps = []
    for picture in pictures:
        energies = []
        for level, x in zip(learnt.levels, learnt.inputs(picture), strict=True):
            if learnt.chosen.form == "positions":
                z = np.matmul((x - level.graph["mean"][:, 0])[:, None, :], level.graph["weight_t"])[:, 0]
                energy = np.square(z).mean(axis=1)
            else:
                z = x @ level.graph["whitening"][:, :, 0, 0].T + level.graph["offset"]
                energy = centres.nearest(z, level.weights["centres"])[1] / z.shape[1]
            energies.append(energy[None])
        maps.append(anomaly_maps(base.manifest, energies, learnt.head)[0])
    stacked = np.stack(maps)
    scores = pooled(stacked, learnt.chosen.top_fraction)
    return {"anomaly_map": stacked, "pred_score": scores.astype(np.float32)}


def _amounts(base: Base, n: int, settings: FitSettings) -> tuple[float, ...]:
    """Shrinkages to try with n pictures."""
    return settings.shrinkage if n > max(level.channels for level in base.manifest.levels) else FEW_PICTURES


def _positions_trial(
    base: Base,
    moments: Sequence[positions.PositionMoments],
    copies: Sequence[Sequence[Floats]],
    origin: Sequence[int],
    amount: float,
    settings: FitSettings,
) -> _Trial:
    ridge = settings.ridge
    energies = [
        positions.energies(level, level_copies, origin, amount=amount, ridge=ridge)
        for level, level_copies in zip(moments, copies, strict=True)
    ]
    candidate, head = _judged(base, "positions", amount, energies, settings)
    return _Trial(
        candidate, head, lambda: tuple(positions.constants(level, amount=amount, ridge=ridge) for level in moments)
    )


def _centres_trial(
    base: Base,
    good: Sequence[Sequence[Floats]],
    copies: Sequence[Sequence[Floats]],
    origin: Sequence[int],
    settings: FitSettings,
) -> _Trial:
    fits = [centres.fit(level, settings.centres, ridge=settings.centre_ridge, seed=settings.seed) for level in good]
    energies: list[LevelEnergies] = [
        centres.energies(fit, level, level_copies, origin)
        for fit, level, level_copies in zip(fits, good, copies, strict=True)
    ]
    candidate, head = _judged(base, "centres", None, energies, settings)
    return _Trial(candidate, head, lambda: tuple(centres.constants(fit) for fit in fits))


def _judged(
    base: Base, form: FormName, amount: float | None, energies: Sequence[LevelEnergies], settings: FitSettings
) -> tuple[Candidate, Standardised]:
    """Best share of the map and standardisation of a form."""
    found: list[tuple[Candidate, Standardised]] = []
    for share in settings.own_shares:
        head = standardise(base.manifest, energies, share)
        for fraction in settings.top_fractions:
            scores, pseudo = pooled(head.maps, fraction), pooled(head.pseudo_maps, fraction)
            merits = _power(scores, pseudo), _separation(scores, pseudo)
            found.append((Candidate(form, amount, fraction, share, *merits), head))
    best, _ = max(found, key=lambda one: one[0].merit)
    # the largest share of the map that is nearly as good: real defects may be larger than pseudo-defects
    near = [one for one in found if one[0].own_share == best.own_share and one[0].merit >= best.merit - SLACK]
    return max(near, key=lambda one: one[0].top_fraction)


def _power(scores: Doubles, pseudo: Doubles) -> float:
    """Share of pseudo-defects above the thresholds of good pictures, mean over the rates that these certify."""
    if not len(pseudo):
        return 0.0
    rates = {max(rate, 1.0 / (len(scores) + 1)) for rate in RATES}
    return float(np.mean([np.mean(pseudo > threshold_from_scores(scores, rate).value) for rate in sorted(rates)]))


def _separation(scores: Doubles, pseudo: Doubles) -> float:
    defective: NDArray[np.bool_] = np.arange(len(scores) + len(pseudo)) >= len(scores)
    return float(auroc(np.concatenate([scores, pseudo]), defective) or 0.0)


def _by_level(inputs: LevelInputs, pictures: Iterable[Features]) -> list[list[Floats]]:
    """Inputs `(P, C)` of each level, of each picture."""
    found = [inputs(picture) for picture in pictures]
    return [[picture[index] for picture in found] for index in range(inputs.n_levels)]
