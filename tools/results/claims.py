"""Expected results, and whether they were confirmed: computed, never typed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from tools.results.cells import PLAIN, UNIFIED
from tools.results.results import IMAGE_AUROC, Group, Results, mean, pooled_spread, spread

CONFIRMED, REFUTED, NOISE, OPEN = "confirmed", "refuted", "within noise", "not measured yet"
LEVEL = 0.05
MOST_FLIPS, RANDOM_FLIPS = 20, 100_000
GAIN, LOSS = 2.0, 1.0  # points of image AUROC


@dataclass(frozen=True)
class Claim:
    """An expectation and its verdict.

    Attributes:
        name: Short key for the explanations in the table's YAML.
        text: Expectation.
        verdict: `confirmed`, `refuted`, `within noise` or `not measured yet`.
        numbers: Measured values, in points of image AUROC.
    """

    name: str
    text: str
    verdict: str
    numbers: str


def judge(results: Results) -> list[Claim]:
    """Judge all claims."""
    return [
        *_swap(results, "uniform", "uniform couplings have", "affine ones", _partner("coupling", "uniform", "affine")),
        *_swap(results, "altub", "AltUB has", "a standard normal base", _partner("base", "altub", "normal")),
        *_unified(results),
    ]


Partner = Callable[[Results, Group], "Group | None"]


def _partner(axis: Literal["coupling", "base"], new: str, old: str) -> Partner:
    def find(results: Results, group: Group) -> Group | None:
        if getattr(group, axis) != new:
            return None
        other = replace(group, coupling=old) if axis == "coupling" else replace(group, base=old)
        return results.groups.get(other.key)

    return find


def _swap(results: Results, name: str, new: str, old: str, partner: Partner) -> list[Claim]:
    """Two claims about changing one part of the detector: spread over seeds, and mean."""
    pairs = []
    for group in results.per_class():
        other = partner(results, group)
        if other is not None:
            mine, its = group.by_seed(IMAGE_AUROC), other.by_seed(IMAGE_AUROC)
            if both := [seed for seed in mine if seed in its]:
                pairs.append((_points([mine[seed] for seed in both]), _points([its[seed] for seed in both])))
    spreads = [(a, b) for a, b in pairs if len(a) > 1 and len(b) > 1]
    means = [(mean(a) or 0.0, mean(b) or 0.0) for a, b in pairs]
    return [
        _spread_claim(f"{name}-spread", f"{new} a smaller spread over seeds than {old}", spreads),
        _mean_claim(f"{name}-mean", f"{new} no worse mean than {old}", means),
    ]


def _spread_claim(name: str, text: str, pairs: Sequence[tuple[list[float], list[float]]]) -> Claim:
    new, old = (pooled_spread([pair[side] for pair in pairs]) for side in (0, 1))
    if new is None or old is None:
        return Claim(name, text, OPEN, "")
    changes = [(spread(a) or 0.0) - (spread(b) or 0.0) for a, b in pairs]
    p = sign_flip_p(changes)
    numbers = f"pooled std {new:.2f} against {old:.2f} over {len(pairs)} pairs, {_p(p)}"
    verdict = NOISE if p >= LEVEL else CONFIRMED if sum(changes) < 0 else REFUTED
    return Claim(name, text, verdict, numbers)


def _mean_claim(name: str, text: str, pairs: Sequence[tuple[float, float]]) -> Claim:
    if not pairs:
        return Claim(name, text, OPEN, "")
    changes = [new - old for new, old in pairs]
    change, p = mean(changes) or 0.0, sign_flip_p(changes)
    means = [mean([pair[side] for pair in pairs]) or 0.0 for side in (0, 1)]
    numbers = f"mean {means[0]:.2f} against {means[1]:.2f} ({_signed(change)}) over {len(pairs)} pairs, {_p(p)}"
    verdict = CONFIRMED if change >= 0 else REFUTED if p < LEVEL else NOISE
    return Claim(name, text, verdict, numbers)


def sign_flip_p(changes: Sequence[float]) -> float:
    """Two-sided p-value of the hypothesis that each change is as likely to have the other sign.

    Exact up to `MOST_FLIPS` changes; above, from random signs.
    """
    sizes = np.abs(np.asarray(changes, np.float64))
    if not sizes.any():
        return 1.0
    if len(sizes) > MOST_FLIPS:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (RANDOM_FLIPS, len(sizes)))
        sums = signs @ sizes
    else:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums - size, sums + size])
    return float((np.abs(sums) >= abs(sum(changes)) - 1e-9 * sizes.sum()).mean())


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _unified(results: Results) -> list[Claim]:
    plain = _find(results, UNIFIED, "fastflow", "affine", "normal")
    claims = []
    for coupling, label in (("affine", "HGAD"), ("uniform", "HGAD-USF")):
        group = _find(results, UNIFIED, "hgad", coupling, "normal")
        for mode in group.modes if group else ("given",):
            mine = _points(group.values(IMAGE_AUROC, mode)) if group else []
            suffix = f"hgad-{coupling}-{mode}"
            claims.append(
                _difference(
                    f"{suffix}-gain",
                    f"unified {label}, class {_WORDS.get(mode, mode)}, beats the plain unified flow by at least {GAIN:g} points",
                    mine,
                    _points(plain.values(IMAGE_AUROC)) if plain else [],
                    GAIN,
                )
            )
            claims.append(
                _difference(
                    f"{suffix}-loss",
                    f"unified {label}, class {_WORDS.get(mode, mode)}, stays within {LOSS:g} point of the FastFlow models per data set",
                    mine,
                    _per_class_means(results),
                    -LOSS,
                )
            )
    return claims


_WORDS = {"given": "given", "predicted": "predicted", "none": "unknown", PLAIN: "unknown"}


def _difference(name: str, text: str, mine: list[float], its: list[float], least: float) -> Claim:
    """Whether `mine - its` is at least `least`, given what seeds alone change (Welch's interval)."""
    if not mine or not its:
        return Claim(name, text, OPEN, "")
    gain = (mean(mine) or 0.0) - (mean(its) or 0.0)
    numbers = f"{mean(mine):.2f} against {mean(its):.2f} ({_signed(gain)})"
    if len(mine) < 2 or len(its) < 2:
        return Claim(name, text, NOISE, f"{numbers}, no interval from one seed")
    half = _welch_half_width(mine, its)
    numbers += f", 95 % interval {_signed(gain - half)} to {_signed(gain + half)}"
    verdict = CONFIRMED if gain - half >= least else REFUTED if gain + half < least else NOISE
    return Claim(name, text, verdict, numbers)


def _welch_half_width(first: list[float], second: list[float]) -> float:
    parts = [(spread(values) or 0.0) ** 2 / len(values) for values in (first, second)]
    total = sum(parts)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (first, second), strict=True))
    return float(stats.t.ppf(1 - LEVEL / 2, freedom)) * math.sqrt(total)


def _per_class_means(results: Results) -> list[float]:
    """Mean over the data sets of the plain FastFlow models, one per seed that is finished on all of them."""
    groups = [_find(results, data, "fastflow", "affine", "normal") for data in results.table.data_sets]
    by_seed: dict[int, list[float]] = {}
    for group in groups:
        for seed, value in group.by_seed(IMAGE_AUROC).items() if group else ():
            by_seed.setdefault(seed, []).append(100.0 * value)
    return [mean(values) or 0.0 for values in by_seed.values() if len(values) == len(groups)]


def _find(results: Results, data: str, model: str, coupling: str, base: str) -> Group | None:
    return results.groups.get((data, model, coupling, base, ""))


def _points(values: Sequence[float]) -> list[float]:
    return [100.0 * value for value in values]
