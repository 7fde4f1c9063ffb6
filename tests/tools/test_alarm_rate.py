"""Replay of good images: camera, splits, and both tables on scores of known distribution."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.evaluation.pace import Pace
from tools.alarm_rate import (
    LONGEST_LOOK,
    Scores,
    changed,
    cost_lines,
    hour_of,
    meter_line,
    paces_of,
    replay,
    stream_of,
    threshold_rules,
)

BOUND = {"any stream": Pace(25.0, 3)}


@pytest.fixture(scope="module")
def scores() -> Scores:
    """200 good parts in 4 takes that differ a little, and 50 defective images, half of them far out."""
    rng = np.random.default_rng(0)
    good = rng.gamma(2.0, size=(200, 1)) * rng.lognormal(0.0, 0.05, size=(200, 4))
    return Scores(good, np.concatenate([rng.gamma(2.0, size=25), np.full(25, 1000.0)]))


def test_a_changed_image_is_the_image_moved_a_pixel() -> None:
    """Without noise the image comes out shifted by at most one pixel in each direction, and not always the same."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, size=(12, 10, 3), dtype=np.uint8)
    moves = {(0, 0): 0}
    for _ in range(40):
        inner = changed(image, 0.0, rng)[1:-1, 1:-1]
        found = [(y, x) for y in range(3) for x in range(3) if (image[y : y + 10, x : x + 8] == inner).all()]
        assert len(found) == 1
        moves[found[0]] = moves.get(found[0], 0) + 1
    assert len(moves) > 6
    assert (changed(image, 5.0, rng) != image).any()


def test_a_stream_shows_whole_looks() -> None:
    """Every part stays for 1 to 25 frames and all parts come."""
    takes = np.repeat(np.arange(50.0)[:, None], 3, axis=1)
    stream = stream_of(takes, 20_000, np.random.default_rng(1))
    assert stream.size == 20_000
    assert set(stream) == set(range(50))
    lengths = np.diff(np.flatnonzero(np.diff(stream, prepend=-1.0)))
    assert lengths.mean() == pytest.approx((1 + LONGEST_LOOK) / 2 / (1 - 1 / 50), rel=0.05)


def test_replays_keep_certified_promises(scores: Scores) -> None:
    """On exchangeable parts every certified promise is kept, and more allowed alarms detect more defects."""
    rows = {
        (name, wanted): replay(scores, rule, 25.0, 30)
        for name, rule, wanted in threshold_rules(BOUND)
        if wanted in (1000.0, 500.0)
    }
    assert set(rows) == {("any stream", 1000.0), ("any stream", 500.0), ("watched line", 500.0)}
    for (_, wanted), row in rows.items():
        assert row.n_certified == 30
        assert 0.02 * wanted < row.alarms_per_hour <= wanted + 3 * row.error
    assert rows["any stream", 1000.0].detection_rate > rows["any stream", 500.0].detection_rate


def test_tables_of_costs(scores: Scores) -> None:
    """A line per number of images; the far half of the defects is found at the shipped rate and at one alarm per hour."""
    report = hour_of(scores, 25.0)
    assert ": like the images" in meter_line(report)
    lines = cost_lines(scores, 0.005, 1.0, paces_of(report, 25.0))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[1] for row in cells] == ["200", "25", "50", "100", "200", "200"]
    assert cells[-1][0] == "1/h, measured bursts"
    assert all(float(row[2].rstrip("%")) >= 50.0 for row in cells)
