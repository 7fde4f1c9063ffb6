"""Which sizes of defects a bundle finds, and the advice that follows."""

from __future__ import annotations

import re

import pytest

from edgead.commands.train import TrainResult
from edgead.commands.training.defect_sizes import DefectSizes


def sizes(
    found: dict[int, float], frame: tuple[int, int] = (1280, 1920), tiles: tuple[int, int] = (1, 1)
) -> DefectSizes:
    tile = (frame[0] / tiles[1], frame[1] / tiles[0])
    return DefectSizes(found, 24, frame, tile, (320, 320), tiles)


def test_sizes_under_the_smallest_found_are_said_to_be_missed_and_tiles_are_advised() -> None:
    """Half the size needs twice the scale: fewer rows where the frame is wide, and six times the time."""
    text = sizes({4: 0.0, 8: 0.2, 16: 0.95, 32: 1.0}).describe()
    assert "0% of 4 px, 20% of 8 px, 95% of 16 px, 100% of 32 px" in text
    assert "Defects under 16 px will often be missed" in text
    assert "--tiles 2x2 shows them 2.0 times as large" in text
    assert "from about 8 px, at 4 times the time" in text


def test_the_side_that_is_squeezed_less_gets_fewer_tiles() -> None:
    """A frame three times as wide as high needs tiles side by side alone."""
    text = sizes({4: 0.0, 8: 0.1, 16: 0.2, 32: 0.9}, frame=(640, 1920)).describe()
    assert "--tiles 2x1" in text


def test_a_bundle_of_tiles_is_compared_with_itself() -> None:
    """More tiles than it has, at a multiple of its own time."""
    text = sizes({4: 0.0, 8: 0.9, 16: 1.0}, frame=(1280, 1280), tiles=(2, 2)).describe()
    assert "--tiles 4x4" in text
    assert "from about 4 px, at 4 times the time" in text


def test_a_size_counts_as_found_only_if_all_larger_ones_are() -> None:
    """One lucky size between missed ones promises nothing."""
    assert sizes({4: 0.9, 8: 0.3, 16: 0.9, 32: 1.0}).smallest == 16
    assert sizes({4: 0.9, 8: 0.9, 16: 0.9, 32: 0.5}).smallest is None
    assert "Defects of up to 32 px will often be missed" in sizes({16: 0.9, 32: 0.5}).describe()


def test_nothing_is_advised_where_everything_is_found_or_no_pixel_is_left() -> None:
    """At the frame's own scale tiles show nothing new."""
    assert "missed" not in sizes({4: 0.9, 8: 1.0}).describe()
    for side in (320, 390):
        text = sizes({4: 0.0, 8: 1.0}, frame=(side, side)).describe()
        assert "--tiles" not in text
        assert "hardly more pixels" in text


def test_a_training_records_the_share_found_of_each_size(tiny_result: TrainResult) -> None:
    """The bundle's record has them under the size in pixels."""
    metrics = tiny_result.bundle.manifest.provenance.metrics
    found = {int(match[1]): value for key, value in metrics.items() if (match := re.fullmatch(r"found_(\d+)_px", key))}
    assert list(found) == [4, 8, 16]
    assert all(0 <= share <= 1 for share in found.values())


@pytest.mark.parametrize("found", [{4: 0.0, 8: 0.2, 16: 0.7}, {4: 0.5, 8: 1.0}])
def test_the_advice_never_names_smaller_or_fewer_tiles(found: dict[int, float]) -> None:
    """The advice has more tiles than the bundle for a frame of any shape."""
    for frame in ((400, 4000), (4000, 400), (1000, 1000)):
        text = sizes(found, frame=frame).describe()
        match = re.search(r"--tiles (\d+)x(\d+)", text)
        assert match is None or int(match[1]) * int(match[2]) > 1
