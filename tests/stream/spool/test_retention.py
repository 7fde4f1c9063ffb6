"""Disk use is bounded: the oldest images and clips are removed first, records stay, and clock changes expire nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgead.stream.spool.age import DAY_S
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.spool import Spool

from .builders import Clock, alert_id, closed, options, plain_event, with_picture

YEAR_S = 365 * DAY_S


def timed(folder: Path, clock: Clock, **changes: Any) -> Spool:
    return Spool(folder, options(**changes), wall=clock.wall, monotonic=clock.monotonic)


def kept(target: Spool) -> list[int]:
    return [int(alert.id[-6:], 16) for alert in reversed(target.alerts()) if "snapshot" in alert.pictures]


def test_evidence_goes_for_space_oldest_first(tmp_path: Path) -> None:
    """The oldest images of closed alerts are removed until the rest fits; their records stay and say so."""
    with timed(tmp_path, Clock(), evidence_mb=0.0035) as target:
        for number in range(1, 7):
            with_picture(target, number)
            if number != 2:
                target.append(closed(number))
        target.maintain()
        assert kept(target) == [2, 5, 6]
        gone = target.alert(alert_id(1))
        assert gone is not None
        assert (gone.pictures, gone.pictures_missing) == ({}, {"snapshot": "retention"})
        assert json.loads((tmp_path / f"{alert_id(1)}.json").read_text()) == gone.as_json()
        assert len(target.alerts()) == 6
        assert len(list(tmp_path.glob("*.jpg"))) == 3
        n_events = len(target.events())
        target.maintain()
        assert (kept(target), len(target.events())) == ([2, 5, 6], n_events)


def test_what_a_sink_has_not_got_goes_last(tmp_path: Path) -> None:
    """The space limit removes images of delivered alerts first, the age limit only images of delivered alerts."""
    clock = Clock()
    with timed(tmp_path, clock, evidence_mb=0.0035, evidence_days=1.0) as target:
        for number in range(1, 4):
            with_picture(target, number)
            target.append(closed(number))
        target.begin("slow", from_beginning=True)
        target.cursors.advance("slow", 2)
        clock.pass_s(2 * DAY_S)
        target.maintain()
        assert kept(target) == [2, 3]
        for number in range(4, 6):
            with_picture(target, number)
            target.append(closed(number))
        target.maintain()
        assert kept(target) == [3, 4, 5]
        target.cursors.advance("slow", 100)
        target.maintain()
        assert kept(target) == [4, 5]


def test_files_that_alerts_share_go_together(tmp_path: Path) -> None:
    """An image shared by two alerts counts once and is removed only when both are closed."""
    with timed(tmp_path, Clock(), evidence_mb=0.0015) as target:
        with_picture(target, 1)
        name = f"{alert_id(1)}-snapshot.jpg"
        target.update(AlertRecord(id=alert_id(1)))
        with_picture(target, 2, 10)
        target.update(AlertRecord(id=alert_id(2), pictures={"heatmap": name}))
        target.append(closed(1))
        target.maintain()
        assert target.media(alert_id(1), "snapshot") is not None, "1010 bytes are within the limit"
        with_picture(target, 3)
        target.maintain()
        assert target.media(alert_id(2), "heatmap") is not None, "alert 2 is open"
        target.append(closed(2))
        target.maintain()
        assert not (tmp_path / name).exists()
        for number, kind in ((1, "snapshot"), (2, "heatmap")):
            found = target.alert(alert_id(number))
            assert found is not None
            assert found.pictures_missing == {kind: "retention"}


def test_evidence_and_events_go_for_their_age(tmp_path: Path) -> None:
    """After their days; records stay, and undelivered events too."""
    clock = Clock()
    with timed(tmp_path, clock, evidence_days=10.0, event_days=5.0) as target:
        target.begin("sink", from_beginning=True)
        with_picture(target, 1)
        target.append(closed(1))
        target.append(plain_event())
        target.cursors.advance("sink", 2)
        clock.pass_s(6 * DAY_S)
        target.maintain()
        assert [event.sequence for event in target.events()] == [3], "the third is not delivered yet"
        assert kept(target) == [1]
        clock.pass_s(5 * DAY_S)
        target.maintain()
        assert kept(target) == []
        assert target.alert(alert_id(1)) is not None
        target.cursors.advance("sink", 3)
        target.maintain()
        assert target.events() == []
        assert target.append(plain_event()) == 4, "numbers are never used again"


def test_a_sink_that_comes_back_after_long(tmp_path: Path) -> None:
    """A sink whose pending events have expired waits for new ones and gets those."""
    clock = Clock()
    with timed(tmp_path, clock, event_days=1.0) as target:
        target.begin("sink", from_beginning=True)
        target.append(plain_event())
        target.append(plain_event())
    with timed(tmp_path, clock, event_days=1.0) as target:
        clock.pass_s(2 * DAY_S)
        target.maintain()
        assert target.events() == []
    with timed(tmp_path, clock) as target:
        cursor = target.begin("sink", from_beginning=True)
        assert cursor == 0
        assert not target.wait_for_events(cursor, 0.01)
        assert target.append(plain_event()) == 3
        assert target.wait_for_events(cursor, 0.01)


def test_records_go_only_when_told_so(tmp_path: Path) -> None:
    """With `record_days`, closed alerts without images and clips are removed with their files."""
    clock = Clock()
    with timed(tmp_path, clock, evidence_days=10.0, record_days=20.0) as target:
        for number in (1, 2):
            with_picture(target, number)
        target.append(closed(1))
        last = target.last_sequence()
        clock.pass_s(21 * DAY_S)
        target.maintain()
        target.maintain()
        assert target.last_sequence() >= last
        assert [alert.id for alert in target.alerts()] == [alert_id(2)]
        assert not (tmp_path / f"{alert_id(1)}.json").exists()


@pytest.mark.parametrize("jump_s", [30 * YEAR_S, -30 * YEAR_S])
def test_a_wrong_clock_removes_nothing(tmp_path: Path, jump_s: float) -> None:
    """The clock jumps by years while the stream runs, and again over a restart: everything is still there."""
    clock = Clock()
    limits = {"evidence_days": 10.0, "event_days": 10.0, "record_days": 10.0}
    with timed(tmp_path, clock, **limits) as target:
        with_picture(target, 1)
        target.append(closed(1))
        clock.wall_s += jump_s
        target.maintain()
        assert kept(target) == [1]
    clock.wall_s -= jump_s
    with timed(tmp_path, clock, **limits) as target:
        target.maintain()
        assert kept(target) == [1]
        assert len(target.events()) == 2
    clock.wall_s += jump_s
    with timed(tmp_path, clock, **limits) as target:
        target.maintain()
        assert kept(target) == [1]
        clock.pass_s(11 * DAY_S)
        target.maintain()
        assert kept(target) == [], "time that does pass still counts"
