"""Choice of how far changes of light, noise and compression are learned."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.commands.training.form_choice import Choice
from edgead.commands.training.variation_choice import WEIGHTS, bears, choose_variation
from edgead.progress import Silent

if TYPE_CHECKING:
    from edgead.commands.training.best_form import BestForm

PLAIN = Choice(320, "centres", None, 0.01, 0.60, 20.0)


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        self.steps.append((done, total))


def chosen(
    found: dict[float, tuple[float, float]], weight: float | None = None
) -> tuple[Choice, list[Choice], list[float], Notes]:
    """Choose among fits; `found` gives the share of pseudo-defects found and of alarms for each weight."""
    asked: list[float] = []

    def fitted(weight: float) -> tuple[BestForm, NDArray[np.bool_]]:
        asked.append(weight)
        power, alarms = found[weight]
        choice = replace(PLAIN, variation=weight, power=power, varied_alarms=alarms)
        return form(choice), np.arange(100) < 100 * alarms

    notes = Notes()
    best, tried = choose_variation(
        form(PLAIN), weight, fitted, lambda: ["noise"] * 10 + ["jpeg"] * 40 + ["gain"] * 50, notes
    )
    return best.choice, tried, asked, notes


def form(choice: Choice) -> BestForm:
    return cast("BestForm", SimpleNamespace(choice=choice, rows=SimpleNamespace(varied=range(250))))


def test_the_largest_weight_that_costs_hardly_anything_is_kept() -> None:
    """Half a point of the pseudo-defects is hardly anything, and no smaller weight is fitted then."""
    assert bears(0.596, 0.60)
    assert bears(0.70, 0.60)
    assert not bears(0.594, 0.60)
    best, tried, asked, notes = chosen({1.0: (0.50, 0.0), 0.3: (0.597, 0.004)})
    assert (best.variation, asked, len(tried)) == (0.3, [1.0, 0.3], 2)
    assert notes.texts == [
        "Changes of light, noise and compression, learned from 250 copies at weight 0.3: 59.7% of the pseudo-defects found, "
        "60.0% without; 0.4% of the copies raise an alarm."
    ]
    assert notes.steps == [(1, 4), (4, 4)]


def test_changes_that_cost_defects_are_not_learned_and_people_are_told() -> None:
    """The form without them stays; the note says what they cost, what alarms without them, and how to learn them."""
    best, tried, asked, notes = chosen({1.0: (0.3, 0.0), 0.3: (0.4, 0.0), 0.03: (0.5, 0.01), 0.0: (0.60, 0.12)})
    assert (best, asked) == (PLAIN, [*WEIGHTS, 0.0])
    assert [choice.variation for choice in tried] == list(WEIGHTS)
    assert notes.texts == [
        "Changes of light, noise and compression are not learned: at weight 0.03, 50.0% of the pseudo-defects found, 60.0% without. "
        "But 12.0% of the good images changed in this way would raise an alarm (noise 100%, JPEG 5%), and 1.0% with it: where "
        "the camera's light, noise or compression can change so, train with --set train.variation=0.03."
    ]
    assert notes.steps[-1] == (4, 4)


def test_few_alarms_need_no_advice() -> None:
    _best, _tried, _asked, notes = chosen({1.0: (0.3, 0.0), 0.3: (0.4, 0.0), 0.03: (0.5, 0.01), 0.0: (0.60, 0.01)})
    assert notes.texts[0].endswith("60.0% without.")


@pytest.mark.parametrize("power", [0.1, 0.9])
def test_a_given_weight_is_not_chosen(power: float) -> None:
    best, tried, asked, _notes = chosen({2.0: (power, 0.5)}, weight=2.0)
    assert (best.variation, asked, len(tried)) == (2.0, [2.0], 1)
