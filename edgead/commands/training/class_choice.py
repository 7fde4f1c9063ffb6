"""Choice of the form of each class, by what it finds and what all classes may take together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        centres: Number of centres; 0 without any.
        power: Share of the class's pseudo-defects above the thresholds of its left-out good images, mean over the rates.
        megabytes: Weights of the class in float32.
        multiply_adds: Multiply-adds per image that the class adds.
        cost: The same with those in whose time its weights are read, see `ClassCost.total`.
    """

    class_name: str
    image_size: int
    form: str
    shrinkage: float | None
    centres: int
    power: float
    megabytes: float
    multiply_adds: int
    cost: int

    def describe(self) -> str:
        """One sentence for the user."""
        count = f"{self.centres:,} " if self.centres else ""
        return (
            f"Class {self.class_name}: {self.image_size} px, {count}{describe_form(self.shrinkage)}, {self.power:.0%} of the pseudo-defects found; it takes {self.megabytes:.1f} MB of "
            f"weights and {self.multiply_adds / 1e6:.1f} million multiply-adds per image."
        )


@dataclass(frozen=True)
class Limit:
    """Most that all classes of a model may take together.

    Attributes:
        setting: Name of the setting that states it, and its value.
        most: Largest sum.
        amount: What a class takes in one form.
        described: What the classes take, for a sum of it.
    """

    setting: str
    most: float
    amount: Callable[[ClassChoice], float]
    described: Callable[[float], str]


def memory_limit(megabytes: float) -> Limit:
    """Limit of the weights of all classes in float32, in MB."""
    return Limit(
        f"train.class_memory_mb={megabytes:g}",
        megabytes,
        lambda choice: choice.megabytes,
        lambda total: f"{total:.0f} MB",
    )


def cost_limit(times: float, backbone: float, taken: int) -> Limit:
    """Limit of the cost of all classes.

    Args:
        times: Largest cost, in times of the backbone's multiply-adds.
        backbone: Multiply-adds of the backbone for an image.
        taken: Cost of classes that are not chosen here, see `ClassChoice.cost`.
    """
    return Limit(
        f"train.class_cost={times:g}",
        times * backbone - taken,
        lambda choice: choice.cost,
        lambda total: f"{(total + taken) / backbone:.2f} times the multiply-adds of the backbone",
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
    """Fit every form of a class at one input size; of each kind of form and number of centres the best, and the records of all.

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
        choice = ClassChoice(
            name, image_size, fit.form, fit.shrinkage, fit.centres, found, megabytes, cost.multiply_adds, cost.total
        )
        return Candidate(fit, best_fraction(powers), choice)

    best: dict[int, Candidate] = {}
    tried = []
    for fit in fits_of_class(backbone, specs, store, rows, options):
        one = judged(fit)
        tried.append(one.choice)
        if fit.centres not in best or one.choice.power > best[fit.centres].choice.power:
            best[fit.centres] = one
    found = []
    for one in best.values():
        again = scored_by_others(one.fit, store, rows, options)
        found.append(one if again is one.fit else judged(again))
        tried[tried.index(one.choice)] = found[-1].choice
    return found, tried


def chosen_within(
    candidates: Sequence[Sequence[Candidate]], limits: Sequence[Limit], progress: Progress
) -> list[Candidate]:
    """Best form of each class; while all take too much, the class that loses least for what it saves takes a smaller form.

    A larger input has to gain as much as for a model of one class.

    Args:
        candidates: Forms of each class.
        limits: Most that all classes may take, one after the other; a form chosen for one of them takes no more of those before.
        progress: Receives a note if a class could not have its best form, or a limit cannot be kept.
    """
    chosen = [best_of(own) for own in candidates]
    for number, limit in enumerate(limits):
        smaller: dict[str, None] = {}
        while (total := sum(limit.amount(one.choice) for one in chosen)) > limit.most:
            steps = [
                (_loss(one, other, limit), index, other)
                for index, one in enumerate(chosen)
                for other in candidates[index]
                if _takes_less(other.choice, one.choice, limit, limits[:number])
            ]
            if not steps:
                progress.note(
                    f"Warning: the classes take {limit.described(total)}, more than {limit.setting}; no form is smaller."
                )
                break
            _, index, other = min(steps, key=lambda step: step[:2])
            smaller[other.choice.class_name] = None
            chosen[index] = other
        if smaller:
            progress.note(
                f"To stay within {limit.setting}, a smaller form serves {', '.join(smaller)}, where it loses least."
            )
    return chosen


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """Form of a class that finds most."""
    return max(candidates, key=_value)


def _value(one: Candidate) -> float:
    return worth(one.choice.power, one.choice.image_size)


def _loss(one: Candidate, other: Candidate, limit: Limit) -> float:
    """Loss of power per unit of the limited amount that the smaller form saves."""
    return (_value(one) - _value(other)) / (limit.amount(one.choice) - limit.amount(other.choice))


def _takes_less(other: ClassChoice, one: ClassChoice, limit: Limit, before: Sequence[Limit]) -> bool:
    is_no_more = all(kept.amount(other) <= kept.amount(one) for kept in before)
    return is_no_more and limit.amount(other) < limit.amount(one)
