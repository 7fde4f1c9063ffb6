"""Synthetic video of an indexing conveyor: parts stop under the camera one by one, some of them defective."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgead.data.synthetic.make import Placed, photograph, place_part
from edgead.data.synthetic.parts import PARTS
from edgead.data.synthetic.surface import Size
from edgead.imaging import Image


@dataclass(frozen=True)
class TimedDefect:
    """Ground truth of a video segment: `defect` is visible from `first_frame` to `last_frame`, both included."""

    first_frame: int
    last_frame: int
    defect: str


@dataclass(frozen=True)
class SyntheticVideo:
    """Video of an indexing conveyor with random access to its frames.

    Attributes:
        part: Name of the part, a key of `PARTS`.
        seed: Another seed gives another video.
        n_frames: Length in frames.
        fps: Frame rate for writers and players.
        size: `(height, width)` in pixels.
        frames_per_part: Number of frames that each part stands still. Parts change between two frames, never within.
        defect_every: One part out of this many is defective; 0 for none. The first part is always good.
    """

    part: str
    seed: int = 0
    n_frames: int = 600
    fps: float = 25.0
    size: Size = (320, 320)
    frames_per_part: int = 20
    defect_every: int = 5

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {self.part!r}")
        if self.n_frames < 1 or self.frames_per_part < 1 or self.defect_every < 0 or self.defect_every == 1:
            raise ValueError("n_frames and frames_per_part must be >= 1, defect_every 0 or >= 2")

    @property
    def schedule(self) -> tuple[TimedDefect, ...]:
        """All defects with their frames, in order."""
        n_parts = -(-self.n_frames // self.frames_per_part)
        found = []
        for index in range(n_parts):
            defect = self._defect_of(index)
            if defect is not None:
                first = index * self.frames_per_part
                last = min(first + self.frames_per_part, self.n_frames) - 1
                found.append(TimedDefect(first, last, defect))
        return tuple(found)

    def frame(self, index: int) -> tuple[Image, NDArray[np.bool_]]:
        """Render one frame `(H, W, 3)`, uint8, RGB, and the mask of its defect `(H, W)`; fastest in order.

        Raises:
            IndexError: If `index` is not in the video.
        """
        if not 0 <= index < self.n_frames:
            raise IndexError(f"frame must be in 0..{self.n_frames - 1}, got {index}")
        part_index = index // self.frames_per_part
        placed = _place(self.part, self.seed, part_index, self.size, self._defect_of(part_index))
        rng = np.random.default_rng([self.seed, 1, index])
        shake = np.clip(rng.normal(0, 0.15, 2), -0.4, 0.4)
        flicker = 1.0 + float(np.clip(rng.normal(0, 0.004), -0.01, 0.01))
        return photograph(placed, rng, (float(shake[0]), float(shake[1])), flicker)

    def frames(self) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
        """Yield all frames in order; see `frame`."""
        return (self.frame(index) for index in range(self.n_frames))

    def _defect_of(self, part_index: int) -> str | None:
        """Defect of a part: one part of each run of `defect_every`, never the first, with kinds in random order."""
        if self.defect_every == 0:
            return None
        run, place = divmod(part_index, self.defect_every)
        if place != int(np.random.default_rng([self.seed, 2, run]).integers(1, self.defect_every)):
            return None
        defects = PARTS[self.part].defects
        turn, position = divmod(run, len(defects))
        return defects[int(np.random.default_rng([self.seed, 3, turn]).permutation(len(defects))[position])]


@lru_cache(maxsize=4)
def _place(part: str, seed: int, part_index: int, size: Size, defect: str | None) -> Placed:
    return place_part(part, np.random.default_rng([seed, 0, part_index]), size, defect)
