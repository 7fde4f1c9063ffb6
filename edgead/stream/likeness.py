"""Detection of frames that are unlike the training images: another compression, camera, light or scale."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MIN_FRAMES = 20
MIN_GOOD = 10
# Of the good images at most this share scores above the level; of frames that are unlike them more than half do.
_GOOD_SHARE = 0.02
_MOST = 0.5
# Of frames that are like them half score below the median good image; a line with many defects still has some.
_FEW = 0.1
# By chance one stretch of a line with many defects looks like that now and then, in months of stretches.
_IN_A_ROW = 5


@dataclass(frozen=True)
class Unlikeness:
    """Frames of a zone whose scores no longer look like those of good images.

    Attributes:
        n_frames: Number of frames looked at.
        n_above: Number of them above the level.
        level: Score that hardly any good image exceeds, raw units.
        n_good: Number of held-out good images.
        n_good_above: Number of those above the level.
    """

    n_frames: int
    n_above: int
    level: float
    n_good: int
    n_good_above: int

    @property
    def sentence(self) -> str:
        return (
            f"the frames are unlike the training images: {self.n_above} of the last {self.n_frames} score above "
            f"{self.level:.4g}, as {self.n_good_above} of {self.n_good} held-out good images do. Compression (JPEG, H.264), "
            "camera, light, focus or scale may differ, or nearly every part has a defect. Thresholds and false-alarm rates "
            "do not hold for such frames: train with images from this camera"
        )


class LikenessCheck:
    """Looks at the frames of a zone in stretches, and finds the first one that is unlike the good images.

    A stretch is at least `MIN_FRAMES` frames and `stretch_s` long. It is unlike if more than half of its frames score above
    a level that at most 2 % of the good images exceed, and hardly any below their median: defects on some parts do not do
    that. At the start of a stream one such stretch suffices, later it takes five in a row.

    Args:
        good_scores: Scores of held-out good images, raw units; fewer than `MIN_GOOD` find nothing.
        stretch_s: Minimum duration of a stretch on the source's time line, in seconds.
    """

    def __init__(self, good_scores: Sequence[float], *, stretch_s: float) -> None:
        self._good = sorted(good_scores)
        self._stretch_s = stretch_s
        self._is_over = len(self._good) < MIN_GOOD
        self._n_missing = 1
        if not self._is_over:
            n_above = int(_GOOD_SHARE * len(self._good))
            self._level = self._good[len(self._good) - 1 - n_above]
            self._median = statistics.median(self._good)
        self._start()

    def _start(self) -> None:
        self._n = self._n_above = self._n_below = 0
        self._since_s: float | None = None

    def add(self, score: float, time_s: float) -> Unlikeness | None:
        """Add a frame; the finding with the frame that completes it, once.

        Args:
            score: Score in raw units.
            time_s: Time on the source's time line, in seconds.
        """
        if self._is_over:
            return None
        if self._since_s is None:
            self._since_s = time_s
        self._n += 1
        self._n_above += score > self._level
        self._n_below += score < self._median
        if self._n < MIN_FRAMES or time_s - self._since_s < self._stretch_s:
            return None
        is_unlike = self._n_above > _MOST * self._n and self._n_below < _FEW * self._n
        self._n_missing = self._n_missing - 1 if is_unlike else _IN_A_ROW
        if self._n_missing == 0:
            self._is_over = True
            n_good_above = sum(good > self._level for good in self._good)
            return Unlikeness(self._n, self._n_above, self._level, len(self._good), n_good_above)
        self._start()
        return None
