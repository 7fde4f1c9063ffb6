"""What somebody set on the dashboard still holds after a restart, and for nothing but what it was set for."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.stream.alarm_keeper import OWN_NAME
from edgead.stream.result import Notice
from edgead.stream.sinks.threshold_memory import FILE, KeptThreshold, ThresholdMemory


def changed(value: float, who: str = "Ada", zone: str = "picture") -> Notice:
    values = (("zone", zone), ("who", who), ("from", 1.0), ("to", value), ("false_alarm_rate", 0.01))
    return Notice("line", "threshold_changed", "", 0.0, values=values)


def test_the_last_threshold_of_each_zone_holds_for_the_next_stream(tmp_path: Path) -> None:
    """The later change wins; zones are apart; an empty folder remembers nothing."""
    memory = ThresholdMemory(tmp_path, "bundle", "engine")
    assert memory.kept == []
    for notice in (changed(2.0), changed(3.0, "Grace"), changed(9.0, zone="cap")):
        assert memory.wants(notice)
        memory.accept(notice)
    assert ThresholdMemory(tmp_path, "bundle", "engine").kept == [
        KeptThreshold("line", "picture", 3.0, "Grace"), KeptThreshold("line", "cap", 9.0, "Ada")
    ]  # fmt: skip


def test_another_bundle_or_engine_forgets(tmp_path: Path) -> None:
    """Their scores mean something else."""
    ThresholdMemory(tmp_path, "bundle", "engine").accept(changed(2.0))
    assert ThresholdMemory(tmp_path, "other", "engine").kept == []
    assert ThresholdMemory(tmp_path, "bundle", "other").kept == []
    assert len(ThresholdMemory(tmp_path, "bundle", "engine").kept) == 1


def test_what_edgead_chose_later_takes_its_place(tmp_path: Path) -> None:
    """A promise of alarms per hour that goes on moves the threshold by itself."""
    memory = ThresholdMemory(tmp_path, "bundle", "engine")
    memory.accept(changed(2.0))
    memory.accept(changed(2.1, OWN_NAME))
    assert ThresholdMemory(tmp_path, "bundle", "engine").kept == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"bundle": "bundle"}', '{"bundle": "bundle", "engine": "engine", "thresholds": [{}]}']
)
def test_a_damaged_file_is_forgotten(tmp_path: Path, text: str) -> None:
    """The stream starts with its own thresholds."""
    (tmp_path / FILE).write_text(text)
    assert ThresholdMemory(tmp_path, "bundle", "engine").kept == []


def test_a_folder_that_takes_nothing_ends_no_stream(tmp_path: Path) -> None:
    """The threshold holds for now, and the log says so."""
    (tmp_path / "file").write_text("")
    memory = ThresholdMemory(tmp_path / "file", "bundle", "engine")
    memory.accept(changed(2.0))
    assert len(memory.kept) == 1
