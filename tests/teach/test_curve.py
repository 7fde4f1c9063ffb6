"""The tool that measures teaching, and the options of the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgead.cli.teaching import teach
from edgead.data.synthetic.make import write_dataset
from edgead.errors import ConfigError
from edgead.teach.base import Base
from tools.teach_curve import main

from ..tiny import SIDE


def test_the_curve_of_a_small_set(base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row for each number of pictures, with what is kept of the full-data AUROC; features come from the cache again."""
    data = tmp_path / "disc"
    write_dataset(data, "disc", n_train=9, n_test_good=3, n_test_per_defect=1, seed=1, size=(SIDE, SIDE))
    arguments = ["--base", str(base.path), "--data", str(data), "--counts", "[5, 7]", "--full", "disc=0.9"]
    arguments += ["--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "rows.json")]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["count"] for row in rows] == [5, 7]
    assert rows[0]["kept"] == pytest.approx((rows[0]["image_auroc"] - 0.5) / 0.4, abs=1e-3)
    first = capsys.readouterr().out
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert main(arguments) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "got none"),
        ({"camera": "0", "source": "video.mp4"}, "got --camera and --source"),
        ({"camera": "0", "out": Path("a"), "refine": Path("b")}, "give one of them"),
        ({"camera": "0", "refine": Path("missing")}, "no teach.json"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], why: str) -> None:
    """Before a camera is opened."""
    with pytest.raises(ConfigError, match=why):
        teach(**given)
