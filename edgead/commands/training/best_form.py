"""Best closed form of a model, and the left-out scores of the good images under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgead.commands.training.form_choice import Choice
from edgead.config.root import Config
from edgead.views import Stitcher, TileGrid

if TYPE_CHECKING:
    from torch import Tensor

    from edgead.models.detector import Detector
    from edgead.train.features import FeatureStore
    from edgead.train.left_out import LeftOutScores, Rows

# Inputs that are judged together.
INPUTS = 64


@dataclass(frozen=True)
class LeftOut:
    """Good images scored by the fits without them, `(n, ...)` in the order of the threshold images.

    Attributes:
        scores: Image scores.
        maps: Anomaly maps `(n, h, w)`, float32; with tiles stitched.
        fitted_scores: Image scores of the finished model, which has seen the images.
        fitted_maps: Anomaly maps of the finished model.
        known_scores, known_maps: Left-out scores and maps with the class given; None for a model without classes.
        covered: Positions `(h, w)` of the maps inside the crop; None = all.
    """

    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    fitted_scores: NDArray[np.float64]
    fitted_maps: NDArray[np.float32]
    known_scores: NDArray[np.float64] | None = None
    known_maps: NDArray[np.float32] | None = None
    covered: NDArray[np.bool_] | None = None


@dataclass
class BestForm:
    """Best form so far, with the constants of its frozen layers, and the features that it was fitted on.

    Attributes:
        choice: The form.
        model: Model, whose layers may be set to another form.
        config: Settings of the form.
        state: Constants of the model's layers in this form.
        scores: Left-out scores of the images that it was fitted on.
        store: Features.
        rows: Rows of the store that it was fitted on.
        grid: Tiles of an image; None without crop and tiles.
        known: Features of the known defects, all inputs of each; None without any.
    """

    choice: Choice
    model: Detector
    config: Config
    state: dict[str, Tensor]
    scores: LeftOutScores
    store: FeatureStore
    rows: Rows
    grid: TileGrid | None
    known: FeatureStore | None = None

    @property
    def tiles(self) -> int:
        """Number of inputs of an image."""
        return 1 if self.grid is None else self.grid.n_tiles

    @property
    def images(self) -> tuple[int, ...]:
        """Good images that it was fitted on, by their number among all."""
        return tuple(row // self.tiles for row in self.rows.good[:: self.tiles])

    def left_out(self, kept: Sequence[int]) -> LeftOut:
        """Restore the model to this form, and collect the scores of some of the images that it was fitted on.

        Args:
            kept: Places of the images among those that it was fitted on.
        """
        from edgead.train.left_out import fitted_energies

        self.model.load_state_dict(self.state, strict=False)
        self.model.head.weights = self.choice.level_weights or self.model.head.weights
        head, fraction, tiles = self.model.head, self.choice.top_fraction, self.tiles
        head.pool(fraction)
        fitted_maps, fitted_scores = [], []
        step = max(1, INPUTS // tiles)
        for start in range(0, len(kept), step):
            part = kept[start : start + step]
            rows = [row for place in part for row in self.rows.good[place * tiles : (place + 1) * tiles]]
            maps, scores = head([fitted_energies(level, self.store, rows) for level in self.model.levels])
            if self.model.composition is not None:
                maps, scores = self.model.composition.raised(self.store.batch(rows), (maps, scores))
            fitted_maps += [self.stitched(own) for own in maps.split(tiles)]
            fitted_scores += scores.unflatten(0, (-1, tiles)).amax(dim=1).tolist()
        return LeftOut(
            scores=self.scores.scores[fraction][list(kept)],
            maps=np.stack([self.image_map(place) for place in kept]),
            fitted_scores=np.array(fitted_scores, np.float64),
            fitted_maps=np.stack(fitted_maps),
            covered=None if self._stitcher is None else self._stitcher.covered,
        )

    def known_maps(self, n: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Maps `(n, h, w)` and scores `(n,)` of the n known defects under the model as `left_out` has restored it."""
        from edgead.train.cross_fit import fitted_maps

        assert self.known is not None
        head, tiles = self.model.head, self.tiles
        maps = fitted_maps(list(self.model.levels), head, self.known, range(n * tiles))
        pooled = head.pooled(maps)
        if self.model.composition is not None:  # of whole images, so that each has one input
            maps, pooled = self.model.composition.raised(self.known.batch(range(n)), (maps, pooled))
        scores = pooled.reshape(n, tiles).amax(dim=1).double().numpy()
        return np.stack([self.stitched(maps[i * tiles : (i + 1) * tiles]) for i in range(n)]), scores

    def image_map(self, place: int) -> NDArray[np.float32]:
        """Left-out map of one of the images that it was fitted on, `(h, w)`."""
        return self.stitched(self.scores.maps[place * self.tiles : (place + 1) * self.tiles])

    def stitched(self, maps: Tensor) -> NDArray[np.float32]:
        """Map `(h, w)` of an image from the maps of its inputs, in their order."""
        values = maps.float().numpy()
        return values[0] if self._stitcher is None else self._stitcher.stitch(values)

    @cached_property
    def _stitcher(self) -> Stitcher | None:
        return None if self.grid is None else Stitcher(self.grid, self.model.head.size)


def frozen_constants(model: Detector) -> dict[str, Tensor]:
    """Copies of the constants beside the backbone."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if not name.startswith("backbone.")}
