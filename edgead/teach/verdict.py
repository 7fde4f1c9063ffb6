"""Verdict at the end of a teaching: what the pictures promise, what is weak, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.evaluation.threshold import images_to_certify, smallest_rate
from edgead.teach.form import Doubles
from edgead.teach.teacher import MOST_PICTURES

# Rates that lines ask for; the next one that the pictures do not certify yet is named.
WANTED_RATES = (0.1, 0.05, 0.02, 0.01, 0.005)
FOUND = 0.5
# Left-out pictures still have a share in what all positions have in common, and few show little of what good parts vary in.
FEW = 20
# A picture is odd if its left-out score is so many robust deviations above the median.
ODD = 6.0


@dataclass(frozen=True)
class Verdict:
    """Verdict on a taught model.

    Attributes:
        n_pictures: Number of pictures.
        rate: Promised share of good parts that raise an alarm.
        found: Share of the pseudo-defects above the threshold; they are artificial and small.
        odd: Names of pictures that score far above all others when left out.
        next_count: Number of pictures that would certify the next lower usual rate, and that rate; None if there is none.
    """

    n_pictures: int
    rate: float
    found: float
    odd: tuple[str, ...]
    next_count: tuple[int, float] | None

    def sentences(self) -> list[str]:
        """Lines for the user."""
        text = [
            f"With {self.n_pictures} pictures at most {self.rate:.1%} of good parts are promised to raise an alarm (each picture "
            f"judged by a model without it); {self.found:.0%} of small artificial defects are found at that threshold."
        ]
        if self.next_count is not None:
            count, rate = self.next_count
            text.append(f"{count} pictures certify {rate:.1%}.")
        if self.n_pictures < FEW:
            text.append(
                f"Warning: with fewer than {FEW} pictures the promise holds on average over many teachings, and a single one may "
                "be far off: watch the first hour, and add parts of other lots."
            )
        if self.odd:
            text.append(
                f"Warning: {', '.join(self.odd)} {'is' if len(self.odd) == 1 else 'are'} unlike the others and set the threshold: "
                "look whether a good part is shown."
            )
        if self.found < FOUND:
            text.append(
                "Warning: at this threshold most small defects are missed. Show more parts, keep them in one place under one "
                "light, or come closer with the camera."
            )
        return text


def judge_taught(scores: Doubles, pseudo: Doubles, threshold: float, names: Sequence[str]) -> Verdict:
    """Verdict from left-out scores `(n,)` of the pictures, scores `(m,)` of pseudo-defects, and the image threshold."""
    n = len(scores)
    rate = smallest_rate(n)
    centre = float(np.median(scores))
    spread = 1.4826 * float(np.median(np.abs(scores - centre)))
    odd = tuple(name for name, score in zip(names, scores, strict=True) if spread > 0 and score > centre + ODD * spread)
    found = float(np.mean(pseudo > threshold)) if len(pseudo) else 0.0
    return Verdict(n, rate, found, odd, next_promise(n))


def next_promise(n: int) -> tuple[int, float] | None:
    """Number of pictures that certify the next lower usual rate than n >= 5 do, and that rate; None if there is none.

    >>> next_promise(7), next_promise(199)
    ((9, 0.1), None)
    """
    lower = next((wanted for wanted in WANTED_RATES if wanted < smallest_rate(n) - 1e-9), None)
    count = None if lower is None else images_to_certify(lower)
    return None if lower is None or count is None or count > MOST_PICTURES else (count, lower)
