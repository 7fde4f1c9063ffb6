"""Small defects on large frames: the short form of the measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgead
from edgead.data.sized_defects import make_sized_defect
from tools.small_defects import Row, _parts, judge_pair, measure, table

pytestmark = pytest.mark.slow

SIDE = 384
TINY: dict[str, Any] = {
    "model.image_size": 128,
    "model.levels": ["8:24"],
    "train.centres": 24,
    "train.shrinkage": [0.2],
    "train.device": "cpu",
    "train.reference_images": 4,
    "train.calibration_images": 8,
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def rows(work: Path) -> list[Row]:
    return measure(
        _parts("fabric", SIDE), work, TINY, tiles="3x3", overlap=0.1, n_train=30, n_good=12, sizes=(6.0, 10.0)
    )  # fmt: skip


def test_tiles_find_small_defects_that_the_squeezed_frame_loses(rows: list[Row]) -> None:
    """At no false alarm on the same unseen frames."""
    squeezed, tiles = rows
    assert (squeezed.tiles, tiles.tiles) == (1, 9)
    assert tiles.found_at_none > squeezed.found_at_none


def test_pairs_are_judged_as_two_frames_would_be(rows: list[Row], work: Path) -> None:
    """Leaving out the tiles that a defect does not touch changes nothing."""
    frame = _parts("fabric", SIDE)(5)
    defective, place = make_sized_defect(frame, 7, np.random.default_rng(0))
    with edgead.load(work / "tiles-3x3" / "bundle", engine="reference") as model:
        good, bad = (result.score for result in model.predict([frame, defective]))
        assert judge_pair(model, frame, defective, place) == pytest.approx((good, bad), rel=1e-5)


def test_the_table_has_a_line_for_each_bundle(rows: list[Row]) -> None:
    """Both are judged on the same number of frames."""
    text = table(rows)
    assert len(text.splitlines()) == 4
    assert text.count("of 12 |") == 2
