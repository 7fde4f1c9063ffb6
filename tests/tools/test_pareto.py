"""`python -m tools.pareto`: engine time against image AUROC, as a table and a picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools import pareto
from tools.pareto import MEAN, Point, draw, front, table, with_mean

SMALL, LARGE, SLOW = (
    Point("lite0", 320, 0.90, 0.5, 0.0, 7.0), Point("lite0", 640, 0.96, 0.8, 0.02, 40.0), Point("lite2", 320, 0.89, 0.4, 0.0, 15.0),
)  # fmt: skip


def test_nothing_faster_is_as_good() -> None:
    """A slower point that finds less is not on the front, and of equally fast ones the better is."""
    assert front([LARGE, SLOW, SMALL]) == [SMALL, LARGE]
    better = Point("lite1", 320, 0.91, 0.5, 0.0, 7.0)
    assert front([SMALL, better]) == [better]


def test_the_mean_has_what_every_set_has() -> None:
    """Without a point that one of the sets lacks; of a single set there is no mean."""
    other = Point("lite0", 320, 0.94, 0.7, 0.04, 9.0)
    shown = with_mean({"a": [SMALL, LARGE], "b": [other]})
    assert list(shown) == [MEAN, "a", "b"]
    assert shown[MEAN] == [Point("lite0", 320, pytest.approx(0.92), pytest.approx(0.6), 0.02, 8.0)]  # type: ignore[arg-type]
    assert with_mean({"a": [SMALL]}) == {"a": [SMALL]}


def test_the_table_marks_the_front() -> None:
    lines = table({"a": [SMALL, LARGE, SLOW]}).splitlines()[2:]
    assert lines[1] == "| a | lite0 | 640 px | 40.0 ms | **0.960** | 80% | 2.0% |"
    assert lines[2] == "| a | lite2 | 320 px | 15.0 ms | 0.890 | 40% | 0.0% |"


def test_the_picture_has_every_point_inside() -> None:
    """Higher is better, further right is slower, and nothing lies outside its panel."""
    found = ET.fromstring(draw({"a": [SMALL, LARGE, SLOW], "b": [SMALL]}))
    dots = [one for one in found.iter("{http://www.w3.org/2000/svg}circle") if len(one)]
    places = [(float(one.get("cx", "")), float(one.get("cy", ""))) for one in dots]
    assert len(places) == 4
    (x, y), (right, high), (_, low), (other, same) = places
    assert right > x
    assert high < y < low
    assert (other - x, same) == (pareto.PANEL + pareto.GAP, y)
    assert all(pareto.TOP <= place[1] <= pareto.HEIGHT - pareto.BOTTOM for place in places)


def test_a_point_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is a training with its backbone and size; what is finished is read again."""
    asked: list[dict[str, Any]] = []

    def measured(cell: Any, *_rest: Any) -> dict[str, Any]:
        asked.append(cell.settings)
        return {
            "evaluations": {"plain": {"classes": {"part": {"image_auroc": 0.9}}}},
            "counts": {"0.05": {"plain": {"part": {"found": 3, "n_defective": 4, "false_alarms": 1, "n_good": 10}}}},
            "bench": {"engine_ms": {"p50": 6.5}},
        }

    monkeypatch.setattr(pareto, "measure_shipped", measured)
    arguments = [str(tmp_path), str(tmp_path / "work"), "--sets", "a", "b", "--points", "lite0:320", "lite2:448"]
    (tmp_path / "work").mkdir()
    files = ["--json", str(tmp_path / "found.json"), "--picture", str(tmp_path / "found.svg")]
    pareto.main([*arguments, *files])
    first = capsys.readouterr().out.splitlines()[-8:]
    pareto.main(arguments)
    assert capsys.readouterr().out.splitlines()[-8:] == first
    assert [(one["model.backbone"], one["model.image_size"]) for one in asked] == [
        ("tf_efficientnet_lite0", 320), ("tf_efficientnet_lite0", 320), ("tf_efficientnet_lite2", 448), ("tf_efficientnet_lite2", 448),
    ]  # fmt: skip
    pareto.main([*arguments, "lite0:640", "--finished"])
    assert capsys.readouterr().out.splitlines()[-8:] == first
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["b"][1] == {
        "backbone": "lite2", "size": 448, "auroc": 0.9, "found": 0.75, "false_alarms": 0.1, "milliseconds": 6.5
    }  # fmt: skip
    assert (tmp_path / "found.svg").read_text().startswith("<svg")


def test_engines_are_timed_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round opens all of them; a round in which the machine was busy does not count."""
    opened: list[str] = []

    class Runner:
        def __init__(self, file: Path, **_rest: Any) -> None:
            opened.append(file.parent.name)

        def __enter__(self) -> Runner:
            return self

        def __exit__(self, *_rest: object) -> None:
            pass

    times = iter([1.0, 10.0, 9.0, 90.0, 2.0, 20.0])
    monkeypatch.setattr(pareto, "OnnxRunner", Runner)
    monkeypatch.setattr(pareto, "time_in_turns", lambda *_rest: (0.0, next(times)))
    image = np.zeros((4, 4, 3), np.uint8)
    found = pareto.timed_in_turns(
        [tmp_path / "a" / "model.onnx", tmp_path / "b" / "model.onnx"], [image, image], rounds=3
    )
    assert opened == ["a", "b"] * 3
    assert found == [2.0, 20.0]
