"""Choice between the forms of a closed-form model by the pseudo-defects that they find."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgead.evaluation.threshold import threshold_from_scores
from edgead.teach.form import describe_form

RATES = (0.01, 0.02, 0.05)
LARGER_GAIN = 0.02
NEARLY = 0.9
POSITIONS, CENTRES = "positions", "centres"


@dataclass(frozen=True)
class Choice:
    """One form of the model that was tried.

    Attributes:
        image_size: Side of the input, in pixels.
        form: `positions` or `centres`.
        shrinkage: Weight of the covariance of all positions; None for centres.
        top_fraction: Share of the map that the image score averages over, the largest that finds nearly as much as the best.
        power: Share of pseudo-defects above the thresholds of left-out good images, mean over the rates.
        milliseconds: Time of the backbone, see `backbone_milliseconds`.
        backbone: Network, where several were tried; otherwise empty.
        backbone_cost: Multiply-adds of the backbone, as a multiple of those of the first one at the same size.
        levels: Features of the levels, where several were tried; otherwise empty.
        variation: Weight of changes of light, noise and compression in the fit; 0 = not learned.
        level_weights: Weights of the levels, where several were tried; otherwise empty.
        known_power: Share of known defects found in the same way; None without any.
        known_weight: Weight of that share beside `power` in the choice, 0..1.
        varied_alarms: Share of good images with a change of light, noise or compression above the threshold; None where
            it was not measured.
    """

    image_size: int
    form: str
    shrinkage: float | None
    top_fraction: float
    power: float
    milliseconds: float
    backbone: str = ""
    backbone_cost: float = 1.0
    levels: tuple[str, ...] = ()
    variation: float = 0.0
    level_weights: tuple[float, ...] = ()
    known_power: float | None = None
    known_weight: float = 0.0
    varied_alarms: float | None = None

    @property
    def merit(self) -> float:
        """Share of defects found that decides: of artificial ones, and of known ones by their weight."""
        if self.known_power is None or self.known_weight == 0.0:
            return self.power
        return (1.0 - self.known_weight) * self.power + self.known_weight * self.known_power

    def is_same_form(self, other: Choice) -> bool:
        """Whether two choices are one form, however it was judged and whether or not changes of light are learned."""
        return all(getattr(self, name) == getattr(other, name) for name in _FORM)

    def describe(self) -> str:
        """One line for the user."""
        of = f"{self.backbone}, " if self.backbone else ""
        of += f"features {' and '.join(self.levels)}, " if self.levels else ""
        if self.level_weights:
            of += f"weights {':'.join(f'{weight:g}' for weight in self.level_weights)}, "
        known = "" if self.known_power is None else f" and {self.known_power:.0%} of the known defects"
        return (
            f"{self.image_size} px, {of}{describe_form(self.shrinkage)}: {self.power:.0%} of the pseudo-defects{known} found, scores from "
            f"{self.top_fraction:.2%} of the map, backbone {self.milliseconds:.0f} ms."
        )


_FORM = ("image_size", "backbone", "form", "shrinkage", "top_fraction", "levels", "level_weights")


def best_choice(choices: Sequence[Choice]) -> Choice:
    """Form that finds most; a larger input or backbone has to gain a point for each doubling of its multiply-adds."""
    return max(choices, key=lambda choice: worth(choice.merit, choice.image_size, choice.backbone_cost))


def worth(power: float, image_size: int, backbone_cost: float = 1.0) -> float:
    """Power of a form, less what it has to gain over smaller inputs and backbones.

    Args:
        power: Share of the defects found.
        image_size: Side of the input in pixels, of whose square the multiply-adds are a multiple.
        backbone_cost: Multiply-adds at the same size, as a multiple of another backbone's.
    """
    return power - LARGER_GAIN * math.log2(image_size * math.sqrt(backbone_cost))


def rates_to_judge(n_images: int, promised: float) -> tuple[float, ...]:
    """False-alarm rates at which forms are compared; those below 1/(n + 1) become that rate."""
    smallest = 1.0 / (n_images + 1)
    return tuple(sorted({max(rate, smallest) for rate in (promised, *RATES)}))


def best_fraction(powers: Mapping[float, float]) -> float:
    """Largest share of the map that finds 9 of 10 pseudo-defects that the best one finds: real defects may be larger."""
    return max(fraction for fraction, found in powers.items() if found >= NEARLY * max(powers.values()))


def power(scores: NDArray[np.float64], pseudo: NDArray[np.float64], rates: Sequence[float]) -> float:
    """Share of pseudo-defects above the thresholds of good images, mean over the rates."""
    if not len(pseudo):
        return 0.0
    thresholds = [threshold_from_scores(scores, rate).value for rate in rates]
    return float(np.mean([np.mean(pseudo > threshold) for threshold in thresholds]))
