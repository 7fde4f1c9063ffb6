"""The nearest known name to a mistyped one, for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LEAST_LIKENESS = 0.7


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """` Did you mean NAME?`, or nothing if no known name is near.

    A dotted name also matches one whose last part is the same: `model.epochs` gives `train.epochs`.

    Args:
        given: Name that is not known.
        known: Known names.

    Examples:
        >>> did_you_mean("fastflwo", ["usf", "fastflow"])
        ' Did you mean fastflow?'
        >>> did_you_mean("model.epochs", ["model.name", "train.epochs"])
        ' Did you mean train.epochs?'
        >>> did_you_mean("banana", ["usf", "fastflow"])
        ''
    """
    names = list(dict.fromkeys(known))
    lowered = given.lower()
    section, _, last = lowered.rpartition(".")
    same = [name for name in names if name.lower() == lowered]
    moved = [name for name in names if "." in name and name.rpartition(".")[2].lower() == last]
    beside = {name.rpartition(".")[2]: name for name in names if section and name.rpartition(".")[0] == section}
    # a shared section would make every key of it look alike
    like = [*(beside[key] for key in _nearest(last, beside)), *([] if beside else _nearest(lowered, names))]
    near = same or moved or like
    return f" Did you mean {near[0]}?" if near else ""


def _nearest(given: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(given, list(known), n=1, cutoff=_LEAST_LIKENESS)
