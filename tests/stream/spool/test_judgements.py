"""Judgements of alerts: stored with the record, told to sinks, and never overwritten unnoticed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from edgead.stream.spool.archive import open_archive
from edgead.stream.spool.database import _SCHEMA, DATABASE
from edgead.stream.spool.judgements import AlertGoneError, JudgedBeforeError, Opinion

from .builders import alert_id, closed, opened, spool, stored

DUST = Opinion("false-alarm", "Ada", "dust", "lens cleaned")


def test_a_judgement_is_in_the_record_its_file_and_an_event(tmp_path: Path) -> None:
    """Who, when, kind and note; acknowledging stays what it was."""
    with spool(tmp_path) as target:
        target.append(opened(1))
        target.append(closed(1))
        assert target.judge(alert_id(1), DUST).judgement == "false-alarm"
        found = stored(target, 1)
        assert json.loads((tmp_path / f"{alert_id(1)}.json").read_text()) == found
        told = target.events()[-1]
        assert (told.kind, told.payload["alert"]) == ("alert_judged", found)
        assert told.payload["values"] == {
            "who": "Ada", "judgement": "false-alarm", "kind": "dust", "instead_of": None,
        }  # fmt: skip
    assert (found["judged_by"], found["judgement_kind"], found["judgement_note"]) == ("Ada", "dust", "lens cleaned")
    assert (found["n_judgements"], found["judged_at"] is None) == (1, False)
    assert (found["state"], found["acknowledged_at"]) == ("closed", None)


def test_the_second_of_two_people_sees_the_judgement_of_the_first(tmp_path: Path) -> None:
    """Nothing is overwritten unnoticed: not beside the stream, and not after it was replaced twice."""
    with spool(tmp_path) as target:
        target.append(opened(1))
        archive, database = open_archive(tmp_path)
        archive.judge(alert_id(1), Opinion("defect", "Bob", "scratch"))
        with pytest.raises(JudgedBeforeError, match=r"already judged defect \(scratch\) by Bob at ") as caught:
            target.judge(alert_id(1), DUST)
        assert target.judge(alert_id(1), DUST, instead_of=caught.value.record.n_judgements).judged_by == "Ada"
        with pytest.raises(JudgedBeforeError, match=r"false-alarm .* by Ada"):
            archive.judge(alert_id(1), Opinion("unsure", "Bob"), instead_of=1)
        assert archive.judge(alert_id(1), Opinion("unsure", "Bob"), instead_of=None).n_judgements == 3
        database.close()
        assert target.events()[-1].payload["values"]["instead_of"] == "false-alarm"


def test_repeating_ones_own_judgement_changes_nothing(tmp_path: Path) -> None:
    """A request that is sent again after a lost answer is no conflict and no second event."""
    with spool(tmp_path) as target:
        target.append(opened(1))
        first = target.judge(alert_id(1), DUST)
        assert target.judge(alert_id(1), DUST) == first
        assert [event.kind for event in target.events()] == ["alert_opened", "alert_judged"]
        with pytest.raises(AlertGoneError, match=r"no alert 'gone'"):
            target.judge("gone", DUST)


def test_lists_and_counts_by_judgement(tmp_path: Path) -> None:
    """Those to review, those judged, and one judgement alone; also while the disk takes nothing."""
    with spool(tmp_path) as target:
        for number in range(4):
            target.append(opened(number))
        target.judge(alert_id(0), DUST)
        target.judge(alert_id(2), Opinion("defect", "Bob"))

        def ids(judgement: str) -> list[str]:
            return [record.id for record in target.alerts(judgement=judgement)]

        assert ids("unjudged") == [alert_id(3), alert_id(1)]
        assert ids("judged") == [alert_id(2), alert_id(0)]
        assert ids("false-alarm") == [alert_id(0)]
        assert target.judgements() == {
            ("line 1", None): 2, ("line 1", "defect"): 1, ("line 1", "false-alarm"): 1,
        }  # fmt: skip
        with pytest.raises(ValueError, match="judgement must be one of"):
            target.alerts(judgement="dust")
        other = sqlite3.connect(tmp_path / DATABASE)
        other.execute("CREATE TRIGGER full BEFORE UPDATE ON alerts BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        assert target.judge(alert_id(3), DUST).judgement == "false-alarm"
        assert ids("unjudged") == [alert_id(1)]
        assert ids("false-alarm") == [alert_id(3), alert_id(0)]
        other.execute("DROP TRIGGER full")
        other.close()
        target.maintain()
        assert stored(target, 3)["judged_by"] == "Ada"


def test_a_database_from_before_judgements_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its alerts are there and can be judged."""
    with spool(tmp_path) as target:
        target.append(opened(1))
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("DROP INDEX alerts_judgement")
    connection.execute("ALTER TABLE alerts DROP COLUMN judgement")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with spool(tmp_path) as target:
        assert [record.id for record in target.alerts(judgement="unjudged")] == [alert_id(1)]
        assert target.judge(alert_id(1), DUST).judged_by == "Ada"
    connection = sqlite3.connect(tmp_path / DATABASE)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(_SCHEMA),)
    connection.close()
