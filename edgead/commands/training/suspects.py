"""Good images that look defective: their left-out scores lie so far beyond the others that chance hardly gives one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from edgead.data.dataset import Sample
from edgead.evaluation.threshold import threshold_from_scores
from edgead.printable import path_text
from edgead.progress import Progress

SHEET = "suspected-defects.png"
MIN_IMAGES = 40
TAIL_FROM, TAIL_TO = 0.80, 0.95
EXPECTED = 0.05
NAMED = 5


def suspected_defects(scores: ArrayLike) -> list[int]:
    r"""Indices of scores that the tail of the others does not explain, the highest first.

    The excesses over the 80 % quantile u are taken as exponential, which holds far out for most distributions with light
    tails. Those over the 95 % quantile, which the suspects may be, count only as larger than it (censored). With d uncensored
    excesses and the sum S of all, n scores are expected to exceed s by :math:`0.2\, n\, (1 + (s - u) / S)^{-d}` times (the
    posterior predictive under a scale-free prior). A score is suspected if fewer than 0.05 are expected.

    Args:
        scores: Left-out scores of independent good images `(n,)`; none is suspected among fewer than 40.
    """
    values = np.asarray(scores, np.float64)
    n = len(values)
    if n < MIN_IMAGES:
        return []
    start, end = np.quantile(values, (TAIL_FROM, TAIL_TO))
    tail = values[values > start]
    total = float((np.minimum(tail, end) - start).sum())
    n_exact = int((tail <= end).sum())
    if total <= 0.0 or n_exact == 0:
        return []
    expected = len(tail) * (1.0 + np.maximum(values - start, 0.0) / total) ** -n_exact
    order = np.argsort(-values, kind="stable")
    return [int(index) for index in order if expected[index] < EXPECTED]


def noted_suspects(
    samples: Sequence[Sample],
    scores: ArrayLike,
    promised_rate: float,
    sheet: Path,
    progress: Progress,
    class_name: str | None = None,
) -> list[int]:
    """Suspected defects, of which the user is told; arguments and result as for `suspected_defects` and `suspects_note`."""
    found = suspected_defects(scores)
    if found:
        rate = max(promised_rate, 1.0 / (len(samples) - len(found) + 1))
        progress.note(suspects_note(samples, scores, found, rate, sheet, class_name))
    return found


def suspects_note(
    samples: Sequence[Sample],
    scores: ArrayLike,
    suspects: Sequence[int],
    rate: float,
    sheet: Path,
    class_name: str | None = None,
) -> str:
    """Sentences for the user about the suspected images, and what they cost if they are good parts.

    Args:
        samples: Good images behind the threshold, suspects included.
        scores: Their left-out scores.
        suspects: Indices of the suspects.
        rate: Promised false-alarm rate.
        sheet: Picture of the suspects.
        class_name: Class of the images, if the model has others too.
    """
    values = np.asarray(scores, np.float64)
    named = ", ".join(f"{path_text(samples[i].name)} ({values[i]:.3g})" for i in suspects[:NAMED])
    more = f" and {len(suspects) - NAMED} more" if len(suspects) > NAMED else ""
    kept = np.delete(values, list(suspects))
    record = threshold_from_scores(kept, rate)
    above = int((kept >= record.value).sum())
    of_class = "" if class_name is None else f" of class {class_name}"
    return (
        f"Warning: {len(suspects)} of {len(values)} good images{of_class} look defective, by scores far beyond all others: {named}{more}. "
        f"They are left out of the fit and of the threshold. {path_text(sheet)} shows them: if they are good parts, "
        f"{(above + len(suspects)) / (len(values) + 1):.2%} of good parts will raise alarms instead of {rate:.2%}, and "
        "--set train.leave_out_suspects=false keeps them."
    )
