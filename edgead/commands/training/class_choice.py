"""Choice of the form of each class, by what it finds and what all classes may take together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.commands.training.form_choice import best_fraction, power, rates_to_judge, worth
from edgead.progress import Progress
from edgead.teach.form import describe_form

if TYPE_CHECKING:
    from edgead.models.backbone import Backbone
    from edgead.models.level import LevelSpec
    from edgead.train.class_fits import ClassFit, FitOptions
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import Rows


@dataclass(frozen=True)
class ClassChoice:
    """One form of one class that was tried.

    Attributes:
        class_name: Name of the class.
        image_size: Side of the class's input, in pixels.
        form: `positions` or `centres`.
        shrinkage: Weight of the covariance of all positions; None for centres.
        power: Share of the class's pseudo-defects above the thresholds of its left-out good images, mean over the rates.
        megabytes: Weights of the class in float32.
        multiply_adds: Multiply-adds per image that the class adds.
    """

    class_name: str
    image_size: int
    form: str
    shrinkage: float | None
    power: float
    megabytes: float
    multiply_adds: int

    def describe(self) -> str:
        """One sentence for the user."""
        return (
            f"Class {self.class_name}: {self.image_size} px, {describe_form(self.shrinkage)}, {self.power:.0%} of the pseudo-defects found; it takes {self.megabytes:.1f} MB of "
            f"weights and {self.multiply_adds / 1e6:.1f} million multiply-adds per image."
        )


@dataclass(frozen=True)
class Candidate:
    """A fitted form of a class.

    Attributes:
        fit: The fit.
        fraction: Share of the map behind the score.
        choice: Its record.
    """

    fit: ClassFit
    fraction: float
    choice: ClassChoice


def best_of_each_form(
    backbone: Backbone,
    specs: Sequence[LevelSpec],
    store: FeatureStore,
    rows: Rows,
    name: str,
    image_size: int,
    options: FitOptions,
    promised: float,
) -> tuple[list[Candidate], list[ClassChoice]]:
    """Fit every form of a class at one input size; of each kind of form the best, and the records of all.

    Few images are scored by fits on other images alone, which is done for the best of each kind: it decides between them.

    Args:
        backbone: Frozen features.
        specs: Features of each level of the class.
        store: Features.
        rows: Rows of the class.
        name: Name of the class.
        image_size: Side of the class's input, in pixels.
        options: Forms to try.
        promised: Promised false-alarm rate.
    """
    from edgead.models.hgad_closed_form import class_cost
    from edgead.train.class_fits import fits_of_class, scored_by_others

    rates = rates_to_judge(len(rows.good), promised)

    def judged(fit: ClassFit) -> Candidate:
        powers = {f: power(fit.scores.scores[f], fit.scores.pseudo[f], rates) for f in options.fractions}
        cost, found = class_cost(fit.levels), round(max(powers.values()), 6)
        megabytes = round(cost.megabytes, 3)
        choice = ClassChoice(name, image_size, fit.form, fit.shrinkage, found, megabytes, cost.multiply_adds)
        return Candidate(fit, best_fraction(powers), choice)

    best: dict[str, Candidate] = {}
    tried = []
    for fit in fits_of_class(backbone, specs, store, rows, options):
        one = judged(fit)
        tried.append(one.choice)
        if fit.form not in best or one.choice.power > best[fit.form].choice.power:
            best[fit.form] = one
    found = []
    for one in best.values():
        again = scored_by_others(one.fit, store, rows, options)
        found.append(one if again is one.fit else judged(again))
        tried[tried.index(one.choice)] = found[-1].choice
    return found, tried


def chosen_within(candidates: Sequence[Sequence[Candidate]], megabytes: float, progress: Progress) -> list[Candidate]:
    """Best form of each class; while all take too much memory, the class that loses least takes its smallest form.

    A larger input has to gain as much as for a model of one class.

    Args:
        candidates: Forms of each class.
        megabytes: Largest size of all classes' weights in float32.
        progress: Receives a note if a class could not have its best form, or the limit cannot be kept.
    """

    def value(one: Candidate) -> float:
        return worth(one.choice.power, one.choice.image_size)

    chosen = [max(own, key=value) for own in candidates]
    smallest = [min(own, key=lambda one: (one.choice.megabytes, -value(one))) for own in candidates]
    smaller = []
    while sum(one.choice.megabytes for one in chosen) > megabytes:
        open_ones = [i for i, one in enumerate(chosen) if one.choice.megabytes > smallest[i].choice.megabytes]
        if not open_ones:
            total = sum(one.choice.megabytes for one in chosen)
            progress.note(
                f"Warning: the classes take {total:.0f} MB, more than train.class_memory_mb={megabytes:g}; no form is smaller."
            )
            break
        index = min(open_ones, key=lambda i: value(chosen[i]) - value(smallest[i]))
        smaller.append(chosen[index].choice.class_name)
        chosen[index] = smallest[index]
    if smaller:
        progress.note(
            f"To stay within train.class_memory_mb={megabytes:g}, a smaller form serves {', '.join(smaller)}, where it loses least."
        )
    return chosen
