"""Thresholds set on the dashboard persist in later streams until the settings change."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.config.root import Config
from edgead.config.stream import CameraConfig
from edgead.line.kept_thresholds import restore_thresholds
from edgead.line.threshold_choice import ThresholdChoice, resolve_thresholds
from edgead.stream.alarms.alarm_keeper import AlarmKeeper
from edgead.stream.camera import Camera
from edgead.stream.consumers.threshold_memory import Place, ThresholdMemory
from edgead.stream.control import OWN_NAME, Control, SetThreshold
from edgead.stream.notices import ThresholdChanged
from edgead.stream.pipeline import run_stream
from edgead.stream.zone_monitor import ZoneMonitor
from tests.notes import Notes

from ..stream.fakes import GOOD, OPTIONS, SCALE, THRESHOLD, CollectingConsumer, ListSource, camera, scorer, watch

SCORES = tuple((0.02 * np.random.default_rng(3).gumbel(size=300)).tolist())
PLACE = ("line", "picture")


def one_camera() -> Camera:
    zone = watch()
    fresh = ZoneMonitor(zone.shape, (2, 2), SCORES, zone.threshold, zone._options)
    return camera(ListSource([GOOD] * 900, fps=5.0), fresh)


def said(
    config: dict[str, Any] | None = None, rate: float | None = None, **changes: Any
) -> dict[Place, ThresholdChoice]:
    settings = Config.model_validate(config or {})
    cameras = [CameraConfig.model_validate({"name": "line", "source": "synthetic", **changes})]
    return resolve_thresholds(cameras, settings, false_alarm_rate=rate, per_hour=None)


def texts(choices: dict[Place, ThresholdChoice]) -> dict[Place, str]:
    return {place: str(choice) for place, choice in choices.items()}


def changed(value: float, per_hour: float | None = None, place: tuple[str, str] = PLACE) -> ThresholdChanged:
    return ThresholdChanged(
        place[0],
        0.0,
        zone=place[1],
        who="Ada",
        before=1.0,
        after=value,
        false_alarm_rate=0.01,
        alarms_per_hour=per_hour,
    )


def restart(
    folder: Path, settings: dict[Place, ThresholdChoice]
) -> tuple[Camera, dict[tuple[str, str], float], list[str], ThresholdMemory]:
    """The camera, the budget, the notes and the memory of the next stream; its settings allow one alarm per hour."""
    memory = ThresholdMemory(folder, "bundle", "engine", texts(settings))
    one, notes, budget = one_camera(), Notes(), {PLACE: 1.0}
    restore_thresholds(memory, settings, [one], {"line": SCALE}, budget, notes)
    return one, budget, notes.texts, memory


def test_alarms_per_hour_go_on_after_a_restart(tmp_path: Path) -> None:
    """Set by a person, renewed by edgead at the stream's own frame rate, and kept on by the next stream."""
    control, consumer, settings, one = Control(), CollectingConsumer(), said(), one_camera()
    keeper = AlarmKeeper([one], control, assumed_fps=25.0, per_hour={}, basis="images")
    memory = ThresholdMemory(tmp_path, "bundle", "engine", texts(settings))
    promise = keeper.promise(*PLACE, 3.0)
    assert promise is not None
    control.put(SetThreshold(*PLACE, None, None, "Ada", record=promise.threshold, alarms_per_hour=3.0))
    run_stream(
        [one], scorer(), [keeper, memory, consumer], OPTIONS, stop=threading.Event(), control=control
    )  # fmt: skip
    changes = [notice for notice in consumer.notices if isinstance(notice, ThresholdChanged)]
    assert [change.who for change in changes][:2] == ["Ada", OWN_NAME]
    assert {change.alarms_per_hour for change in changes} == {3.0}
    again, budget, notes, _ = restart(tmp_path, settings)
    assert again.zones[0].threshold.value == changes[-1].after != promise.threshold.value
    assert budget == {PLACE: 3.0}
    assert "3 false alarms per hour still holds" in notes[0]
    next_keeper = AlarmKeeper([again], Control(), assumed_fps=25.0, per_hour=budget, basis="images")
    known = next_keeper.alarms(*PLACE)
    assert known is not None
    assert known.wanted_per_hour == 3.0


def test_a_fixed_value_goes_on_after_a_restart(tmp_path: Path) -> None:
    """It comes before the settings and their budget; a camera that is not there now keeps its own for later."""
    settings = said(threshold=0.4)
    memory = ThresholdMemory(tmp_path, "bundle", "engine", texts(settings))
    memory.accept(changed(0.3))
    memory.accept(changed(0.3, place=("elsewhere", "picture")))
    one, budget, notes, memory = restart(tmp_path, settings)
    assert (one.zones[0].threshold.value, budget) == (0.3, {})
    assert notes == [
        "line, picture: the threshold 0.3 that Ada set still holds.",
        "elsewhere, picture: the threshold 0.3 that Ada set is not used: there is no such camera and zone now.",
    ]
    assert len(memory.kept) == 2


def test_settings_that_were_changed_since_win(tmp_path: Path) -> None:
    """The note says so, and what was set does not come back when the settings do."""
    old, new = said(threshold=0.4), said(threshold=0.35)
    for per_hour in (None, 3.0):
        ThresholdMemory(tmp_path, "bundle", "engine", texts(old)).accept(changed(0.3, per_hour))
        one, budget, (note,), _ = restart(tmp_path, new)
        assert (one.zones[0].threshold.value, budget) == (THRESHOLD, {PLACE: 1.0})
        assert note.endswith("no longer holds: the setting was threshold 0.4 then and is threshold 0.35 now.")
        assert restart(tmp_path, old)[0].zones[0].threshold.value == THRESHOLD


def test_a_threshold_that_cannot_be_meant_is_not_restored(tmp_path: Path) -> None:
    """An earlier version granted it: the zone is switched on again, and the note says why."""
    ThresholdMemory(tmp_path, "bundle", "engine", texts(said())).accept(changed(1e300))
    one, budget, (note,), memory = restart(tmp_path, said())
    assert (one.zones[0].threshold.value, budget, memory.kept) == (THRESHOLD, {PLACE: 1.0}, [])
    assert "no longer holds. With a threshold of 1e+300 nothing could alarm" in note


@pytest.mark.parametrize(
    ("config", "rate", "changes", "expected"),
    [
        ({}, None, {}, "the bundle's threshold"),
        ({}, 0.02, {}, "false_alarm_rate 0.02"),
        ({"alerts": {"false_alarms_per_hour": 2}}, 0.02, {}, "false_alarms_per_hour 2.0"),
        ({"alerts": {"false_alarms_per_hour": 2}}, None, {"alerts": {"false_alarms_per_hour": 1}},
         "false_alarms_per_hour 1.0"),
        ({"alerts": {"false_alarms_per_hour": 2}}, None, {"false_alarm_rate": 0.1}, "false_alarm_rate 0.1"),
        ({"alerts": {"false_alarms_per_hour": 2}}, None, {"threshold": 4, "false_alarm_rate": 0.1}, "threshold 4.0"),
        ({}, None, {"threshold": 4, "zones": [{"name": "picture", "threshold": 0}]}, "threshold 0.0"),
        ({}, None, {"threshold": 4, "zones": [{"name": "picture", "alerts": {"false_alarms_per_hour": 5}}]},
         "false_alarms_per_hour 5.0"),
    ],
)  # fmt: skip
def test_the_setting_that_decides(
    config: dict[str, Any], rate: float | None, changes: dict[str, Any], expected: str
) -> None:
    """One that others come before makes no difference."""
    assert texts(said(config, rate, **changes)) == {PLACE: expected}
