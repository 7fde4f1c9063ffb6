"""Choice of the form of each class, by what it finds and what all classes may take together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.commands.training.form_choice import power, rates_to_judge
from edgead.progress import Progress
from edgead.teach.form import describe_form

if TYPE_CHECKING:
    from edgead.models.detector import Detector
    from edgead.train.class_fits import ClassFit, FitOptions
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Rows


@dataclass(frozen=True)
class ClassChoice:
    """One form of one class that was tried.

    Attributes:
        class_name: Name of the class.
        form: `positions` or `centres`.
        shrinkage: Weight of the covariance of all positions; None for centres.
        power: Share of the class's pseudo-defects above the thresholds of its left-out good images, mean over the rates.
        megabytes: Weights of the class in float32.
        multiply_adds: Multiply-adds per image that the class adds.
    """

    class_name: str
    form: str
    shrinkage: float | None
    power: float
    megabytes: float
    multiply_adds: int

    def describe(self) -> str:
        """One sentence for the user."""
        return (
            f"Class {self.class_name}: {describe_form(self.shrinkage)}, {self.power:.0%} of the pseudo-defects found; it takes {self.megabytes:.1f} MB of "
            f"weights and {self.multiply_adds / 1e6:.1f} million multiply-adds per image."
        )


@dataclass(frozen=True)
class Candidate:
    """A fitted form of a class.

    Attributes:
        fit: The fit.
        powers: Share of the class's pseudo-defects that it finds, by share of the map behind the score.
        choice: Its record.
    """

    fit: ClassFit
    powers: Mapping[float, float]
    choice: ClassChoice


def best_of_each_form(
    model: Detector, store: FeatureStore, rows: Rows, name: str, options: FitOptions, promised: float
) -> tuple[list[Candidate], list[ClassChoice]]:
    """Fit every form of a class; of each kind of form the one that finds most pseudo-defects, best first, and all records.

    Args:
        model: Model with the backbone and the features of each class.
        store: Features.
        rows: Rows of the class.
        name: Name of the class.
        options: Forms to try.
        promised: Promised false-alarm rate.
    """
    from edgead.models.hgad_closed_form import class_cost
    from edgead.train.class_fits import fits_of_class

    best: dict[str, Candidate] = {}
    tried = []
    rates = rates_to_judge(len(rows.good), promised)
    for fit in fits_of_class(model.backbone, model.levels, store, rows, options):
        powers = {f: power(fit.scores.scores[f], fit.scores.pseudo[f], rates) for f in options.fractions}
        found, cost = round(max(powers.values()), 6), class_cost(fit.levels)
        choice = ClassChoice(name, fit.form, fit.shrinkage, found, round(cost.megabytes, 3), cost.multiply_adds)
        tried.append(choice)
        if fit.form not in best or found > best[fit.form].choice.power:
            best[fit.form] = Candidate(fit, powers, choice)
    return sorted(best.values(), key=lambda one: -one.choice.power), tried


def chosen_within(candidates: Sequence[Sequence[Candidate]], megabytes: float, progress: Progress) -> list[Candidate]:
    """Best form of each class; while all take too much memory, the class that loses least takes its smallest form.

    Args:
        candidates: Forms of each class, best first.
        megabytes: Largest size of all classes' weights in float32.
        progress: Receives a note if a class could not have its best form, or the limit cannot be kept.
    """
    chosen = [own[0] for own in candidates]
    smallest = [min(own, key=lambda one: one.choice.megabytes) for own in candidates]
    smaller = []
    while sum(one.choice.megabytes for one in chosen) > megabytes:
        open_ones = [i for i, one in enumerate(chosen) if one.choice.megabytes > smallest[i].choice.megabytes]
        if not open_ones:
            total = sum(one.choice.megabytes for one in chosen)
            progress.note(
                f"Warning: the classes take {total:.0f} MB, more than train.class_memory_mb={megabytes:g}; no form is smaller."
            )
            break
        index = min(open_ones, key=lambda i: chosen[i].choice.power - smallest[i].choice.power)
        smaller.append(chosen[index].choice.class_name)
        chosen[index] = smallest[index]
    if smaller:
        progress.note(
            f"To stay within train.class_memory_mb={megabytes:g}, a smaller form serves {', '.join(smaller)}, where it loses least."
        )
    return chosen
