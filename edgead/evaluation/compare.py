"""Parity check of two forms of a model, used by export, engines and doctor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgead.errors import ShapeError
from edgead.runner import Outputs

PARITY_LIMIT = 1e-4
Thresholds = float | NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Largest differences between a candidate's outputs and the reference; infinite if the candidate is not finite.

    Attributes:
        max_relative_difference: Largest ``|a - b| / (|a| + s)`` of any map element, with s the median magnitude of the
            reference map of that image (its mean if the median is 0, and 1 if the whole map is 0). An ordinary element
            thus counts about half of its plain relative difference, an element near zero does not blow up, and a peak
            counts relative to itself.
        max_absolute_difference: Largest difference of any map element, raw units.
        score_relative_difference: Largest relative difference of any image score, with the s of its anomaly map.
        peak_relative_difference: Largest difference of any map element, relative to the peak of its reference map. It
            tells whether marked regions move, and does not grow with the rounding of ordinary elements.
        verdict_flips: Number of images that are anomalous on one side only.
        n_images: Number of images compared.
    """

    max_relative_difference: float
    max_absolute_difference: float
    score_relative_difference: float
    verdict_flips: int
    n_images: int
    peak_relative_difference: float = 0.0

    @property
    def is_parity(self) -> bool:
        """Whether scores and peaks agree within `PARITY_LIMIT` and no verdict flips, as required of fp32 forms."""
        seen = max(self.score_relative_difference, self.peak_relative_difference)
        return seen <= PARITY_LIMIT and not self.verdict_flips

    def describe(self) -> str:
        """Differences and limits of fp32 forms, as a part of a sentence."""
        return (
            f"scores differ by up to {self.score_relative_difference:.1e} relative and maps by up to "
            f"{self.peak_relative_difference:.1e} of their peaks (allowed {PARITY_LIMIT:.0e} each), "
            f"{self.verdict_flips} of {self.n_images} verdicts flip (allowed 0)"
        )


def compare_outputs(reference: Outputs, candidate: Outputs, threshold: Thresholds) -> Comparison:
    """Compare the outputs of the same batch.

    Args:
        reference: Trusted outputs: `anomaly_map` `(N, h, w)` and `pred_score` `(N,)`, float32. Further outputs
            `(N, h, w)`, level norms, are compared like the anomaly map; all others are ignored.
        candidate: Outputs to check, with at least the same maps and scores.
        threshold: Score above which an image counts as anomalous; one value, or one per image `(N,)`.

    Raises:
        ShapeError: If an output of the candidate has another shape.
    """
    maps = [name for name, value in reference.items() if value.ndim == 3]
    for name in (*maps, "pred_score"):
        if name not in candidate or candidate[name].shape != reference[name].shape:
            actual = candidate[name].shape if name in candidate else ()
            raise ShapeError(name, expected=str(reference[name].shape), actual=actual)
    differences = [_map_differences(reference[name], candidate[name]) for name in maps]
    scores, other_scores = (outputs["pred_score"].astype(np.float64) for outputs in (reference, candidate))
    scale = _map_scale(np.abs(reference["anomaly_map"].astype(np.float64)))
    with np.errstate(invalid="ignore", over="ignore"):
        score_relative = np.abs(scores - other_scores) / (np.abs(scores) + scale)
    return Comparison(
        max(found.relative for found in differences),
        max(found.absolute for found in differences),
        _largest(score_relative),
        int(np.count_nonzero((scores > threshold) != (other_scores > threshold))),
        len(scores),
        max(found.to_peak for found in differences),
    )


def merge(comparisons: Iterable[Comparison]) -> Comparison:
    """Combine the comparisons of all batches."""
    parts = list(comparisons)
    return Comparison(
        max((part.max_relative_difference for part in parts), default=0.0),
        max((part.max_absolute_difference for part in parts), default=0.0),
        max((part.score_relative_difference for part in parts), default=0.0),
        sum(part.verdict_flips for part in parts),
        sum(part.n_images for part in parts),
        max((part.peak_relative_difference for part in parts), default=0.0),
    )


class _MapDifferences(NamedTuple):
    relative: float
    absolute: float
    to_peak: float


def _map_differences(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> _MapDifferences:
    """Largest differences of maps `(N, h, w)`."""
    maps, other = reference.astype(np.float64), candidate.astype(np.float64)
    magnitude = np.abs(maps)
    peaks = magnitude.max(axis=(1, 2), initial=0.0)[:, None, None]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(maps - other)
        relative = difference / (magnitude + _map_scale(magnitude)[:, None, None])
        to_peak = difference / np.where(peaks > 0.0, peaks, 1.0)
    return _MapDifferences(_largest(relative), _largest(difference), _largest(to_peak))


def _map_scale(magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = magnitude.reshape(len(magnitude), -1)
    scale = np.median(flat, axis=1) if flat.size else np.zeros(len(flat))
    scale = np.where(scale > 0.0, scale, flat.mean(axis=1) if flat.size else 0.0)
    return np.where(scale > 0.0, scale, 1.0)


def _largest(differences: NDArray[np.float64]) -> float:
    largest = float(differences.max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")
