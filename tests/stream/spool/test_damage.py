"""Damage to single rows, tables or the version number of a spool costs what is damaged, and nothing else."""

from __future__ import annotations

import json
import logging
import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgead.cli import app
from edgead.commands.alerts import export_alerts, list_alerts, show_alert
from edgead.errors import EdgeadError, StorageError
from edgead.stream.spool.database import DATABASE
from edgead.stream.spool.judgements import Opinion
from edgead.stream.spool.repair import DAMAGED

from .builders import alert_id, closed, opened, plain_event, spool, stored

TABLES = ("alerts", "events", "evidence", "acknowledgements", "meta", "sinks", "dead_letters")


def change(folder: Path, *statements: str) -> None:
    """Change the database as another program would."""
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool of three closed alerts with their files."""
    with spool(tmp_path) as target:
        for number in (1, 2, 3):
            target.append(opened(number))
            target.append(closed(number))
    return tmp_path


RECORD_DAMAGE = {
    "flipped brace": "UPDATE alerts SET record = '[' || substr(record, 2) WHERE id = '{id}'",
    "cut": "UPDATE alerts SET record = substr(record, 1, 40) WHERE id = '{id}'",
    "no text": "UPDATE alerts SET record = CAST(x'ff00fe' AS TEXT) WHERE id = '{id}'",
    "other id": "UPDATE alerts SET record = replace(record, '\"id\":\"2026', '\"id\":\"3026') WHERE id = '{id}'",
    "a list": "UPDATE alerts SET record = '[]' WHERE id = '{id}'",
}


@pytest.mark.parametrize("damage", RECORD_DAMAGE)
def test_a_damaged_record_is_read_from_its_file(damage: str, folder: Path) -> None:
    """The list shows all alerts, and the damaged one as it was; the next stream repairs the row."""
    before = list_alerts(folder)
    change(folder, RECORD_DAMAGE[damage].format(id=alert_id(2)))
    assert list_alerts(folder) == before
    assert show_alert(folder, alert_id(2))["state"] == "closed"
    assert CliRunner().invoke(app, ["alerts", "list", "--alerts", str(folder)]).exit_code == 0
    lines: list[str] = []
    export_alerts(list_alerts(folder), lines.append)
    assert len(lines) == 3
    with spool(folder) as target:
        assert stored(target, 2) == before[1]
    assert list_alerts(folder) == before


def test_without_its_file_an_alert_keeps_what_its_row_says(folder: Path) -> None:
    """Id, time, state and camera, and a note that the record was damaged."""
    (folder / f"{alert_id(2)}.json").unlink()
    change(folder, RECORD_DAMAGE["cut"].format(id=alert_id(2)))
    found = list_alerts(folder)[1]
    assert (found["id"], found["state"], found["camera"]) == (alert_id(2), "closed", "line 1")
    assert found["opened_at"] == "2026-11-23T02:15:00.000Z"
    assert "was damaged" in found["note"]
    with spool(folder) as target:
        assert stored(target, 2) == found
    assert json.loads((folder / f"{alert_id(2)}.json").read_text()) == found


def test_a_damaged_event_does_not_hold_up_the_others(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Sinks get the events behind it; the next stream keeps the damaged one among the dead letters and says so."""
    change(folder, "UPDATE events SET content = 'x' || content WHERE sequence IN (2, 3)")
    with caplog.at_level(logging.ERROR), spool(folder) as target:
        assert [event.sequence for event in target.events()] == [1, 4, 5, 6]
        letters = target.cursors.dead_letters(DAMAGED)
        assert [letter["sequence"] for letter in letters] == [2, 3]
    assert "2 damaged events cannot be delivered" in caplog.text


def test_a_page_of_damaged_events_alone_is_passed_over(folder: Path) -> None:
    """Damage while the stream runs: reading goes on behind it."""
    with spool(folder) as target:
        change(folder, "UPDATE events SET content = 'x' WHERE sequence < 6")
        assert [event.sequence for event in target.events(after=0, limit=2)] == [6]


@pytest.mark.parametrize("table", TABLES)
def test_a_dropped_table_costs_no_alert(table: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The database is moved aside, and the alerts come back from their files; until then `list` reads the files."""
    before = list_alerts(folder)
    change(folder, f"DROP TABLE {table}")
    assert list_alerts(folder) == before
    with caplog.at_level(logging.ERROR), spool(folder) as target:
        assert [alert.as_json() for alert in target.alerts()] == before
        assert target.append(opened(4)) > 0
    assert f"its table {table} is missing" in caplog.text
    assert len(list_alerts(folder)) == 4


def test_a_dropped_column_is_found(folder: Path) -> None:
    """As a dropped table is."""
    change(folder, "ALTER TABLE events DROP COLUMN stored_s")
    with spool(folder) as target:
        assert target.append(plain_event()) > 0
        assert len(target.alerts()) == 3


def test_a_table_dropped_while_a_stream_runs_ends_it_with_an_error(folder: Path) -> None:
    """The alert of that time is written as a file, the end of the spool fails, and the next stream imports the alert."""

    def stream() -> None:
        with spool(folder) as target:
            change(folder, "DROP TABLE events")
            assert target.append(opened(4)) == 0

    with pytest.raises(StorageError, match="records of 1 alerts were written as files") as caught:
        stream()
    assert caught.value.exit_code == 1
    with spool(folder) as target:
        assert [alert.id for alert in target.alerts()] == [alert_id(number) for number in (4, 3, 2, 1)]


@pytest.mark.parametrize("version", [0, 1, 3, 17, 1025, -2147483647])
def test_a_flipped_version_number_is_corrected(version: int, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The tables say which schema it is: nothing is moved, refused or lost."""
    with spool(folder) as target:
        device = target.device
    change(folder, f"PRAGMA user_version = {version}")
    assert len(list_alerts(folder)) == 3
    change(folder, f"PRAGMA user_version = {version}")
    with caplog.at_level(logging.WARNING), spool(folder) as target:
        assert (target.device, len(target.alerts())) == (device, 3)
    assert "its header was damaged" in caplog.text
    assert not list(folder.glob(f"{DATABASE}.damaged-*"))


def test_files_without_a_row_are_imported(folder: Path) -> None:
    """The index is made from the files, also into a database that has other alerts."""
    change(folder, f"DELETE FROM alerts WHERE id = '{alert_id(2)}'")
    with spool(folder) as target:
        assert len(target.alerts()) == 3


@pytest.mark.parametrize(
    ("column", "value"), [("state", "opfn"), ("camera", "mine 1"), ("id", "2026112?T021500Z-000002")]
)
def test_columns_are_made_to_agree_with_the_record(column: str, value: str, folder: Path) -> None:
    """A flipped bit in a column hides no alert."""
    before = list_alerts(folder)
    change(folder, f"UPDATE alerts SET {column} = '{value}' WHERE id = '{alert_id(2)}'")
    assert len(list_alerts(folder)) == 3
    with spool(folder) as target:
        assert {alert.id for alert in target.alerts(state="closed", camera="line 1")} == {
            alert_id(number) for number in (1, 2, 3)
        }
    assert list_alerts(folder) == before


def test_the_judgement_column_is_made_to_agree_with_the_record(folder: Path) -> None:
    """Where only the column is damaged, and where the record is and comes back from its file: filters follow the records."""
    with spool(folder) as target:
        for number in (2, 3):
            target.judge(alert_id(number), Opinion("defect", "Ada"))
    change(
        folder,
        "UPDATE alerts SET judgement = NULL",
        f"UPDATE alerts SET judgement = 'unsure' WHERE id = '{alert_id(1)}'",
        RECORD_DAMAGE["cut"].format(id=alert_id(3)),
    )
    with spool(folder) as target:
        assert [alert.id for alert in target.alerts(judgement="defect")] == [alert_id(3), alert_id(2)]
        assert target.judgements() == {("line 1", None): 1, ("line 1", "defect"): 2}


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_anywhere_never_cost_an_alert_or_a_crash(seed: int, folder: Path) -> None:
    """Whatever byte of the database it is: commands list or say an error for the user, and the stream starts with all alerts."""
    draw = random.Random(seed)
    content = bytearray((folder / DATABASE).read_bytes())
    for _ in range(draw.randrange(1, 20)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    (folder / DATABASE).write_bytes(content)
    for companion in ("-wal", "-shm"):
        (folder / f"{DATABASE}{companion}").unlink(missing_ok=True)
    with suppress(EdgeadError):
        assert len(list_alerts(folder)) >= 3
    with spool(folder) as target:
        assert {alert_id(number) for number in (1, 2, 3)} <= {alert.id for alert in target.alerts()}
        assert target.append(opened(5)) > 0
