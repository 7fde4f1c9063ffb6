"""Histograms with fixed bands, as monitoring systems collect them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class HistogramView:
    """A histogram at one moment.

    Attributes:
        bounds: Upper ends of the bands, inclusive, rising; the last band has none.
        counts: Number of values in each band; one more than there are bounds.
        total: Sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def n(self) -> int:
        return sum(self.counts)

    @property
    def cumulative(self) -> list[int]:
        """Number of values up to each bound, and of all values at the end."""
        sums, so_far = [], 0
        for count in self.counts:
            so_far += count
            sums.append(so_far)
        return sums


class Histogram:
    """Sorts values into bands; used by one thread at a time.

    Args:
        bounds: Upper ends of the bands, inclusive, rising.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        if list(bounds) != sorted(set(bounds)) or not bounds:
            raise ValueError(f"bounds must rise, got {list(bounds)}")
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count a finite value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def view(self) -> HistogramView:
        return HistogramView(self._bounds, tuple(self._counts), self._total)
