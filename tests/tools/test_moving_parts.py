"""What parts that move cost, with and without alignment."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tools.moving_parts import MOVED, SIZE, STILL, moved_part, rows_of


def test_the_part_and_its_defect_do_not_depend_on_the_motion() -> None:
    """Moved back by its matrix, a moved part shows its defect where the part at rest does."""
    for seed in range(3):
        at_rest, mask, place = moved_part("cap", seed, (160, 160), STILL, "stain")
        _, moved_mask, moved_place = moved_part("cap", seed, (160, 160), MOVED, "stain")
        assert at_rest.shape == (160, 160, 3)
        full = [np.vstack([matrix, [0, 0, 1]]) for matrix in (place, moved_place)]
        centre = np.array([*np.argwhere(moved_mask).mean(axis=0)[::-1], 1.0])
        back = (full[0] @ np.linalg.inv(full[1]) @ centre)[:2]
        assert back == pytest.approx(np.argwhere(mask).mean(axis=0)[::-1], abs=2.5)
        assert np.hypot(*moved_place[:, 0]) == pytest.approx(SIZE)


@pytest.mark.slow
def test_aligned_parts_that_move_lose_at_most_a_point(tmp_path: Path) -> None:
    """Boards turned by up to 15 degrees and shifted by up to 5 % are told apart as well as boards at rest, and only when aligned."""
    settings: dict[str, object] = {
        "model.image_size": 160, "train.forms": ["positions"], "train.shrinkage": [0.2], "train.variation": 0.0,
    }  # fmt: skip
    all_rows = rows_of("board", tmp_path, side=160, n_train=60, n_test=6, settings=settings)
    rows = dict(islice(all_rows, 6))  # the last model, aligned and of parts at rest, is not asked about
    at_rest = rows["still", "still", "off"].auroc
    assert rows["moved", "moved", "on"].auroc >= at_rest - 0.01
    assert rows["moved", "moved", "off"].auroc < at_rest - 0.02
    assert sum(row.n_lost for row in rows.values()) == 0
