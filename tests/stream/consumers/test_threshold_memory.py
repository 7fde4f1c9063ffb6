"""Thresholds set on the dashboard are restored after a restart, for the same bundle and engine only."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.stream.consumers.threshold_memory import FILE, KeptThreshold, ThresholdMemory
from edgead.stream.control import OWN_NAME
from edgead.stream.notices import ThresholdChanged

SETTINGS = {("line", "picture"): "threshold 1.0", ("line", "cap"): "the bundle's threshold"}


def changed(value: float, who: str = "Ada", zone: str = "picture", per_hour: float | None = None) -> ThresholdChanged:
    return ThresholdChanged(
        "line", 0.0, zone=zone, who=who, before=1.0, after=value, false_alarm_rate=0.01, alarms_per_hour=per_hour
    )


def test_the_last_threshold_of_each_zone_holds_for_the_next_stream(tmp_path: Path) -> None:
    """The later change wins; zones are apart; an empty folder remembers nothing."""
    memory = ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS)
    assert memory.kept == []
    for notice in (changed(2.0), changed(3.0, "Grace"), changed(9.0, zone="cap")):
        assert memory.wants(notice)
        memory.accept(notice)
    assert ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).kept == [
        KeptThreshold("line", "picture", 3.0, "Grace", None, "threshold 1.0"),
        KeptThreshold("line", "cap", 9.0, "Ada", None, "the bundle's threshold"),
    ]


def test_another_bundle_or_engine_forgets(tmp_path: Path) -> None:
    """Their scores mean something else."""
    ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).accept(changed(2.0))
    assert ThresholdMemory(tmp_path, "other", "engine", SETTINGS).kept == []
    assert ThresholdMemory(tmp_path, "bundle", "other", SETTINGS).kept == []
    assert len(ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).kept) == 1


def test_thresholds_of_another_bundle_are_set_aside_with_a_word(tmp_path: Path) -> None:
    """The start says which, for what and where; they hold again when the bundle is back, and no change in between loses them."""
    ThresholdMemory(tmp_path, "old" * 22, "onnxruntime-int8", SETTINGS).accept(changed(2.0))
    new = ThresholdMemory(tmp_path, "new" * 22, "reference", SETTINGS)
    (sentence,) = new.forgotten
    assert sentence.startswith("line, picture: the threshold 2 that Ada set on the dashboard is not used")
    assert "bundle oldoldoldold with the engine onnxruntime-int8" in sentence
    assert ".thresholds-oldoldoldold-onnxruntime-int8.json" in sentence
    new.settle()
    new.accept(changed(7.0))
    back = ThresholdMemory(tmp_path, "old" * 22, "onnxruntime-int8", SETTINGS)
    assert [one.value for one in back.kept] == [2.0]
    back.forget("line", "cap")
    assert [one.value for one in ThresholdMemory(tmp_path, "old" * 22, "onnxruntime-int8", SETTINGS).kept] == [2.0]
    assert [one.value for one in ThresholdMemory(tmp_path, "new" * 22, "reference", SETTINGS).kept] == [7.0]


def test_a_stream_that_is_refused_moves_nothing(tmp_path: Path) -> None:
    """Another process may own the folder until `settle`."""
    ThresholdMemory(tmp_path, "old", "engine", SETTINGS).accept(changed(2.0))
    before = (tmp_path / FILE).read_text()
    ThresholdMemory(tmp_path, "new", "engine", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_text() == before


def test_what_edgead_chose_later_takes_its_place(tmp_path: Path) -> None:
    """A threshold of its own, for a wish that is not this person's."""
    memory = ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS)
    memory.accept(changed(2.0))
    memory.accept(changed(2.1, OWN_NAME))
    assert ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).kept == []


def test_the_alarms_per_hour_that_a_person_asked_for_are_kept(tmp_path: Path) -> None:
    """The keeper renews the threshold in its own name, and it still is that person's wish; a fixed value ends it."""
    memory = ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS)
    memory.accept(changed(2.0, per_hour=3.0))
    memory.accept(changed(2.1, OWN_NAME, per_hour=3.0))
    wish = KeptThreshold("line", "picture", 2.1, "Ada", 3.0, "threshold 1.0")
    assert ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).kept == [wish]
    memory.accept(changed(5.0, "Grace"))
    (kept,) = ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).kept
    assert (kept.value, kept.who, kept.alarms_per_hour) == (5.0, "Grace", None)


def test_an_alarm_budget_of_the_settings_is_not_stored(tmp_path: Path) -> None:
    """Thresholds renewed for a configured alarm budget are not stored."""
    memory = ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS)
    memory.accept(changed(2.1, OWN_NAME, per_hour=3.0))
    assert memory.kept == []
    assert not (tmp_path / FILE).exists()


def test_forgotten_for_good(tmp_path: Path) -> None:
    """A forgotten threshold does not come back with the next stream."""
    memory = ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS)
    memory.accept(changed(2.0))
    memory.accept(changed(9.0, zone="cap"))
    memory.forget("line", "picture")
    assert [one.zone for one in ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).kept] == ["cap"]


def test_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    """It tells neither the settings nor a wish."""
    (tmp_path / FILE).write_text(
        '{"bundle": "bundle", "engine": "engine", "thresholds": '
        '[{"camera": "line", "zone": "picture", "value": 2.0, "who": "Ada"}]}'
    )
    assert ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).kept == [
        KeptThreshold("line", "picture", 2.0, "Ada")
    ]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"bundle": "bundle"}', '{"bundle": "bundle", "engine": "engine", "thresholds": [{}]}']
)
def test_a_damaged_file_is_forgotten(tmp_path: Path, text: str) -> None:
    """The stream starts with its own thresholds."""
    (tmp_path / FILE).write_text(text)
    assert ThresholdMemory(tmp_path, "bundle", "engine", SETTINGS).kept == []


def test_a_folder_that_takes_nothing_ends_no_stream(tmp_path: Path) -> None:
    """The threshold holds for now, and the log says so."""
    (tmp_path / "file").write_text("")
    memory = ThresholdMemory(tmp_path / "file", "bundle", "engine", SETTINGS)
    memory.accept(changed(2.0))
    assert len(memory.kept) == 1
