"""Paired comparison of two detectors on the same images: verdicts by an exact test, AUROC by its interval.

References:
    Note on the sampling error of the difference between correlated proportions or percentages (McNemar, 1947),
    Psychometrika 12(2); here the exact binomial form.
    Adjusted Wald confidence interval for a difference of binomial proportions based on paired data (Bonett and Price,
    2012), Journal of Educational and Behavioral Statistics 37(4).
    Comparing the areas under two or more correlated receiver operating characteristic curves (DeLong, DeLong and
    Clarke-Pearson, 1988), Biometrics 44(3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgead.evaluation.evaluate import Rate

# Normal quantile of a two-sided 95 % interval.
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class PairedVerdicts:
    """Verdicts of two detectors, A and B, on the same n images.

    Attributes:
        both, only_a, only_b, neither: Number of images called anomalous by both, by one alone, and by none.
    """

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def rate_a(self) -> Rate:
        """Images that A calls anomalous."""
        return Rate(self.both + self.only_a, self.n)

    @property
    def rate_b(self) -> Rate:
        """Images that B calls anomalous."""
        return Rate(self.both + self.only_b, self.n)

    @property
    def p_value(self) -> float | None:
        """Two-sided p-value of the exact McNemar test that both rates are equal; None without images.

        >>> PairedVerdicts(10, 6, 0, 4).p_value
        0.03125
        """
        if not self.n:
            return None
        changed, fewer = self.only_a + self.only_b, min(self.only_a, self.only_b)
        ways = sum(math.comb(changed, i) for i in range(fewer + 1))
        # whole numbers first: 2**changed is beyond a float from 1024 images on
        return float(min(1.0, 2 * ways / 2**changed))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the rate of B minus the rate of A (Bonett and Price); None without images."""
        if not self.n:
            return None
        a, b = (self.only_a + 1) / (self.n + 2), (self.only_b + 1) / (self.n + 2)
        reach = Z_95 * math.sqrt((a + b - (b - a) ** 2) / (self.n + 2))
        return max(-1.0, b - a - reach), min(1.0, b - a + reach)

    def to_json(self) -> dict[str, Any]:
        """Counts, rates with 95 % intervals, difference and test, under stable keys."""
        return {
            **asdict(self),
            "n": self.n,
            "rate_a": self.rate_a.value,
            "rate_a_interval": self.rate_a.interval,
            "rate_b": self.rate_b.value,
            "rate_b_interval": self.rate_b.interval,
            "difference": (self.only_b - self.only_a) / self.n if self.n else None,
            "difference_interval": self.interval,
            "p_value": self.p_value,
        }


@dataclass(frozen=True)
class AurocDifference:
    """Image AUROC of A and B, and of their difference B - A a 95 % interval.

    Attributes:
        a, b: AUROC, the mean over classes.
        interval: Within [-1, 1]; None if the difference is the same for every image, as where both rank all images alike:
            the images then say nothing about its error.
    """

    a: float
    b: float
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Values and interval, under stable keys."""
        return {"a": self.a, "b": self.b, "difference": self.b - self.a, "difference_interval": self.interval}


def paired_verdicts(a: ArrayLike, b: ArrayLike) -> PairedVerdicts:
    """Count the verdicts of A and B, `(n,)` each, true for anomalous."""
    first, second = np.asarray(a, bool), np.asarray(b, bool)
    return PairedVerdicts(
        int((first & second).sum()),
        int((first & ~second).sum()),
        int((~first & second).sum()),
        int((~first & ~second).sum()),
    )


def auroc_difference(
    classes: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]],
) -> AurocDifference | None:
    """Difference of two AUROCs on the same images, after DeLong; with several classes, of their means.

    Args:
        classes: For each class the scores of A `(n,)`, those of B `(n,)`, and whether each image is defective `(n,)`.

    Returns:
        None if no class has at least two good and two defective images.
    """
    areas, variances = [], []
    for scores_a, scores_b, is_defective in classes:
        n_bad, n_good = int(is_defective.sum()), int((~is_defective).sum())
        if min(n_bad, n_good) < 2:
            continue
        bad_a, good_a = _placements(scores_a, is_defective)
        bad_b, good_b = _placements(scores_b, is_defective)
        areas.append((bad_a.mean(), bad_b.mean()))
        variances.append((bad_b - bad_a).var(ddof=1) / n_bad + (good_b - good_a).var(ddof=1) / n_good)
    if not areas:
        return None
    a, b = np.mean(areas, axis=0).tolist()
    # images of different classes are independent
    reach = Z_95 * math.sqrt(sum(variances)) / len(areas)
    return AurocDifference(a, b, (max(-1.0, b - a - reach), min(1.0, b - a + reach)) if reach > 0.0 else None)


def _placements(
    scores: NDArray[np.float64], is_defective: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of good images below each defective one, and of defective images above each good one; ties count one half."""
    bad, good = scores[is_defective], scores[~is_defective]
    ordered_good, ordered_bad = np.sort(good), np.sort(bad)
    below = (np.searchsorted(ordered_good, bad, "left") + np.searchsorted(ordered_good, bad, "right")) / 2.0
    not_above = (np.searchsorted(ordered_bad, good, "left") + np.searchsorted(ordered_bad, good, "right")) / 2.0
    return below / good.size, 1.0 - not_above / bad.size
