"""The picture of what a training tried."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgead.commands.training.choices_chart import draw_choices, pareto_front
from edgead.commands.training.form_choice import CENTRES, POSITIONS, Choice


def choice(milliseconds: float, power: float, shrinkage: float | None = None, size: int = 320) -> Choice:
    form = CENTRES if shrinkage is None else POSITIONS
    return Choice(size, form, shrinkage, 0.01, power, milliseconds)


def test_the_front_has_what_no_other_one_beats() -> None:
    """The best of each time, and only if no faster one finds as much."""
    fast, weak, slow, slower = choice(10.0, 0.4), choice(10.0, 0.3, 0.2), choice(40.0, 0.6), choice(50.0, 0.6)
    assert pareto_front([slower, weak, slow, fast]) == [fast, slow]


@pytest.mark.parametrize("milliseconds", [0.0, 0.04, 22.3, 4000.0])
def test_every_choice_is_drawn_and_the_kept_one_has_the_ring(tmp_path: Path, milliseconds: float) -> None:
    """A well-formed file with a mark for each choice, inside the picture, at any speed of a machine."""
    tried = [choice(milliseconds, 0.0, 0.2), choice(milliseconds, 0.5), choice(4 * milliseconds, 1.0, size=640)]
    draw_choices(tried, tried[2], tmp_path / "choices.svg")
    root = ElementTree.parse(tmp_path / "choices.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    marks = [one for one in root.iter() if one.attrib.get("class") in ("positions", "centres")]
    assert [mark.find(f"{space}title").text for mark in marks] == [one.describe() for one in tried]  # type: ignore[union-attr]
    (ring,) = [one for one in root.iter() if one.attrib.get("class") == "chosen"]
    kept = marks[2]
    assert float(ring.attrib["cx"]) == pytest.approx(float(kept.attrib["x"]) + 4)
    assert float(ring.attrib["cy"]) == pytest.approx(float(kept.attrib["y"]) + 4)
    for number in re.findall(r' (?:x|cx|x1|x2)="([-\d.]+)"', (tmp_path / "choices.svg").read_text(encoding="utf-8")):
        assert 0 <= float(number) <= width
    assert 0 < float(ring.attrib["cy"]) < height
    assert "640 px, centres" in "".join(root.itertext())
