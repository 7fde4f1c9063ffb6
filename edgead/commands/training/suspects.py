"""Good images that look defective: their left-out scores lie so far beyond the others that chance hardly gives one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.data.dataset import Sample
from edgead.evaluation.threshold import threshold_from_scores
from edgead.printable import path_text
from edgead.progress import Progress
from edgead.teach.scoring import pooled

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
    posterior predictive under a scale-free prior). A score is suspected if fewer than 0.05 are expected; of scores by several
    shares of the map, the median of these numbers counts, so that no defect is overlooked because it covers more or less of the
    map than the share that was chosen.

    Args:
        scores: Left-out scores of independent good images, `(n,)`, or `(k, n)` by k shares of the map; none is suspected among
            fewer than 40.
    """
    rows = np.atleast_2d(np.asarray(scores, np.float64))
    if rows.shape[1] < MIN_IMAGES:
        return []
    expected = np.median([_expected(row) for row in rows], axis=0)
    order = np.lexsort((-rows[0], expected))
    return [int(index) for index in order if expected[index] < EXPECTED]


def scores_by_share(maps: NDArray[np.float32], shares: Sequence[float]) -> NDArray[np.float64]:
    """Scores `(k, n)` of images by k shares of the map, from the maps `(n, tiles, h, w)` of their inputs."""
    inputs = maps.reshape(-1, *maps.shape[2:])
    return np.stack([pooled(inputs, share).reshape(len(maps), -1).max(axis=1) for share in shares])


def _expected(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Number of scores that the tail of all lets expect beyond each of them."""
    start, end = np.quantile(values, (TAIL_FROM, TAIL_TO))
    tail = values[values > start]
    total = float((np.minimum(tail, end) - start).sum())
    n_exact = int((tail <= end).sum())
    if total <= 0.0 or n_exact == 0:
        return np.full(len(values), np.inf)
    return np.asarray(len(tail) * (1.0 + np.maximum(values - start, 0.0) / total) ** -n_exact, np.float64)


def noted_suspects(
    samples: Sequence[Sample],
    scores: ArrayLike,
    promised_rate: float,
    sheet: Path,
    progress: Progress,
    class_name: str | None = None,
    *,
    by_share: ArrayLike,
) -> list[int]:
    """Suspected defects by their scores at several shares of the map, `(k, n)`, of which the user is told.

    The other arguments are those of `suspects_note`, and the result is that of `suspected_defects`.
    """
    found = suspected_defects(by_share)
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
