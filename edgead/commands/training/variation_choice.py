"""Choice of how far changes of light, noise and compression are learned, by what it costs and what it saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.best_form import BestForm
from edgead.commands.training.form_choice import Choice
from edgead.data.variations import VARIATIONS
from edgead.progress import Progress

# Weights in the fit, tried in this order, and the share of pseudo-defects that they may cost.
WEIGHTS = (1.0, 0.3, 0.03)
BEARABLE_LOSS = 0.005
# Shares of changed copies that raise an alarm, from which on people are told how to lower it.
MANY_ALARMS = 0.02


def choose_variation(
    best: BestForm,
    weight: float | None,
    fitted: Callable[[float], tuple[BestForm, NDArray[np.bool_]]],
    kinds: Callable[[], Sequence[str]],
    progress: Progress,
) -> tuple[BestForm, list[Choice]]:
    """Choose the weight of changes of light, noise and compression: the largest with which nearly as many pseudo-defects are found.

    Where every weight costs more, the changes are not learned, and people are told what that saves and what it costs.

    Args:
        best: Form without them.
        weight: Weight that is taken in any case; None = chosen.
        fitted: Function from a weight to the same form fitted with it, with its `varied_alarms`, and to whether each changed
            copy of a good image raises an alarm, `(n,)`.
        kinds: Function to the name of the change of each copy; called only if the changes are not learned.
        progress: Receiver of progress, and of a note that says what was chosen.

    Returns:
        The form that is kept, and every fit that was tried.
    """
    weights = WEIGHTS if weight is None else (weight,)
    steps = len(weights) + (weight is None)
    tried: list[Choice] = []
    for done, each in enumerate(weights, start=1):
        varied, _ = fitted(each)
        tried.append(varied.choice)
        is_borne = weight is not None or bears(varied.choice.power, best.choice.power)
        progress.update("Changes of light", steps if is_borne else done, steps)
        if is_borne:
            progress.note(learned_note(best.choice, varied.choice, len(best.rows.varied)))
            return varied, tried
    unvaried, alarms = fitted(0.0)
    progress.update("Changes of light", steps, steps)
    progress.note(not_learned_note(unvaried.choice, tried[-1], alarms_by_kind(alarms, kinds())))
    return best, tried


def bears(varied: float, unvaried: float) -> bool:
    """Whether a fit with changes of light finds nearly as many pseudo-defects as one without, each a share 0..1."""
    return varied >= unvaried - BEARABLE_LOSS


def alarms_by_kind(alarms: NDArray[np.bool_], kinds: Sequence[str]) -> dict[str, float]:
    """Share of the copies with each change that raise an alarm, the highest first; without changes that raise none."""
    names = np.asarray(kinds)
    shares = {name: float(alarms[names == name].mean()) for name in dict.fromkeys(kinds)}
    return {name: share for name, share in sorted(shares.items(), key=lambda one: -one[1]) if share > 0.0}


def learned_note(unvaried: Choice, varied: Choice, n_copies: int) -> str:
    """One sentence for the user: the cost of learning the changes.

    Args:
        unvaried: The best form without them.
        varied: The same with them.
        n_copies: Number of changed copies of good images.
    """
    return (
        f"Changes of light, noise and compression, learned from {n_copies} copies at weight {varied.variation:g}: {_found(unvaried, varied)}; "
        f"{varied.varied_alarms or 0.0:.1%} of the copies raise an alarm."
    )


def not_learned_note(unvaried: Choice, varied: Choice, by_kind: Mapping[str, float]) -> str:
    """Sentences for the user: why the changes are not learned, and which of them raise alarms.

    Args:
        unvaried: The best form, without them.
        varied: The same with the smallest weight.
        by_kind: Share of copies with each change that raise an alarm without.
    """
    without, learned = unvaried.varied_alarms or 0.0, varied.varied_alarms or 0.0
    text = f"Changes of light, noise and compression are not learned: at weight {varied.variation:g}, {_found(unvaried, varied)}."
    if without < MANY_ALARMS:
        return text
    titles = {name: VARIATIONS[name].title for name in by_kind}
    words = {name: title if title.isupper() else title.lower() for name, title in titles.items()}
    kinds = ", ".join(f"{words[name]} {share:.0%}" for name, share in by_kind.items())
    return (
        f"{text} But {without:.1%} of the good images changed in this way would raise an alarm ({kinds}), and {learned:.1%} with it: where the "
        f"camera's light, noise or compression can change so, train with --set train.variation={varied.variation:g}."
    )


def _found(unvaried: Choice, varied: Choice) -> str:
    return f"{varied.power:.1%} of the pseudo-defects found, {unvaried.power:.1%} without"
