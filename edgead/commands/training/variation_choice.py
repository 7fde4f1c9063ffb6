"""Choice of how far changes of light, noise and compression are learned, by what it costs and what it saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgead.commands.training.best_form import BestForm
from edgead.commands.training.form_choice import Choice
from edgead.progress import Progress

# Weights in the fit, tried in this order.
WEIGHTS = (1.0, 0.3, 0.03)
# Share of the pseudo-defects that changes of light may cost without more ado.
BEARABLE_LOSS = 0.005


def choose_variation(
    best: BestForm, weight: float | None, fitted: Callable[[float], BestForm], progress: Progress
) -> tuple[BestForm, list[Choice]]:
    """Choose the weight of changes of light, noise and compression.

    The weight is the largest one with which nearly as many pseudo-defects are found; else the one with the best balance, the
    share of pseudo-defects found less the share of changed good images that raise an alarm. Where that is best without
    them, the changes are not learned.

    Args:
        best: Form without them.
        weight: Weight that is taken in any case; None = chosen.
        fitted: Function from a weight to the same form fitted with it, with its `varied_alarms`.
        progress: Receiver of progress, and of a note that says what was chosen.

    Returns:
        The form that is kept, and every fit that was tried.
    """
    weights = WEIGHTS if weight is None else (weight,)
    steps, unvaried = len(weights) + (weight is None), best.choice
    tried: list[BestForm] = []
    kept: BestForm | None = None
    for done, each in enumerate(weights, start=1):
        tried.append(fitted(each))
        is_borne = weight is not None or bears(tried[-1].choice.power, best.choice.power)
        progress.update("Changes of light", steps if is_borne else done, steps)
        if is_borne:
            kept = tried[-1]
            break
    if kept is None:
        unvaried = fitted(0.0).choice
        choice = best_balance([one.choice for one in tried], unvaried)
        kept = next((one for one in tried if one.choice is choice), None)
        progress.update("Changes of light", steps, steps)
    shown = tried[-1] if kept is None else kept
    progress.note(variation_note(unvaried, shown.choice, len(best.rows.varied), kept is not None))
    return kept or best, [one.choice for one in tried]


def best_balance(tried: Sequence[Choice], unvaried: Choice) -> Choice | None:
    """The fit with changes of light that finds most pseudo-defects, less the alarms that changed good images raise.

    Args:
        tried: Fits with changes of light, with their `varied_alarms`.
        unvaried: The fit without them.

    Returns:
        One of `tried`, or None if the fit without them has the better balance.
    """

    def balance(choice: Choice) -> float:
        assert choice.varied_alarms is not None
        return choice.power - choice.varied_alarms

    best = max(tried, key=balance)
    return best if balance(best) >= balance(unvaried) else None


def bears(varied: float, unvaried: float) -> bool:
    """Whether a fit with changes of light finds nearly as many pseudo-defects as one without, each a share 0..1."""
    return varied >= unvaried - BEARABLE_LOSS


def variation_note(unvaried: Choice, varied: Choice, n_copies: int, is_kept: bool) -> str:
    """Cost of learning changes of light, noise and compression, in a sentence for the user.

    Args:
        unvaried: The best form without them.
        varied: The fit with them that is kept, else the last one that was tried.
        n_copies: Number of changed copies of good images.
        is_kept: Whether the fit with them is kept.
    """
    found = f"{varied.power:.1%} of the pseudo-defects found, {unvaried.power:.1%} without"
    if varied.varied_alarms is not None:
        found += f"; {varied.varied_alarms:.1%} of the copies raise an alarm"
        if unvaried.varied_alarms is not None:
            found += f", {unvaried.varied_alarms:.1%} without"
    if not is_kept:
        return f"Changes of light, noise and compression are not learned: at weight {varied.variation:g}, {found}."
    return f"Changes of light, noise and compression, learned from {n_copies} copies at weight {varied.variation:g}: {found}."
