"""Crop and tiles of a training, from its settings and the sizes of its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgead.config.training import DataConfig
from edgead.errors import ConfigError
from edgead.views import Views, native_tiles

NATIVE = "native"


@dataclass(frozen=True)
class ViewOptions:
    """Crop and tiles as the user asks for them, for frames of one size.

    Attributes:
        frame_size: Most common `(height, width)` of the good images in pixels.
        crop: Corners of the crop in shares; empty = the whole frame.
        tiles: `COLUMNSxROWS`, or `native` for tiles that are not larger than the input.
        overlap: Overlap of neighbouring tiles, as a share of a tile.
        keep_aspect: Whether tiles are padded instead of stretched.
    """

    frame_size: tuple[int, int]
    crop: tuple[tuple[float, float], ...]
    tiles: str
    overlap: float
    keep_aspect: bool

    def views(self, image_size: tuple[int, int]) -> Views | None:
        """Rule for an input of `(height, width)` pixels; None if the whole frame is squeezed to it as before."""
        if not self.crop and self.tiles == "1x1" and not self.keep_aspect:
            return None
        rest = {"frame_size": self.frame_size, "crop": self.crop, "keep_aspect": self.keep_aspect}
        one = Views.model_validate({**rest, "overlap": self.overlap})
        tiles = native_tiles(one, image_size) if self.tiles == NATIVE else _numbers(self.tiles)
        return Views.model_validate({**rest, "tiles": tiles, "overlap": 0.0 if tiles == (1, 1) else self.overlap})


def view_options(settings: DataConfig, sizes: Mapping[tuple[int, int], int]) -> ViewOptions:
    """Crop and tiles for the good images.

    Args:
        settings: Settings of the data.
        sizes: Number of images by `(height, width)` in pixels.

    Raises:
        ConfigError: If the crop is in pixels and the images have several sizes, or it lies outside them.
    """
    frame_size = max(sizes, key=lambda size: (sizes[size], size))
    crop = _corners(settings.crop)
    if any(value > 1 for corner in crop for value in corner):
        if len(sizes) > 1:
            raise ConfigError(
                f"The crop is given in pixels, but the good images have {len(sizes)} sizes.",
                hint="Give it in shares of the width and height, from 0 to 1, or use images of one size.",
            )
        height, width = frame_size
        crop = tuple((x / width, y / height) for x, y in crop)
        if any(value > 1 for corner in crop for value in corner):
            given = ",".join(f"{value:g}" for value in settings.crop)
            raise ConfigError(
                f"The crop {given} reaches outside the images, which are {width} x {height} px.",
                hint=f"A box is X,Y,WIDTH,HEIGHT, with X + WIDTH at most {width} and Y + HEIGHT at most {height}; the corners "
                "of a polygon are X1,Y1,X2,Y2 and so on, inside the image.",
            )
    return ViewOptions(frame_size, crop, settings.tiles, settings.overlap, settings.keep_aspect)


def enlargement_note(options: ViewOptions, side: int) -> str | None:
    """Sentences about tiles that are smaller than the input in both directions, and so show no more than larger ones would.

    Args:
        options: Crop and tiles.
        side: Side of the input in pixels.

    Returns:
        None if the tiles are large enough, or there are none.
    """
    grid = options.views((side, side))
    if grid is None or grid.tiles == (1, 1):
        return None
    columns, rows = native_tiles(grid.model_copy(update={"tiles": (1, 1)}), (side, side))
    if grid.tiles[0] <= columns or grid.tiles[1] <= rows:
        return None
    height, width = options.frame_size
    instead = "without tiles" if (columns, rows) == (1, 1) else f"with --tiles {columns}x{rows}"
    return (
        f"Tiles of {grid.tiles[0]}x{grid.tiles[1]} are smaller than the input of {side} px and only enlarged to it: images of {width} x "
        f"{height} px lose nothing {instead}. Large, faint defects are found worse on small tiles."
    )


def _corners(values: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """Corners of a box given as X,Y,WIDTH,HEIGHT, or of a polygon given as X1,Y1,X2,Y2,..."""
    if len(values) == 4:
        x, y, width, height = values
        return ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return tuple(zip(values[::2], values[1::2], strict=True))


def _numbers(tiles: str) -> tuple[int, int]:
    columns, rows = tiles.split("x")
    return int(columns), int(rows)
