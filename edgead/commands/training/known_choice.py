"""Share of known defects in the choice of a form, and the choices without each of them, which judge it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.form_choice import NEARLY, Choice, best_choice, power
from edgead.data.dataset import Sample
from edgead.evaluation.threshold import threshold_from_scores

# Number of known defects that weighs as much as all artificial ones. The difference between two forms has a variance of about
# 0.16 for one known defect (found by one form alone in one case of six), and artificial defects are off by about 0.09 from the
# truth however many are drawn: 0.16 / 0.09² = 20. Both are assumptions and not fitted to any data set.
EQUAL = 20
# Weight of one level of features against 1 for each of the others.
LEVEL_WEIGHT = 3.0


def weight_of_known(n: int) -> float:
    """Weight of n known defects in the choice, from 0 to 1, beside the artificial ones."""
    return n / (n + EQUAL)


def level_weights_to_try(own: Sequence[float], n_levels: int, *, decide: bool) -> tuple[tuple[float, ...], ...]:
    """Weights of the levels to try: all alike, and each level in turn at three times the weight of the others.

    Args:
        own: Weights of the settings; with any, they are the only ones.
        n_levels: Number of levels.
        decide: Whether there are known defects that decide; artificial ones do not choose weights.

    Returns:
        Weights for each candidate; a single empty tuple where nothing is to choose.
    """
    if own or n_levels == 1 or not decide:
        return ((),)
    ones = (1.0,) * n_levels
    return (ones, *((*ones[:level], LEVEL_WEIGHT, *ones[level + 1 :]) for level in range(n_levels)))


@dataclass(frozen=True)
class Tally:
    """Findings of one form, by share of the map behind the score.

    Attributes:
        artificial: Share of artificial defects found, mean over the rates.
        known: Whether each known defect is found at each rate, `(rates, n)`.
    """

    artificial: Mapping[float, float]
    known: Mapping[float, NDArray[np.bool_]]

    @staticmethod
    def of(
        good: Mapping[float, NDArray[np.float64]],
        artificial: Mapping[float, NDArray[np.float64]],
        known: Mapping[float, NDArray[np.float64]],
        rates: Sequence[float],
    ) -> Tally:
        """Count what lies above the thresholds of good images.

        Args:
            good: Left-out scores of good images, by share of the map.
            artificial: Scores of artificial defects.
            known: Scores of known defects; empty without any.
            rates: False-alarm rates of the thresholds.
        """
        found = {}
        for share, scores in known.items():
            thresholds = [threshold_from_scores(good[share], rate).value for rate in rates]
            found[share] = np.stack([scores > threshold for threshold in thresholds])
        return Tally({share: power(scores, artificial[share], rates) for share, scores in good.items()}, found)

    def judge(self, choice: Choice, used: Sequence[int], *, decide: bool) -> Choice:
        """The choice with its share of the map and what it finds.

        Args:
            choice: Form of the scores.
            used: Numbers of the known defects that count.
            decide: Whether they take part in the choice, or are only counted.
        """
        found = {share: float(hits[:, list(used)].mean()) for share, hits in self.known.items()} if used else {}
        weight = weight_of_known(len(used)) if decide and found else 0.0
        values = {
            share: value if not weight else (1.0 - weight) * value + weight * found[share]
            for share, value in self.artificial.items()
        }
        fraction = best_fraction_of_both(self.artificial, values)
        return replace(
            choice,
            top_fraction=fraction,
            power=round(self.artificial[fraction], 6),
            known_power=round(found[fraction], 6) if found else None,
            known_weight=round(weight, 6),
        )


def best_fraction_of_both(artificial: Mapping[float, float], merits: Mapping[float, float]) -> float:
    """Largest share of the map that finds 9 of 10 that the best one finds, of the artificial defects and of both kinds together.

    The tolerance for larger defects has to hold for each: known defects that every share finds would otherwise hide in the mean that a
    large one loses many artificial ones. Where no share does, the one that finds most of both is taken.

    Args:
        artificial: Share of artificial defects found, by share of the map.
        merits: Weighted mean with the share of known defects found.
    """
    limit, least = NEARLY * max(artificial.values()), NEARLY * max(merits.values())
    both = [share for share, found in artificial.items() if found >= limit and merits[share] >= least]
    return max(both) if both else max(merits, key=lambda share: merits[share])


def folds_of(samples: Sequence[Sample], pattern: str | None) -> tuple[int, ...]:
    """Number of the fold of each known defect, each its own but for pictures of one part and kind.

    Args:
        samples: Known defects.
        pattern: Regular expression on names, `data.group_pattern`: pictures of a kind with the same match, or first group of it, show
            one part.
    """
    first: dict[tuple[str, str], int] = {}
    folds = []
    for number, sample in enumerate(samples):
        match = re.search(pattern, sample.name) if pattern else None
        if match is None:
            folds.append(number)
            continue
        folds.append(first.setdefault((sample.defect, match[1] if match.re.groups else match[0]), number))
    return tuple(folds)


@dataclass(frozen=True)
class Judgement:
    """A known defect, judged by a form that was chosen without it.

    Attributes:
        choice: The form.
        score: Its score.
        threshold: Threshold from the left-out scores of good images.
    """

    choice: Choice
    score: float
    threshold: float

    @property
    def is_found(self) -> bool:
        return self.score > self.threshold


@dataclass
class ChoicesWithout:
    """Best form without each fold of known defects, kept while the forms are tried (leave-one-out: Stone, 1974).

    Each fold goes through the same choice as the model, but for its own defects, which the form of the fold then judges.

    Attributes:
        folds: Fold of each known defect.
        decide: Whether known defects take part in the choice.
        best: Best form of each fold so far.
        judged: Judgement of each known defect so far.
    """

    folds: Sequence[int]
    decide: bool
    best: dict[int, Choice] = field(default_factory=dict)
    judged: dict[int, Judgement] = field(default_factory=dict)

    def better(self, choice: Choice, tally: Tally, among: Sequence[int] | None = None) -> dict[int, Choice]:
        """The choice as each fold for which it is the best one yet sees it.

        Args:
            choice: Form.
            tally: What it finds.
            among: Folds that are asked; None = all.
        """
        found = {}
        for fold in sorted(set(self.folds)) if among is None else among:
            used = [number for number, own in enumerate(self.folds) if own != fold]
            seen = tally.judge(choice, used, decide=self.decide)
            best = self.best.get(fold)
            if best is None or best_choice([best, seen]) is seen:
                found[fold] = seen
        return found

    def take(
        self,
        better: Mapping[int, Choice],
        known: Mapping[float, NDArray[np.float64]],
        thresholds: Mapping[float, float],
    ) -> None:
        """Keep a choice for some folds, and let it judge their defects.

        Args:
            better: Result of `better`.
            known: Scores of the known defects under the choice, by share of the map.
            thresholds: Thresholds of the image score, by share of the map.
        """
        for fold, choice in better.items():
            self.best[fold] = choice
            for number, own in enumerate(self.folds):
                if own == fold:
                    share = choice.top_fraction
                    self.judged[number] = Judgement(choice, float(known[share][number]), thresholds[share])

    def judged_finally(self, final: Choice, scores: NDArray[np.float64], threshold: float) -> list[Judgement]:
        """Judgement of each known defect; where the fold has chosen the form of the model, by the finished model itself.

        That form was fitted again without suspected good images, if there were any; the others were not.

        Args:
            final: Form of the model.
            scores: Scores of the known defects under the finished model `(n,)`.
            threshold: Its threshold.
        """
        found = []
        for number in range(len(self.folds)):
            one = self.judged[number]
            is_same = one.choice.is_same_form(final)
            found.append(Judgement(one.choice, float(scores[number]), threshold) if is_same else one)
        return found

    def n_others(self, final: Choice) -> int:
        """Number of known defects whose fold has chosen another form than the model."""
        return sum(not one.choice.is_same_form(final) for one in self.judged.values())
