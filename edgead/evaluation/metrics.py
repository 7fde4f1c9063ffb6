"""Image and pixel metrics from counts per distinct score: exact with ties, no sorting of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.errors import ShapeError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreCounts:
    """Number of positives and negatives for each distinct score.

    >>> counts = counts_from_scores([0.1, 0.4, 0.4, 0.8], [False, False, True, True])
    >>> counts.scores.tolist(), counts.positives.tolist(), counts.negatives.tolist()
    ([0.8, 0.4, 0.1], [1, 1, 0], [0, 1, 1])

    Attributes:
        scores: Distinct scores `(B,)`, descending. For binned scores, the lower edge of each bin.
        positives: Number of anomalous items with each score, `(B,)`.
        negatives: Number of ordinary items with each score, `(B,)`.
    """

    scores: Floats
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @property
    def has_both(self) -> bool:
        """Whether there is at least one positive and one negative; otherwise no ranking metric is defined."""
        return bool(self.positives.any() and self.negatives.any())

    def rates(self) -> tuple[Floats, Floats]:
        """False and true positive rates, each `(B + 1,)` in 0..1, from no item called anomalous to all."""
        return _share(self.negatives), _share(self.positives)

    def auroc(self) -> float | None:
        """Area under the ROC curve; tied scores count one half. None unless both labels are present."""
        if not self.has_both:
            return None
        false_positive_rate, true_positive_rate = self.rates()
        return area(false_positive_rate, true_positive_rate)

    def average_precision(self) -> float | None:
        r"""Average precision: precision weighted by the recall that each distinct score adds, without interpolation.

        .. math:: AP = \sum_i (R_i - R_{i-1}) P_i
        """
        if not self.has_both:
            return None
        precision, _ = self._precision_recall()
        return float((precision * self.positives).sum() / self.positives.sum())

    def f1_max(self) -> tuple[float, float] | None:
        """Largest F1 over all thresholds, and a threshold t that reaches it by the rule `score > t`.

        The threshold lies half-way between the last score called anomalous and the next one below it. It is chosen
        with the labels of the test set: use it to compare methods, not in operation.
        """
        if not self.has_both:
            return None
        called = np.cumsum(self.positives + self.negatives)
        f1 = 2.0 * np.cumsum(self.positives) / (called + self.positives.sum())
        best = int(f1.argmax())
        if best + 1 < self.scores.size:
            return float(f1[best]), float((self.scores[best] + self.scores[best + 1]) / 2)
        return float(f1[best]), float(np.nextafter(self.scores[best], -np.inf))

    def roc_curve(self, max_points: int) -> list[tuple[float, float]]:
        """Points (false positive rate, true positive rate) from (0, 0) to (1, 1), thinned to at most `max_points`."""
        return _thin(*self.rates(), max_points) if self.has_both else []

    def pr_curve(self, max_points: int) -> list[tuple[float, float]]:
        """Points (recall, precision) with rising recall, thinned to at most `max_points`."""
        if not self.has_both:
            return []
        precision, recall = self._precision_recall()
        return _thin(recall, precision, max_points)

    def _precision_recall(self) -> tuple[Floats, Floats]:
        hits = np.cumsum(self.positives)
        called = np.cumsum(self.positives + self.negatives)
        return hits / np.maximum(called, 1), hits / self.positives.sum()


def counts_from_scores(scores: ArrayLike, labels: ArrayLike) -> ScoreCounts:
    """Count labels per distinct score.

    Args:
        scores: Scores `(N,)`, finite; larger means more anomalous.
        labels: Labels `(N,)`, true for anomalous.

    Raises:
        ShapeError: If scores and labels are not vectors of the same length.
        ValueError: If a score is not finite.
    """
    values, positive = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if values.ndim != 1 or values.shape != positive.shape:
        raise ShapeError("labels", expected=f"{values.shape} like one-dimensional scores", actual=positive.shape)
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    distinct, inverse = np.unique(values, return_inverse=True)
    positives = np.bincount(inverse[positive], minlength=distinct.size)
    negatives = np.bincount(inverse[~positive], minlength=distinct.size)
    return ScoreCounts(distinct[::-1], positives[::-1], negatives[::-1])


def auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Probability that an anomalous item scores above an ordinary one; ties count one half. None if undefined.

    >>> auroc([0.1, 0.4, 0.4, 0.8], [False, False, True, True])
    0.875
    """
    return counts_from_scores(scores, labels).auroc()


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Average precision over the distinct scores; None if only one label is present.

    >>> average_precision([0.1, 0.4, 0.6, 0.8], [False, True, False, True])
    0.8333333333333333
    """
    return counts_from_scores(scores, labels).average_precision()


def f1_max(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float] | None:
    """Largest F1 and its threshold for `score > threshold`; None if only one label is present.

    >>> f1_max([0.1, 0.3, 0.5, 0.75], [False, False, True, True])
    (1.0, 0.4)
    """
    return counts_from_scores(scores, labels).f1_max()


def area(x: Floats, y: Floats, limit: float = 1.0) -> float:
    """Area under the points (x rising from 0 to 1) up to `limit`, divided by `limit`; linear between points.

    The point at `limit` is interpolated, so the area does not depend on where the thresholds happen to fall.

    >>> area(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))
    0.75
    """
    end = int(np.searchsorted(x, limit))
    share = (limit - x[end - 1]) / (x[end] - x[end - 1])
    x_inside = np.append(x[:end], limit)
    y_inside = np.append(y[:end], y[end - 1] + share * (y[end] - y[end - 1]))
    return float((np.diff(x_inside) * (y_inside[1:] + y_inside[:-1])).sum() / 2.0 / limit)


def _share(counts: NDArray[np.int64]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(counts) / max(int(counts.sum()), 1)])


def _thin(x: Floats, y: Floats, max_points: int) -> list[tuple[float, float]]:
    if x.size <= max_points:
        keep = np.arange(x.size)
    else:
        # Equal steps along the length of the curve keep its steep and its flat part.
        length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        keep = np.unique(np.searchsorted(length, np.linspace(0.0, length[-1], max_points)).clip(0, x.size - 1))
    return [(float(x[i]), float(y[i])) for i in keep]
