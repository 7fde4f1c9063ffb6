"""The one rule for a zone's threshold: the order of the settings, the dashboard before them, budgets that are shared."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from edgead.config.root import Config
from edgead.config.stream import CameraConfig, ZoneConfig
from edgead.line.alarm_budget import alarm_budget
from edgead.line.threshold_choice import (
    LineThresholds,
    ThresholdChoice,
    resolve_threshold,
    resolve_thresholds,
)
from edgead.stream.consumers.threshold_memory import KeptThreshold

BUNDLE = ThresholdChoice("threshold", None, "bundle")
# every place where a threshold can be said, strongest first, with a value that names it
ORDER: list[tuple[str, ThresholdChoice]] = [
    ("zone per hour", ThresholdChoice("false_alarms_per_hour", 1.0, "zone")),
    ("zone threshold", ThresholdChoice("threshold", 2.0, "zone")),
    ("camera threshold", ThresholdChoice("threshold", 3.0, "camera")),
    ("zone rate", ThresholdChoice("false_alarm_rate", 0.04, "zone")),
    ("camera rate", ThresholdChoice("false_alarm_rate", 0.05, "camera")),
    ("camera per hour", ThresholdChoice("false_alarms_per_hour", 6.0, "camera")),
    ("line per hour", ThresholdChoice("false_alarms_per_hour", 7.0, "line")),
    ("line rate", ThresholdChoice("false_alarm_rate", 0.08, "line")),
]
NAMES = [name for name, _ in ORDER]
COMBINATIONS = [set(names) for n in range(len(NAMES) + 1) for names in combinations(NAMES, n)]


def said(names: set[str]) -> tuple[ZoneConfig, CameraConfig, LineThresholds]:
    """Settings that say something at these places and nowhere else."""
    values: dict[str, Any] = {name: choice.value for name, choice in ORDER if name in names}
    zone: dict[str, Any] = {"name": "left", "threshold": values.get("zone threshold")}
    camera: dict[str, Any] = {"name": "line", "source": "synthetic", "threshold": values.get("camera threshold")}
    zone["false_alarm_rate"], camera["false_alarm_rate"] = values.get("zone rate"), values.get("camera rate")
    for of, section in (("zone", zone), ("camera", camera)):
        if f"{of} per hour" in values:
            section["alerts"] = {"false_alarms_per_hour": values[f"{of} per hour"]}
    camera["zones"] = [zone]
    made = CameraConfig.model_validate(camera)
    return made.zones[0], made, LineThresholds(values.get("line per hour"), values.get("line rate"))


@pytest.mark.parametrize("names", COMBINATIONS, ids=lambda names: ", ".join(sorted(names)) or "nothing")
def test_the_first_of_the_order_decides(names: set[str]) -> None:
    """Whatever else is said, the strongest setting decides; without any, the bundle."""
    expected = next((choice for name, choice in ORDER if name in names), BUNDLE)
    assert resolve_threshold(*said(names)) == expected


@pytest.mark.parametrize("names", COMBINATIONS, ids=lambda names: ", ".join(sorted(names)) or "nothing")
def test_without_budgets_the_others_keep_their_order(names: set[str]) -> None:
    """Until its frame rate is known, a stream uses the strongest setting that is no alarm budget."""
    expected = next((choice for name, choice in ORDER if name in names and "hour" not in name), BUNDLE)
    assert resolve_threshold(*said(names), with_budgets=False) == expected


@pytest.mark.parametrize(
    "names", [set(), {"camera threshold"}, {"line per hour", "line rate"}], ids=["none", "camera", "line"]
)
@pytest.mark.parametrize("per_hour", [None, 3.0])
def test_the_dashboard_comes_before_unchanged_settings(names: set[str], per_hour: float | None) -> None:
    """A kept value decides while the settings say what they said then, or a file of before does not tell."""
    now = resolve_threshold(*said(names))
    for then in (None, str(now)):
        kept = KeptThreshold("line", "left", 0.7, "Ada", per_hour, then)
        chosen = resolve_threshold(*said(names), kept=kept)
        assert chosen == ThresholdChoice("threshold", 0.7, "dashboard", per_hour)
    changed = KeptThreshold("line", "left", 0.7, "Ada", per_hour, "threshold 9.0")
    assert resolve_threshold(*said(names), kept=changed) == now


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (BUNDLE, "the bundle's threshold"),
        (ThresholdChoice("threshold", 4, "zone"), "threshold 4.0"),
        (ThresholdChoice("false_alarm_rate", 0.1, "line"), "false_alarm_rate 0.1"),
    ],
)
def test_a_choice_in_words(choice: ThresholdChoice, text: str) -> None:
    """The words are kept in a file beside a threshold of the dashboard, so they never change."""
    assert str(choice) == text


def test_budgets_are_shared_by_the_zones_they_are_said_for() -> None:
    """A zone's own budget is its own; a camera's is shared by its zones without a setting, the line's by all the others."""
    zones = [{"name": name, "include": [[[0, 0], [1, 0], [1, 1]]]} for name in ("a", "b", "c")]
    zones[0]["alerts"] = {"false_alarms_per_hour": 5}  # type: ignore[assignment]
    cameras = [
        CameraConfig.model_validate(values)
        for values in (
            {"name": "one", "source": "synthetic", "zones": zones, "alerts": {"false_alarms_per_hour": 1}},
            {"name": "two", "source": "synthetic", "zones": zones[1:]},
            {"name": "three", "source": "synthetic", "false_alarm_rate": 0.1},
            {"name": "four", "source": "synthetic"},
        )
    ]
    config = Config.model_validate({"alerts": {"false_alarms_per_hour": 30}})
    budget = alarm_budget(resolve_thresholds(cameras, config, false_alarm_rate=0.01, per_hour=6))
    assert budget == {
        ("one", "a"): 5.0, ("one", "b"): 0.5, ("one", "c"): 0.5,
        ("two", "b"): 2.0, ("two", "c"): 2.0, ("four", "picture"): 2.0,
    }  # fmt: skip
    of_settings = alarm_budget(resolve_thresholds(cameras[3:], config, false_alarm_rate=None, per_hour=None))
    assert of_settings == {("four", "picture"): 30.0}
    assert alarm_budget(resolve_thresholds(cameras[2:3], config, false_alarm_rate=None, per_hour=6)) == {}
