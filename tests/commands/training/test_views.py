"""Crop and tiles of a training."""

from __future__ import annotations

import pytest

from edgead.commands.training.views import ViewOptions, enlargement_note


@pytest.mark.parametrize(
    ("frame", "tiles", "instead"),
    [
        ((300, 300), "2x2", "without tiles"),
        ((1080, 1920), "12x8", "with --tiles 7x4"),
        ((1080, 1920), "7x4", None),
        ((2048, 2048), "native", None),
        ((640, 300), "1x2", None),
        ((300, 300), "1x1", None),
    ],
)
def test_tiles_that_only_enlarge_are_told(frame: tuple[int, int], tiles: str, instead: str | None) -> None:
    """The note names the tiles that lose no pixel; tiles that lose some, or there are none, are not mentioned."""
    note = enlargement_note(ViewOptions(frame, (), tiles, 0.1, keep_aspect=False), 320)
    if instead is None:
        assert note is None
    else:
        assert note is not None
        assert f"{frame[1]} x {frame[0]} px lose nothing {instead}." in note


def test_a_crop_is_what_the_tiles_cut() -> None:
    """Tiles of a small part of a large image may be too small."""
    corner = ((0.0, 0.0), (0.25, 0.0), (0.25, 0.25), (0.0, 0.25))
    assert enlargement_note(ViewOptions((1200, 1200), corner, "2x2", 0.1, keep_aspect=False), 320) is not None
    assert enlargement_note(ViewOptions((1200, 1200), (), "2x2", 0.1, keep_aspect=False), 320) is None
