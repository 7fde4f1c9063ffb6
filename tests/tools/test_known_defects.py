"""`python -m tools.known_defects`: two trainings that differ in the known defects alone, judged on the same images."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.data.layouts import find_dataset
from tests.tiny_run import SIDE
from tools.known_defects import KNOWN, REST, drawn_defects, measure, table

COUNT = 5
SETTINGS = {
    "model.image_size": SIDE,
    "model.levels": ["16:24+32:8"],
    "model.couplings": "never",
    "train.device": "cpu",
    "train.forms": ["positions"],
    "train.pseudo_defects": 1,
    "train.shrinkage": [0.2],
    "train.variation": 0.0,
}


@pytest.mark.slow
def test_both_models_judge_what_is_left(tiny_data: Path, tmp_path: Path) -> None:
    """The drawn defects are in no test folder; both models judge the others, one of them with a count of known defects."""
    dataset = find_dataset(tiny_data)
    known = drawn_defects(dataset, COUNT, 0)
    assert known == drawn_defects(dataset, COUNT, 0) != drawn_defects(dataset, COUNT, 1)
    found = measure(tiny_data, tmp_path / "work", COUNT, 0, SETTINGS)
    assert found["known"] == [sample.name for sample in known]
    assert len(list((tmp_path / "work" / KNOWN).glob("[!g]*/*.png"))) == COUNT
    left = sum(sample.gt_label for sample in dataset.test) - COUNT
    rest = find_dataset(tmp_path / "work" / REST)
    assert sum(sample.gt_label for sample in rest.test) == left
    for name in ("without", "with"):
        assert found[name]["0.05"]["found"][1] == left
        assert (found[name]["known"] is None) == (name == "without")
    lines = table(found)
    assert len(lines) == 3
    assert f"of {left} (" in lines[0]
    assert lines[2].startswith(f"{COUNT} known defects: ")
