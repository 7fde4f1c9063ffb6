"""Score history of a zone over one day: every score of the last minutes, before that extremes per ten seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# 10 minutes at 30 frames/s; the bucket length divides a day into few enough for 100 kB per zone.
RECENT = 18_000
BUCKET_S = 10.0
DAY_S = 86_400.0

Samples = tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class ScorePoint:
    """The extremes of the scores around one moment.

    Attributes:
        age_s: Age in seconds.
        low, high: Smallest and largest score, raw units.
    """

    age_s: float
    low: float
    high: float


class ScoreHistory:
    """Scores by time, in a fixed amount of memory; used by one thread at a time.

    Args:
        recent: Number of most recent scores that are kept individually.
    """

    def __init__(self, recent: int = RECENT) -> None:
        self._times = np.zeros(recent, np.float64)
        self._scores = np.zeros(recent, np.float32)
        self._n = 0
        n_buckets = round(DAY_S / BUCKET_S)
        self._bucket = np.full(n_buckets, -1, np.int64)
        self._low = np.zeros(n_buckets, np.float32)
        self._high = np.zeros(n_buckets, np.float32)

    @property
    def nbytes(self) -> int:
        """Memory in bytes; constant."""
        parts = (self._times, self._scores, self._bucket, self._low, self._high)
        return sum(part.nbytes for part in parts)

    def add(self, at_s: float, score: float) -> None:
        """Add a score with its monotonic time; times must not go back."""
        place = self._n % len(self._times)
        self._times[place], self._scores[place] = at_s, score
        self._n += 1
        number = int(at_s // BUCKET_S)
        bucket = number % len(self._bucket)
        if self._bucket[bucket] != number:
            self._bucket[bucket] = number
            self._low[bucket] = self._high[bucket] = score
        else:
            self._low[bucket] = min(self._low[bucket], score)
            self._high[bucket] = max(self._high[bucket], score)

    def each(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Times and scores `(n,)` of the frames that are kept one by one, oldest first."""
        kept = min(self._n, len(self._times))
        shift = self._n % kept if self._n > kept else 0
        return np.roll(self._times[:kept], -shift), np.roll(self._scores[:kept], -shift)

    def samples(self, now_s: float, seconds: float) -> Callable[[], Samples]:
        """Copy the scores of the last `seconds`; the returned function sorts them and needs no lock."""
        since_s = now_s - seconds
        kept = min(self._n, len(self._times))
        times, scores = self._times[:kept].copy(), self._scores[:kept].copy()
        is_full = self._n > kept
        shift = self._n % kept if is_full else 0
        used = self._bucket >= max(0, int(since_s // BUCKET_S))
        numbers, low, high = self._bucket[used], self._low[used], self._high[used]

        def sort() -> Samples:
            each_s, each = np.roll(times, -shift), np.roll(scores, -shift)
            # buckets are needed only where individual scores have already been overwritten
            first_s = each_s[0] if is_full else -np.inf
            order = np.argsort(numbers)
            order = order[numbers[order] * BUCKET_S < first_s]
            bucket_s = np.maximum(numbers[order] * BUCKET_S, since_s)
            if order.size:
                inside = each_s >= (numbers[order][-1] + 1) * BUCKET_S
                each_s, each = each_s[inside], each[inside]
            inside = each_s >= since_s
            each_s, each = each_s[inside], each[inside]
            return (
                np.concatenate([bucket_s, each_s]),
                np.concatenate([low[order], each]),
                np.concatenate([high[order], each]),
            )

        return sort


def points(samples: Samples, now_s: float, seconds: float, limit: int) -> list[ScorePoint]:
    """Reduce the samples of the last `seconds` to at most `limit` points, oldest first, without losing peaks."""
    times, low, high = samples
    if times.size == 0:
        return []
    if times.size <= limit:
        starts = np.arange(times.size)
    else:
        cell = np.clip((times - (now_s - seconds)) / seconds * limit, 0, limit - 1).astype(np.int64)
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
    lows, highs = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    ages = np.maximum(now_s - times[starts], 0.0)
    return [ScorePoint(round(float(age), 2), float(a), float(b)) for age, a, b in zip(ages, lows, highs, strict=True)]
