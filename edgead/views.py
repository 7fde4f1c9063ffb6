"""Views of a frame: a crop, its tiles, and the way back from the tiles' maps to one map of the frame.

Everything is in shares of the frame's width and height, so that one rule fits frames of any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edgead.imaging import Image, ResizeRule, resize

# Grey level of the pixels of a tile that lie outside the polygon of the crop.
OUTSIDE = 128
MOST_TILES = 256
# Shortest side of a crop or tile, in pixels of the frame.
LEAST_PIXELS = 16
# Least area of a polygon, as a share of its bounding box.
LEAST_AREA = 0.02
# Longest side of a frame's map, in positions, unless that left a tile without any; only a very small crop has more.
MOST_POSITIONS = 1024
_FINE = 1024
# Share of a tile up to which a polygon only touches it, by the width of a drawn edge.
_TOUCHED = 1e-3

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Side = Annotated[int, Field(ge=1, le=65536)]


class Views(BaseModel):
    """Rule by which a frame becomes one or more images of the input size."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    frame_size: tuple[Side, Side] = Field(description="Size (height, width) in pixels of the frames it was made for.")
    crop: tuple[tuple[Share, Share], ...] = Field(
        (), description="Corners (x, y) of the crop in shares of the frame's width and height; none: the whole frame."
    )
    tiles: tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]] = Field(
        (1, 1), description="Number of (columns, rows) of tiles that cover the crop's bounding box."
    )
    overlap: float = Field(
        0.0, ge=0.0, le=0.5, description="Overlap of neighbouring tiles, as a share of a tile's side."
    )
    keep_aspect: bool = Field(
        False, description="Scale both sides of a tile alike, and pad it; otherwise it is stretched to the input size."
    )

    @model_validator(mode="after")
    def _crop_has_an_area(self) -> Self:
        if self.crop and len(self.crop) < 3:
            raise ValueError(f"the crop needs at least 3 corners, got {len(self.crop)}")
        left, top, right, bottom = self.box
        width = (right - left) * self.frame_size[1] / _span(self.tiles[0], self.overlap)
        height = (bottom - top) * self.frame_size[0] / _span(self.tiles[1], self.overlap)
        if min(width, height) < LEAST_PIXELS:
            raise ValueError(
                f"a tile must have {LEAST_PIXELS} pixels of the frame on each side at least, got {width:.0f} x {height:.0f}"
            )
        if self.is_polygon and _area(self.crop) < LEAST_AREA * (right - left) * (bottom - top):
            raise ValueError(f"the crop's corners lie on a line: {self.crop}")
        if self.tiles[0] * self.tiles[1] > MOST_TILES:
            raise ValueError(f"a frame may have {MOST_TILES} tiles at most, got {self.tiles[0]}x{self.tiles[1]}")
        return self

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounding box of the crop `(left, top, right, bottom)`, in shares."""
        if not self.crop:
            return 0.0, 0.0, 1.0, 1.0
        xs, ys = zip(*self.crop, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def is_polygon(self) -> bool:
        """Whether the crop is anything but an upright box."""
        left, top, right, bottom = self.box
        corners = {(left, top), (right, top), (right, bottom), (left, bottom)}
        return bool(self.crop) and set(self.crop) != corners


class Tile(NamedTuple):
    """Place of a tile: column and row in the grid, and its box in shares of the frame."""

    column: int
    row: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class TileGrid:
    """Tiles of a frame as images of the input size.

    Attributes:
        views: Rule of the crop and the tiles.
        image_size: Input `(height, width)` of the model in pixels.
        rule: Rule of `resize`.
    """

    views: Views
    image_size: tuple[int, int]
    rule: ResizeRule = "area-then-bilinear"

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Tiles in rows from the top left; those wholly outside a polygon are left out."""
        (columns, rows), overlap = self.views.tiles, self.views.overlap
        left, top, right, bottom = self.views.box
        width, height = ((right - left) / _span(columns, overlap), (bottom - top) / _span(rows, overlap))
        found = []
        for row in range(rows):
            for column in range(columns):
                x, y = left + column * width * (1 - overlap), top + row * height * (1 - overlap)
                found.append(Tile(column, row, x, y, x + width, y + height))
        if self.views.is_polygon:
            inside = _filled(self.views.crop, (_FINE, _FINE))
            found = [tile for tile in found if _part(inside, tile).mean() > _TOUCHED]
        return tuple(found)

    @property
    def n_tiles(self) -> int:
        return len(self.tiles)

    @cached_property
    def content(self) -> tuple[int, int, int, int]:
        """Box `(left, top, right, bottom)` in pixels of the input that a tile fills; the rest is padding."""
        height, width = self.image_size
        if not self.views.keep_aspect:
            return 0, 0, width, height
        tile = self.tiles[0]
        frame_height, frame_width = self.views.frame_size
        scale = min(
            width / ((tile.right - tile.left) * frame_width), height / ((tile.bottom - tile.top) * frame_height)
        )
        used_width = min(width, max(1, round((tile.right - tile.left) * frame_width * scale)))
        used_height = min(height, max(1, round((tile.bottom - tile.top) * frame_height * scale)))
        x, y = (width - used_width) // 2, (height - used_height) // 2
        return x, y, x + used_width, y + used_height

    def tile_at(self, place: tuple[float, float]) -> int:
        """Index of the tile whose middle is nearest to a place (x, y) in shares of the frame."""
        x, y = place

        def distance(tile: Tile) -> float:
            across = abs((tile.left + tile.right) / 2 - x) / (tile.right - tile.left)
            return max(across, abs((tile.top + tile.bottom) / 2 - y) / (tile.bottom - tile.top))

        return min(range(self.n_tiles), key=lambda index: distance(self.tiles[index]))

    def random_place(self, random: np.random.Generator) -> tuple[float, float]:
        """A random place (x, y) inside the crop, in shares of the frame; away from the edges of a box."""
        if self.views.is_polygon:
            inside = np.argwhere(_filled(self.views.crop, (_FINE, _FINE)))
            y, x = (inside[random.integers(len(inside))] + 0.5) / _FINE
            return float(x), float(y)
        left, top, right, bottom = self.views.box
        across, down = random.uniform(0.08, 0.92, 2)
        return float(left + across * (right - left)), float(top + down * (bottom - top))

    @property
    def scaled_frame(self) -> tuple[int, int]:
        """Size `(height, width)` of a whole frame at the scale of its tiles, in pixels of the input."""
        left, top, right, bottom = self.content
        tile = self.tiles[0]
        return round((bottom - top) / (tile.bottom - tile.top)), round((right - left) / (tile.right - tile.left))

    def region(self, image: Image, index: int) -> Image:
        """A tile of a frame `(H, W, 3)` at the frame's own scale; pixels outside the crop's polygon are grey."""
        height, width = image.shape[:2]
        tile = self.tiles[index]
        left, right = _pixels(tile.left, tile.right, width)
        top, bottom = _pixels(tile.top, tile.bottom, height)
        region = image[top:bottom, left:right]
        if self.views.is_polygon:
            inside = _filled(self.views.crop, (height, width))[top:bottom, left:right]
            region = np.where(inside[:, :, None], region, np.uint8(OUTSIDE))
        return region

    def fitted(self, region: Image) -> Image:
        """A tile at the frame's scale as an image of the input size `(h, w, 3)`."""
        left, top, right, bottom = self.content
        image = resize(region, (bottom - top, right - left), self.rule)
        height, width = self.image_size
        if image.shape[:2] == (height, width):
            return np.ascontiguousarray(image)
        return np.asarray(
            cv2.copyMakeBorder(image, top, height - bottom, left, width - right, cv2.BORDER_REPLICATE), np.uint8
        )

    def cut(self, image: Image, wanted: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Tiles of a frame.

        Args:
            image: Frame `(H, W, 3)`, uint8, RGB, of any size.
            wanted: Indices of the tiles; None = all.

        Returns:
            `(T, h, w, 3)`, uint8, RGB, one image of the input size for each of the T tiles.
        """
        indices = range(self.n_tiles) if wanted is None else wanted
        tiles = np.empty((len(indices), *self.image_size, 3), np.uint8)
        for place, index in zip(tiles, indices, strict=True):
            place[...] = self.fitted(self.region(image, index))
        return tiles


class Stitcher:
    """Maps of tiles to one map of the frame; neighbours are blended where they overlap.

    Args:
        grid: Tiles of a frame.
        map_size: Size `(h, w)` of a tile's map.

    Attributes:
        size: Size `(H, W)` of the frame's map, with positions as dense as those of the tiles.
    """

    def __init__(self, grid: TileGrid, map_size: tuple[int, int]) -> None:
        self._grid = grid
        self._map_size = map_size
        (columns, rows), overlap = grid.views.tiles, grid.views.overlap
        left, top, right, bottom = grid.views.box
        height, width = grid.image_size
        x0, y0, x1, y1 = grid.content
        across = _Axis(columns, overlap, (left, right), (x0 / width, x1 / width), map_size[1])
        down = _Axis(rows, overlap, (top, bottom), (y0 / height, y1 / height), map_size[0])
        self.size = (down.size, across.size)
        self._across, self._down = across.matrix, down.matrix
        self._parts = (across.weights, down.weights)

    @cached_property
    def covered(self) -> NDArray[np.bool_]:
        """Positions of the frame's map that any tile covers, `(H, W)`."""
        return self._weight(range(self._grid.n_tiles)) > 0

    def tiles_of(self, mask: NDArray[np.bool_] | None) -> tuple[int, ...]:
        """Indices of the tiles that contribute to some positions `(H, W)` of the frame's map; None = all positions."""
        if mask is None:
            return tuple(range(self._grid.n_tiles))
        across, down = self._parts
        seen = np.asarray(down.T @ mask.astype(np.float32) @ across)
        return tuple(index for index, tile in enumerate(self._grid.tiles) if seen[tile.row, tile.column] > 0)

    def stitch(self, maps: NDArray[np.float32], wanted: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Map of a frame.

        Args:
            maps: Maps `(T, h, w)`, float32.
            wanted: Indices of their tiles; None = all.

        Returns:
            `(H, W)`, float32. Positions that no tile covers have the smallest value of `maps`.
        """
        indices = range(self._grid.n_tiles) if wanted is None else wanted
        h, w = self._map_size
        columns, rows = self._grid.views.tiles
        low = maps.min()
        sheet = np.zeros((rows * h, columns * w), np.float32)
        for one, index in zip(maps, indices, strict=True):
            tile = self._grid.tiles[index]
            sheet[tile.row * h : (tile.row + 1) * h, tile.column * w : (tile.column + 1) * w] = one
        total = self._down @ sheet @ self._across.T
        if len(indices) == columns * rows and self.covered.all():
            return np.asarray(total, np.float32)
        weight = self._weight(indices)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(weight > 0, total / weight, low), np.float32)

    def _weight(self, indices: Sequence[int]) -> NDArray[np.float32]:
        columns, rows = self._grid.views.tiles
        present = np.zeros((rows, columns), np.float32)
        for index in indices:
            tile = self._grid.tiles[index]
            present[tile.row, tile.column] = 1
        across, down = self._parts
        return np.asarray(down @ present @ across.T, np.float32)


class _Axis:
    """One direction of a stitched map.

    Args:
        count: Number of tiles.
        overlap: Overlap as a share of a tile.
        crop: Ends of the crop, in shares of the frame.
        content: Ends of the content of a tile's image, in shares of the input.
        positions: Number of positions of a tile's map.

    Attributes:
        size: Number of positions of the frame's map.
        weights: Weight of each tile at each position `(size, count)`; a row sums to 1, or to 0 outside the crop.
        matrix: Weights of the positions of all tiles' maps `(size, count * positions)`.
    """

    def __init__(
        self, count: int, overlap: float, crop: tuple[float, float], content: tuple[float, float], positions: int
    ) -> None:
        length, share = crop[1] - crop[0], content[1] - content[0]
        side = length / _span(count, overlap)
        self.size = max(math.ceil(1 / side), min(MOST_POSITIONS, round(positions * share / side)))
        centres = (np.arange(self.size) + 0.5) / self.size
        starts = crop[0] + np.arange(count) * side * (1 - overlap)
        # place of each position within each tile, from 0 to 1
        within = (centres[:, None] - starts[None, :]) / side
        edge = np.minimum(within, 1 - within)
        # the small floor gives a position on the very edge to a tile, where it has only that one
        weights = np.where(edge >= -1e-9, np.clip(edge / max(overlap, 1e-6), 1e-6, 1.0), 0.0)
        total = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
        self.weights = weights.astype(np.float32)
        place = np.clip((content[0] + within * share) * positions - 0.5, 0, positions - 1)
        # a position that coincides with one of a tile's map takes its value, not a blend by a rounding error
        place = np.where(np.abs(place - np.rint(place)) < 1e-6, np.rint(place), place)
        low = np.minimum(np.floor(place).astype(int), max(0, positions - 2))
        matrix = np.zeros((self.size, count, positions))
        rows, columns = np.indices(place.shape)
        matrix[rows, columns, low] += weights * (1 - (place - low))
        matrix[rows, columns, np.minimum(low + 1, positions - 1)] += weights * (place - low)
        self.matrix = matrix.reshape(self.size, count * positions).astype(np.float32)


def native_tiles(views: Views, image_size: tuple[int, int], most: int = MOST_TILES) -> tuple[int, int]:
    """Fewest (columns, rows) of tiles that are not larger than the input, so that no pixel of the frame is lost.

    >>> native_tiles(Views(frame_size=(1080, 1920), overlap=0.1), (320, 320))
    (7, 4)

    Args:
        views: Rule whose tiles are to be chosen.
        image_size: Input `(height, width)` of the model in pixels.
        most: Largest number of tiles; tiles are made larger to keep it.
    """
    left, top, right, bottom = views.box
    width, height = (right - left) * views.frame_size[1], (bottom - top) * views.frame_size[0]
    scale = 1.0
    while True:
        sides = ((width, image_size[1] * scale), (height, image_size[0] * scale))
        columns, rows = (
            max(1, math.ceil((whole / one - views.overlap) / (1 - views.overlap) - 1e-9)) for whole, one in sides
        )
        if columns * rows <= most:
            return columns, rows
        scale *= 1.05


def _span(count: int, overlap: float) -> float:
    """Length of `count` overlapping tiles in a row, in tiles."""
    return count - (count - 1) * overlap


def _area(polygon: Sequence[tuple[float, float]]) -> float:
    """Area of a polygon by the shoelace formula."""
    x, y = np.asarray(polygon, np.float64).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _pixels(start: float, end: float, size: int) -> tuple[int, int]:
    """Pixels from `start` to `end` in shares; the length does not depend on how the start is rounded."""
    length = min(size, max(1, round((end - start) * size)))
    first = min(max(0, round(start * size)), size - length)
    return first, first + length


@lru_cache(maxsize=8)
def _filled(polygon: tuple[tuple[float, float], ...], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask `(height, width)` of a polygon in shares; kept, because every frame needs it."""
    canvas = np.zeros(size, np.uint8)
    corners = np.rint(np.asarray(polygon, np.float64) * (size[1], size[0]) - 0.5).astype(np.int32)
    cv2.fillPoly(canvas, [corners], 1)
    return canvas.astype(np.bool_)


def _part(mask: NDArray[np.bool_], tile: Tile) -> NDArray[np.bool_]:
    left, right = _pixels(tile.left, tile.right, mask.shape[1])
    top, bottom = _pixels(tile.top, tile.bottom, mask.shape[0])
    return mask[top:bottom, left:right]
