"""Robustness: rates and AUROC of changed images, the rule of a broken promise, the keys, the section of the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.data.variations import VARIATIONS
from edgead.errors import EngineError
from edgead.evaluation.evaluate import Rate
from edgead.evaluation.report_robustness import robustness_section
from edgead.evaluation.robustness import ChangedScores, ChangeResult, Robustness, RobustnessPoint, robustness_point
from edgead.evaluation.threshold import binomial_interval
from edgead.terminal import show_robustness

N_GOOD = 100
EXAMPLES = (np.zeros((8, 12, 3), np.uint8), np.ones((8, 12, 3), np.uint8))


def point(strength: float, k: int, n: int = N_GOOD, auroc: float | None = 0.9, bad: int = 40) -> RobustnessPoint:
    return RobustnessPoint(strength, strength, f"±{strength:g} %", auroc, Rate(bad // 2, bad), Rate(k, n))


def change(alarms: Sequence[int], title: str = "Gain", **values: Any) -> ChangeResult:
    points = tuple(point(10.0 * (i + 1), k, **values) for i, k in enumerate(alarms))
    return ChangeResult("gain", title, "% brighter or darker", 30.0, "±30 %", points, EXAMPLES)


def robustness(*changes: ChangeResult, unchanged: int = 0) -> Robustness:
    return Robustness(0.005, N_GOOD, 40, point(0.0, unchanged), changes)


def test_a_point_counts_at_the_thresholds_of_the_images() -> None:
    """Alarms are scores above each image's own limit, and AUROC is the mean over the classes that have both labels."""
    changed = ChangedScores(
        scores=np.array([1.0, 3.0, 2.0, 9.0, 5.0]),
        limits=np.array([2.0, 2.0, 2.0, 9.0, 4.0]),
        labels=np.array([False, True, True, True, False]),
        classes=["nut", "nut", "nut", "bolt", "bolt"],
    )
    found = robustness_point(1.0, 1.0, "one", changed, "fake")
    assert (found.found, found.false_alarms, found.image_auroc) == (Rate(1, 3), Rate(1, 2), 1.0)
    only_good = replace(changed, labels=np.zeros(5, bool))
    assert robustness_point(1.0, 1.0, "one", only_good, "fake").image_auroc is None
    with pytest.raises(EngineError, match="not finite"):
        robustness_point(1.0, 1.0, "one", replace(changed, scores=np.full(5, np.nan)), "fake")


def test_the_promise_breaks_at_the_first_interval_above_it() -> None:
    """Of 100 good images, 3 break a promise of 0.5 %, 4 break twice of it, and 2 break nothing."""
    result = change([0, 2, 3, 4, 2])
    first, twice = result.broken_at(0.005), result.broken_at(0.01)
    assert first is not None
    assert twice is not None
    assert (first.strength, twice.strength) == (30.0, 40.0)
    assert change([2, 2, 2, 2, 2]).broken_at(0.005) is None
    assert result.at_mild.strength == 30.0


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), rate=st.floats(0.001, 0.2))
def test_the_fewest_alarms_that_break_are_stated(n: int, rate: float) -> None:
    """The rule names the smallest number of alarms whose interval excludes the promise, if there is one."""
    least = replace(robustness(change([0])), promise=rate, n_good=n).smallest_break
    breaking = [k for k in range(n + 1) if binomial_interval(k, n)[0] > rate]
    assert (None if least is None else least.k) == (breaking[0] if breaking else None)


def test_json_has_the_documented_keys() -> None:
    """Strengths, intervals and the strength that breaks the promise, null where none does."""
    content = robustness(change([0, 0, 0, 9, 50]), replace(change([0] * 5), name="blur")).to_json()
    gain, blur = content["changes"]["gain"], content["changes"]["blur"]
    assert (gain["promise_broken_at"], gain["twice_the_promise_broken_at"], gain["stated_range"]) == (40.0, 40.0, 30.0)
    assert blur["promise_broken_at"] is None
    assert gain["strengths"][4].keys() == {
        "strength", "label", "image_auroc", "detection_rate", "detection_interval", "false_alarm_rate",
        "false_alarm_interval",
    }  # fmt: skip
    assert gain["strengths"][4]["false_alarm_rate"] == 0.5
    assert (content["promise"], content["n_good"], content["n_defective"]) == (0.005, 100, 40)
    assert "3 of 100" in content["rule"]


CASES = {
    "both labels": robustness(change([0, 0, 3, 9, 100])),
    "good images only": replace(
        robustness(change([0, 0, 0, 9, 50], auroc=None, bad=0)), n_defective=0, unchanged=point(0, 0, auroc=None, bad=0)
    ),
    "no good images": replace(
        robustness(change([0] * 5, n=0, auroc=None)), n_good=0, unchanged=point(0, 0, n=0, auroc=None)
    ),
    "broken from the start": robustness(change([9] * 5), unchanged=9),
    "a change left out": replace(robustness(change([0] * 5)), left_out=("Colour cast: the images have no colour.",)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_section_shows_what_was_measured(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Charts and tables name every strength and verdict, without panels or numbers that do not exist; 80 columns hold it."""
    result = CASES[name]
    section = robustness_section(result)
    assert not re.search(r"\b(nan|inf|None)\b", section)
    assert ("defects found" in section) == (name != "good images only")
    assert ("dashed: promise" in section) == (name != "no good images")
    assert section.count("<svg") == len(result.changes)
    assert section.count('alt="A good image, changed: ±') == 2 * len(result.changes)
    expected = {
        "both labels": "promise broken at ±30 %",
        "broken from the start": "promise broken without it",
        "no good images": "no good images",
    }
    assert expected.get(name, "Gain") in section
    show_robustness(result)
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if "─" in line or "Gain" in line]
    assert rows
    assert all(len(line) <= 80 for line in rows)
    assert all(text in shown and text in section for text in result.left_out)


def test_titles_are_escaped() -> None:
    """Names of changes are text."""
    assert "<b>" not in robustness_section(robustness(change([0] * 5, title="<b>")))


def test_every_real_change_takes_one_row_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """The longest labels of the real changes fit beside each other without a second line."""
    changes = []
    for name, one in VARIATIONS.items():
        points = tuple(replace(point(strength, 9), label=one.text(strength)) for strength in one.strengths)
        changes.append(ChangeResult(name, one.title, one.unit, one.mild, one.text(one.mild), points))
    result = robustness(*changes)
    show_robustness(result)
    lines = capsys.readouterr().out.splitlines()
    for shown in result.changes:
        (row,) = [line for line in lines if line.strip().startswith(shown.title + "  ")]
        assert len(row.rstrip()) <= 80
        assert row.rstrip().endswith(shown.points[0].label)
        assert shown.mild_label in row
