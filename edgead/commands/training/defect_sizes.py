"""Which sizes of defects a new bundle finds, measured on artificial ones, and what would find smaller ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgead.commands.training.data import TrainingData
from edgead.data.dataset import evenly_spaced
from edgead.progress import Progress
from edgead.runner import Runner
from edgead.views import MOST_TILES

SIZES = (4, 8, 16, 32, 64)
IMAGES = 24
BATCH = 8
# Share of the defects of a size that must be found for the size to count as found.
FOUND = 0.8
# Least magnification that is worth the time of more tiles.
USEFUL = 1.25
# Largest share of a frame's shorter side that a defect may have here.
_LARGEST = 0.125


@dataclass(frozen=True)
class DefectSizes:
    """Share of artificial defects found at the threshold, by their size in pixels of the original images.

    Attributes:
        found: Share found, 0..1, by size, smallest first.
        n: Number of defects of each size.
        frame_size: Size `(height, width)` of the images in pixels.
        tile_size: Size of what one input shows, in pixels of the images; the frame itself without tiles.
        image_size: Input size `(height, width)` of the model.
        tiles: (columns, rows) of the bundle's tiles.
    """

    found: dict[int, float]
    n: int
    frame_size: tuple[int, int]
    tile_size: tuple[float, float]
    image_size: tuple[int, int]
    tiles: tuple[int, int]

    @property
    def smallest(self) -> int | None:
        """Smallest size of which, as of all larger ones, at least 80 % are found; None if there is none."""
        kept = None
        for size, share in sorted(self.found.items(), reverse=True):
            if share < FOUND:
                break
            kept = size
        return kept

    @property
    def scale(self) -> float:
        """Pixels of an image for each pixel of the input, along the side that is squeezed more."""
        return max(self.tile_size[0] / self.image_size[0], self.tile_size[1] / self.image_size[1])

    def describe(self) -> str:
        """Sizes that are found, sizes that will be missed, and the tiles that should find them: two or three sentences."""
        shares = ", ".join(f"{share:.0%} of {size} px" for size, share in self.found.items())
        text = f"Artificial defects on {self.n} held-out images found at the threshold: {shares}."
        smallest = self.smallest
        if smallest == min(self.found):
            return text
        limit = smallest if smallest is not None else max(self.found)
        missed = f"under {limit} px" if smallest is not None else f"of up to {limit} px"
        return f"{text} Defects {missed} will often be missed{self._advice(limit)}."

    def _advice(self, limit: int) -> str:
        """The tiles that see the next smaller size as this bundle sees the smallest it finds; empty if none can."""
        if self.scale < USEFUL:
            return "; the images have hardly more pixels to show them"
        finer = self.finer_tiles
        if finer is None:
            return ""
        (columns, rows), factor = finer
        times = columns * rows / (self.tiles[0] * self.tiles[1])
        return (
            f"; --tiles {columns}x{rows} shows them {factor:.1f} times as large and should find those from about "
            f"{limit / factor:.0f} px, at {times:.3g} times the time"
        )

    @property
    def finer_tiles(self) -> tuple[tuple[int, int], float] | None:
        """(columns, rows) that should find the next smaller size, and how much larger they show it; None if none can."""
        if self.scale < USEFUL or self.smallest == min(self.found):
            return None
        limit = self.smallest if self.smallest is not None else max(self.found)
        wanted = max((size for size in self.found if size < limit), default=limit)
        factor = min(limit / wanted if wanted < limit else 2.0, self.scale)
        target = self.scale / factor
        columns, rows = (
            max(count, math.ceil(count * extent / side / target - 1e-9))
            for count, extent, side in zip(self.tiles, self.tile_size[::-1], self.image_size[::-1], strict=True)
        )
        return None if columns * rows > MOST_TILES else ((columns, rows), factor)

    def metrics(self) -> dict[str, float]:
        """Shares found by size, for the bundle's record."""
        return {f"found_{size}_px": round(share, 4) for size, share in self.found.items()}


def measure_defect_sizes(
    engine: Runner, data: TrainingData, threshold: float, progress: Progress
) -> DefectSizes | None:
    """Put defects of each size on held-out images, and count those that score above the threshold.

    With tiles only the tile with the defect is judged: the score of a frame is at least that of each tile.

    Args:
        engine: Open engine for single inputs.
        data: Images of the training.
        threshold: Image threshold for an unknown class, raw units.
        progress: Receives progress.

    Returns:
        None if the images are too small for defects of several sizes.
    """
    frame_size = max(data.scan.sizes, key=lambda size: (data.scan.sizes[size], size))
    sizes = [size for size in SIZES if size <= _LARGEST * min(frame_size)]
    samples = evenly_spaced((*data.split.early_stop, *data.split.threshold), IMAGES)
    if len(sizes) < 2 or not samples:
        return None
    scores = []
    for number, sample in enumerate(samples):
        # all sizes at one place of one image
        random = np.random.default_rng(number)
        place = data.random_place(random)
        inputs = [data.read_defect(sample, size, (number, size), place) for size in sizes]
        batches = [np.stack(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
        scores.append(np.concatenate([engine.infer(batch)["pred_score"] for batch in batches]))
        progress.update("Defect sizes", number + 1, len(samples))
    found = (np.stack(scores) > threshold).mean(axis=0)
    views = data.preprocessing.views
    tiles, tile_size = (1, 1), (float(frame_size[0]), float(frame_size[1]))
    if data.grid is not None and views is not None:
        tile = data.grid.tiles[0]
        tiles = views.tiles
        tile_size = ((tile.bottom - tile.top) * frame_size[0], (tile.right - tile.left) * frame_size[1])
    return DefectSizes(
        {size: float(share) for size, share in zip(sizes, found, strict=True)},
        len(samples), frame_size, tile_size, data.image_size, tiles,
    )  # fmt: skip
