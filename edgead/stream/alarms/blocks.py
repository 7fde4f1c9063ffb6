"""Block sums of a stream in bounded memory, for the variance of averages over correlated frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class BlockSums:
    """Sums of a vector over successive blocks of frames, in a bounded number of blocks.

    Whenever there are more than `max_blocks`, neighbours are joined in pairs, so that blocks grow with the stream and
    become longer than its correlation; at `max_frames` per block the oldest block is dropped instead.

    Args:
        width: Length of the vector.
        max_blocks: Maximum number of blocks; even, at least 4.
        max_frames: Maximum length of a block in frames.
    """

    def __init__(self, width: int, *, max_blocks: int, max_frames: int) -> None:
        self._sums = np.zeros((max_blocks, width))
        self._max_frames = max_frames
        self._block_frames = 1
        self._n_full = 0
        self._current = np.zeros(width)
        self._n_current = 0

    def add(self, values: Floats) -> None:
        """Add one frame's vector `(width,)`."""
        self._current += values
        self._n_current += 1
        if self._n_current < self._block_frames:
            return
        self._make_room()
        if self._n_current >= self._block_frames:
            self._sums[self._n_full] = self._current
            self._n_full += 1
            self._current[:] = 0.0
            self._n_current = 0

    @property
    def sums(self) -> Floats:
        """`(B, width)`: the full blocks, oldest first; a copy."""
        return np.array(self._sums[: self._n_full])

    @property
    def block_frames(self) -> int:
        """Frames per block."""
        return self._block_frames

    def _make_room(self) -> None:
        if self._n_full < len(self._sums):
            return
        if 2 * self._block_frames <= self._max_frames:
            self._n_full //= 2
            self._sums[: self._n_full] = self._sums[0::2] + self._sums[1::2]
            self._block_frames *= 2
        else:
            self._sums[:-1] = self._sums[1:]
            self._n_full -= 1


def dispersion(events: float, residuals: Floats) -> float:
    """Ratio of the variance of counts over equal blocks to that of as many independent events; at least 1.

    Args:
        events: Number of events over all blocks.
        residuals: Difference `(B,)` of each block's count and its expected count.
    """
    if events <= 0.0 or residuals.size < 2:
        return 1.0
    return max(1.0, float(residuals.var(ddof=1)) * residuals.size / events)


def count_interval(count: float, dispersion: float, z: float) -> tuple[float, float]:
    """Confidence interval of the mean of a count whose variance is `dispersion` times that of independent events.

    Byar's approximation of the exact Poisson interval, on count / dispersion events.

    Args:
        count: Observed count, 0 or more.
        dispersion: Variance ratio, 1 or more.
        z: Normal quantile of each end: 1.645 for a one-sided 95 % bound, 1.96 for a two-sided 95 % interval.
    """
    events = count / dispersion
    low = 0.0 if events <= 0.0 else events * max(0.0, 1.0 - 1.0 / (9.0 * events) - z / (3.0 * events**0.5)) ** 3
    high = (events + 1.0) * (1.0 - 1.0 / (9.0 * (events + 1.0)) + z / (3.0 * (events + 1.0) ** 0.5)) ** 3
    return low * dispersion, high * dispersion
