"""Crop, tiles and the way back: pure geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from edgead.imaging import resize
from edgead.views import OUTSIDE, Stitcher, TileGrid, Views, native_tiles

SIZE, MAP = (64, 64), (8, 8)


def box(left: float, top: float, right: float, bottom: float) -> tuple[tuple[float, float], ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


@st.composite
def views(draw: st.DrawFn) -> Views:
    left, top = draw(st.floats(0, 0.5)), draw(st.floats(0, 0.5))
    right, bottom = draw(st.floats(left + 0.2, 1)), draw(st.floats(top + 0.2, 1))
    return Views(
        frame_size=(draw(st.integers(400, 900)), draw(st.integers(400, 900))),
        crop=draw(st.sampled_from([(), box(left, top, right, bottom)])),
        tiles=(draw(st.integers(1, 5)), draw(st.integers(1, 5))),
        overlap=draw(st.sampled_from([0.0, 0.1, 0.25, 0.5])),
        keep_aspect=draw(st.booleans()),
    )


def noise(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(views())
def test_equal_maps_of_all_tiles_give_that_value_everywhere_in_the_crop(rule: Views) -> None:
    """Blending neither raises nor lowers a map: weights sum to one inside the crop."""
    grid = TileGrid(rule, SIZE)
    stitcher = Stitcher(grid, MAP)
    found = stitcher.stitch(np.full((grid.n_tiles, *MAP), 3.5, np.float32))
    assert found.shape == stitcher.size
    assert found == pytest.approx(3.5, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(views(), st.integers(0, 2**31))
def test_a_stitched_map_stays_between_its_tiles_extremes(rule: Views, seed: int) -> None:
    """Interpolation and blending invent no value."""
    grid = TileGrid(rule, SIZE)
    maps = np.random.default_rng(seed).normal(size=(grid.n_tiles, *MAP)).astype(np.float32)
    found = Stitcher(grid, MAP).stitch(maps)
    assert found.min() >= maps.min() - 1e-5
    assert found.max() <= maps.max() + 1e-5


@settings(max_examples=40, deadline=None)
@given(views(), st.integers(0, 2**31))
def test_a_mark_in_the_frame_appears_at_its_place_in_the_map(rule: Views, seed: int) -> None:
    """Brightness of the tiles, taken as their maps, is brightest where the frame is."""
    random = np.random.default_rng(seed)
    height, width = rule.frame_size
    left, top, right, bottom = rule.box
    x, y = random.uniform(left + 0.03, right - 0.03), random.uniform(top + 0.03, bottom - 0.03)
    rows, columns = np.indices((height, width))
    spread = 0.02 * min(height, width)
    bump = np.exp(-((rows - y * height) ** 2 + (columns - x * width) ** 2) / (2 * spread**2))
    frame = np.repeat((bump * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    grid = TileGrid(rule, SIZE)
    maps = grid.cut(frame)[:, :, :, 0].reshape(grid.n_tiles, 8, 8, 8, 8).mean(axis=(2, 4)).astype(np.float32)
    found = Stitcher(grid, MAP).stitch(maps)
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    # one position of a tile's map, and the spread of the mark
    reach_x = (right - left) / rule.tiles[0] / 5 + spread / width
    reach_y = (bottom - top) / rule.tiles[1] / 5 + spread / height
    assert abs((column + 0.5) / found.shape[1] - x) <= reach_x + 1 / found.shape[1]
    assert abs((row + 0.5) / found.shape[0] - y) <= reach_y + 1 / found.shape[0]


def test_tiles_without_overlap_are_stitched_value_by_value() -> None:
    """Where the grids coincide, a map is copied and not resampled."""
    grid = TileGrid(Views(frame_size=(128, 192), tiles=(3, 2)), SIZE)
    maps = np.random.default_rng(0).normal(size=(6, *MAP)).astype(np.float32)
    found = Stitcher(grid, MAP).stitch(maps)
    assert found.shape == (16, 24)
    for index, tile in enumerate(grid.tiles):
        part = found[tile.row * 8 : tile.row * 8 + 8, tile.column * 8 : tile.column * 8 + 8]
        np.testing.assert_array_equal(part, maps[index])


def test_native_tiles_are_pixels_of_the_frame() -> None:
    """At the frame's own scale no pixel is interpolated."""
    frame = noise((128, 192))
    tiles = TileGrid(Views(frame_size=(128, 192), tiles=(3, 2)), SIZE).cut(frame)
    np.testing.assert_array_equal(tiles[4], frame[64:128, 64:128])


def test_overlapping_native_tiles_are_pixels_of_the_frame_too() -> None:
    """Rounding of a tile's place does not change its size."""
    frame = noise((211, 211))
    rule = Views(frame_size=(211, 211), tiles=(5, 5), overlap=0.425)
    for tile in TileGrid(rule, SIZE).cut(frame):
        corner = tile[0, 0]
        starts = np.argwhere((frame == corner).all(axis=2))
        assert any(np.array_equal(frame[y : y + 64, x : x + 64], tile) for y, x in starts)


def test_one_tile_of_the_whole_frame_is_the_squeezed_frame() -> None:
    """The rule with nothing in it is the rule of before."""
    frame = noise((90, 170))
    found = TileGrid(Views(frame_size=(90, 170)), SIZE).cut(frame)
    np.testing.assert_array_equal(found[0], resize(frame, SIZE))


def test_a_kept_aspect_pads_the_short_side_with_the_edge() -> None:
    """A wide frame becomes a band in the middle of the input."""
    frame = noise((100, 200))
    grid = TileGrid(Views(frame_size=(100, 200), keep_aspect=True), SIZE)
    assert grid.content == (0, 16, 64, 48)
    (found,) = grid.cut(frame)
    np.testing.assert_array_equal(found[16:48], resize(frame, (32, 64)))
    np.testing.assert_array_equal(found[0], found[16])
    assert Stitcher(grid, MAP).size == (4, 8)


def test_a_polygon_hides_what_lies_outside_and_drops_tiles_wholly_outside() -> None:
    """A triangle in the top left needs three of four tiles."""
    grid = TileGrid(Views(frame_size=(100, 100), crop=((0, 0), (1, 0), (0, 1)), tiles=(2, 2)), SIZE)
    frame = np.full((100, 100, 3), 200, np.uint8)
    assert [(tile.column, tile.row) for tile in grid.tiles] == [(0, 0), (1, 0), (0, 1)]
    top_right = grid.cut(frame)[1]
    assert top_right[2, 2].tolist() == [200] * 3
    assert top_right[60, 60].tolist() == [OUTSIDE] * 3


def test_positions_outside_the_crop_have_the_smallest_value_and_are_not_covered() -> None:
    """Nothing outside the crop can be anomalous."""
    grid = TileGrid(Views(frame_size=(100, 100), crop=box(0.25, 0.25, 0.75, 0.75)), SIZE)
    stitcher = Stitcher(grid, MAP)
    found = stitcher.stitch(np.arange(64, dtype=np.float32).reshape(1, 8, 8) + 1)
    assert stitcher.size == (16, 16)
    assert stitcher.covered.sum() == 64
    assert set(found[~stitcher.covered].tolist()) == {1.0}


def test_tiles_of_a_zone_are_those_that_its_positions_come_from() -> None:
    """The other tiles may be left out, and the zone's part of the map stays the same."""
    grid = TileGrid(Views(frame_size=(256, 256), tiles=(4, 4), overlap=0.1), SIZE)
    stitcher = Stitcher(grid, MAP)
    mask = np.zeros(stitcher.size, np.bool_)
    mask[2:5, 2:12] = True
    wanted = stitcher.tiles_of(mask)
    assert wanted == (0, 1)
    maps = np.random.default_rng(0).normal(size=(16, *MAP)).astype(np.float32)
    np.testing.assert_allclose(
        stitcher.stitch(maps[list(wanted)], wanted)[mask], stitcher.stitch(maps)[mask], rtol=1e-5, atol=1e-6
    )


def test_tiles_of_frames_of_another_size_show_the_same_parts() -> None:
    """The rule is in shares: a camera of twice the resolution gives the same tiles."""
    small = np.kron(noise((8, 8)), np.ones((16, 16, 1), np.uint8))
    large = np.kron(small, np.ones((2, 2, 1), np.uint8))
    grid = TileGrid(Views(frame_size=(128, 128), tiles=(2, 2)), SIZE)
    np.testing.assert_array_equal(grid.cut(small), grid.cut(large))


@pytest.mark.parametrize(
    ("frame_size", "overlap", "expected"),
    [((2048, 2048), 0.1, (7, 7)), ((2048, 2048), 0.0, (7, 7)), ((320, 320), 0.1, (1, 1)), ((300, 900), 0.1, (4, 1))],
)
def test_native_tiles_are_the_fewest_that_shrink_nothing(
    frame_size: tuple[int, int], overlap: float, expected: tuple[int, int]
) -> None:
    """One fewer in either direction would be larger than the input."""
    views = Views(frame_size=frame_size, overlap=overlap)
    assert native_tiles(views, (320, 320)) == expected


def test_native_tiles_of_a_huge_frame_are_at_most_256() -> None:
    """A frame of 134 million pixels gets larger tiles rather than a refusal."""
    columns, rows = native_tiles(Views(frame_size=(11585, 11585), overlap=0.1), (320, 320))
    assert columns * rows <= 256
    assert columns == rows


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": ((0, 0), (1, 1))},
        {"crop": ((0.5, 0.5), (0.5, 0.6), (0.5, 0.9))},
        {"crop": ((0, 0), (2, 0), (2, 1))},
        {"tiles": (20, 20)},
        {"tiles": (8, 1)},
        {"tiles": (0, 1)},
        {"overlap": 0.6},
    ],
)
def test_a_rule_without_an_area_or_with_too_many_tiles_is_refused(wrong: dict[str, object]) -> None:
    """A manifest with such values is damaged."""
    with pytest.raises(ValidationError):
        Views.model_validate({"frame_size": (100, 100), **wrong})


def test_the_scale_of_the_tiles_is_that_of_the_frame() -> None:
    """Two tiles of 64 px side by side are a frame of 128 px; an overlap makes it smaller, a crop to the left half twice as wide."""

    def size(**rule: Any) -> tuple[int, int]:
        return TileGrid(Views(frame_size=(100, 200), **rule), SIZE).scaled_frame

    assert size(tiles=(2, 1)) == (64, 128)
    assert size(tiles=(2, 1), overlap=0.5) == (64, 96)
    assert size(tiles=(2, 1), crop=box(0, 0, 0.5, 1)) == (64, 256)
    assert size(tiles=(1, 1), keep_aspect=True) == (32, 64)
