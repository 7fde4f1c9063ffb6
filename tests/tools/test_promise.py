"""`python -m tools.promise`: draws of good images, some with mislabelled defects, and the rates that they realise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgead.data.dataset import Sample
from edgead.data.layouts import find_dataset
from tools.promise import drawn, main, table

from .test_known_defects import SETTINGS


def samples(n: int, *, defective: bool) -> list[Sample]:
    names = [f"{'bad' if defective else 'ok'}-{number}.png" for number in range(n)]
    return [Sample(Path(name), name, "part", gt_label=defective) for name in names]


def test_a_draw_leaves_no_image_on_both_sides() -> None:
    """What is trained on judges nothing, the same seed gives the same draw, and too few images are refused."""
    good, defects = samples(10, defective=False), samples(4, defective=True)
    one = drawn(good, defects, 8, 0.25, seed=1)
    assert (len(one.good), len(one.mislabelled), len(one.unseen), len(one.defects)) == (6, 2, 4, 2)
    assert {*one.good, *one.unseen} == set(good)
    assert {*one.mislabelled, *one.defects} == set(defects)
    assert one == drawn(good, defects, 8, 0.25, seed=1) != drawn(good, defects, 8, 0.25, seed=2)
    with pytest.raises(ValueError, match="10 images with 0 defects cannot be drawn from 10 good images"):
        drawn(good, defects, 10, 0.0, seed=0)


def test_the_table_has_a_line_for_each_promise() -> None:
    """Rates of draws of one size are beside each other, with their mean."""
    rates = {"0.02": {"false_alarms": [1, 10], "found": [3, 4]}, "0.05": {"false_alarms": [3, 10], "found": [4, 4]}}
    one = {"n_images": 50, "n_mislabelled": 1, "n_left_out": 2, "rates": rates}
    other = {**one, "n_left_out": 0, "rates": {**rates, "0.05": {"false_alarms": [0, 10], "found": [2, 4]}}}
    lines = table([one, other])
    assert lines[2:] == [
        "| 50 | 1 | 2, 0 | 2.00% | 10.0%, 10.0% | 10.00% | 75%, 75% |",
        "| 50 | 1 | 2, 0 | 5.00% | 30.0%, 0.0% | 15.00% | 100%, 50% |",
    ]


@pytest.mark.slow
def test_a_draw_is_trained_once(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every good image that was not drawn is judged, and a finished draw is read again."""
    good = [
        one
        for part in (find_dataset(tiny_data).train, find_dataset(tiny_data).test)
        for one in part
        if not one.gt_label
    ]
    arguments = [
        str(tiny_data),
        str(tmp_path / "work"),
        "--images",
        "20",
        "--draws",
        "1",
        "--json",
        str(tmp_path / "a.json"),
    ]
    main(arguments, SETTINGS)
    (draw,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["draws"]
    assert draw["n_images"] == 20
    assert {rate["false_alarms"][1] for rate in draw["rates"].values()} == {len(good) - 20}
    assert "Run folder" in capsys.readouterr().out
    main(arguments, SETTINGS)
    assert "Run folder" not in capsys.readouterr().out
