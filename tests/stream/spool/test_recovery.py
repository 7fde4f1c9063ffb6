"""Repair at the next opening after a kill, a power cut or a damaged file."""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edgead.errors import StorageError
from edgead.stream.spool.database import DATABASE
from edgead.stream.spool.spool import Spool

from .builders import AT, alert_id, closed, opened, options, plain_event, record, spool, stored, with_picture

ROOT = Path(__file__).parents[3]


def copy_of(folder: Path, target: Path) -> Path:
    """The folder as a kill would leave it: what is on disk now, without the end of the process."""
    shutil.copytree(folder, target)
    return target


def test_alerts_of_a_dead_process_end(tmp_path: Path) -> None:
    """Open alerts close as interrupted, unacknowledged latched ones are held, closed ones stay unchanged."""
    with spool(tmp_path / "a") as target:
        target.append(opened(1))
        target.append(opened(2, latched=True))
        target.append(opened(3, latched=True))
        target.acknowledge(alert_id(3), "Ada")
        target.append(opened(4))
        target.append(closed(4))
        n_events = len(target.events())
        folder = copy_of(tmp_path / "a", tmp_path / "b")
    with spool(folder) as target:
        states = {alert.id: (alert.state, alert.ended_by) for alert in target.alerts()}
        assert states == {
            alert_id(1): ("closed", "interrupted"),
            alert_id(2): ("held", None),
            alert_id(3): ("closed", "interrupted"),
            alert_id(4): ("closed", "quiet"),
        }
        assert [alert.id for alert in target.held_alerts()] == [alert_id(2)]
        told = [(event.kind, event.alert_id) for event in target.events(after=n_events)]
        assert told == [("alert_closed", alert_id(1)), ("alert_held", alert_id(2)), ("alert_closed", alert_id(3))]
        on_disk = json.loads((folder / f"{alert_id(1)}.json").read_text())
        assert on_disk == stored(target, 1)
        assert on_disk["closed_at"] is not None
        assert on_disk["duration_s"] is None


def test_a_stream_that_ended_by_itself_leaves_nothing_to_recover(tmp_path: Path) -> None:
    """A held alert stays held over any number of restarts, and no event is made up."""
    with spool(tmp_path) as target:
        target.append(opened(1, state="held", latched=True))
    for _ in range(3):
        with spool(tmp_path) as target:
            assert len(target.events()) == 1
            assert len(target.held_alerts()) == 1


def test_left_over_files_are_removed(tmp_path: Path) -> None:
    """Unfinished writes and files without a record are removed; foreign files stay."""
    with spool(tmp_path) as target:
        with_picture(target, 1)
    (tmp_path / f"{alert_id(9)}.json").write_text("torn {")
    goes = [
        f"{alert_id(2)}-snapshot.jpg", f"{alert_id(2)}-clip.webm", f".{alert_id(1)}.0123abcd.tmp",
        f".{alert_id(3)}-peak.0123abcd.tmp.jpg", f".{alert_id(3)}-clip.0123abcd.tmp.webm",
    ]  # fmt: skip
    stays = [
        "notes.txt", "party.jpg", f"{alert_id(1)}-notes.jpg", f"copy of {alert_id(2)}-snapshot.jpg",
        ".out.0123abcd.tmp.mp4", "20261123T021500Z-0001-snapshot.jpg.bak",
    ]  # fmt: skip
    for name in (*goes, *stays):
        (tmp_path / name).write_text("x")
    with spool(tmp_path):
        names = {path.name for path in tmp_path.iterdir()}
    assert not names & set(goes)
    assert names >= {*stays, f"{alert_id(1)}.json", f"{alert_id(1)}-snapshot.jpg", f"{alert_id(9)}.json"}


def test_files_removed_by_other_programs_are_recorded(tmp_path: Path) -> None:
    """No record names a file that is not there; it says what became of it."""
    with spool(tmp_path) as target:
        with_picture(target, 1)
        with_picture(target, 2)
    (tmp_path / f"{alert_id(1)}-snapshot.jpg").unlink()
    with spool(tmp_path) as target:
        first, second = target.alert(alert_id(1)), target.alert(alert_id(2))
        assert first is not None
        assert second is not None
        assert (first.pictures, first.pictures_missing) == ({}, {"snapshot": "vanished"})
        assert json.loads((tmp_path / f"{alert_id(1)}.json").read_text())["pictures"] == {}
        assert set(second.pictures) == {"snapshot"}


def test_record_files_are_written_again(tmp_path: Path) -> None:
    """A kill between the database and the file: the next process writes the file."""
    with spool(tmp_path / "a") as target:
        target.append(opened(1))
        target.append(opened(2))
        folder = copy_of(tmp_path / "a", tmp_path / "b")
    (folder / f"{alert_id(1)}.json").unlink()
    (folder / f"{alert_id(2)}.json").write_text("{}")
    with spool(folder) as target:
        for number in (1, 2):
            assert json.loads((folder / f"{alert_id(number)}.json").read_text()) == stored(target, number)


@pytest.mark.parametrize("damage", ["text", "hole", "cut"])
def test_a_damaged_database_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    """A new database is made from the record files, with other keys; images stay, and the log reports it."""
    with spool(tmp_path) as target:
        for number in range(1, 60):
            with_picture(target, number)
        target.append(closed(1))
        device = target.device
    path = tmp_path / DATABASE
    content = path.read_bytes()
    damaged = {
        "text": b"this is no database" * 100,
        "hole": content[:4096] + b"\xff" * 8192 + content[12288:],
        "cut": content[: len(content) // 2 + 100],
    }[damage]
    path.write_bytes(damaged)
    with caplog.at_level(logging.ERROR), spool(tmp_path) as target:
        assert "is damaged" in caplog.text
        assert "new one is created" in caplog.text
        (aside,) = (path for path in tmp_path.glob(f"{DATABASE}.damaged-*") if path.name.endswith("Z"))
        assert aside.name in caplog.text
        assert target.device != device
        assert len(target.alerts(limit=100)) == 59
        assert target.media(alert_id(7), "snapshot") is not None
        first = target.alert(alert_id(1))
        assert first is not None
        assert first.ended_by == "quiet"
        assert target.append(plain_event()) > 0
    with spool(tmp_path) as target:
        assert len(target.alerts(limit=100)) == 59
    assert aside.read_bytes() == damaged


def test_records_from_before_the_spool_are_taken_over(tmp_path: Path) -> None:
    """A folder of an earlier version: its alerts are listed, its files stay, and names that lead elsewhere do not count."""
    old_id = "20251122T101112Z-0001"
    old = {
        key: value
        for key, value in record().items()
        if key not in ("camera", "zone", "severity", "held_at", "latched", "acknowledged_at", "acknowledged_by", "note")
    }
    old |= {"id": old_id, "pictures": {"snapshot": f"{old_id}-snapshot.jpg", "heatmap": "../../etc/passwd"}}
    (tmp_path / f"{old_id}.json").write_text(json.dumps(old))
    (tmp_path / f"{old_id}-snapshot.jpg").write_bytes(b"picture")
    (tmp_path / "20251122T101112Z-0002.json").write_text("[]")
    with spool(tmp_path) as target:
        (found,) = target.alerts()
        assert (found.id, found.camera, found.state, found.ended_by) == (
            old_id, None, "closed", "interrupted",
        )  # fmt: skip
        assert found.pictures == {"snapshot": f"{old_id}-snapshot.jpg"}
        assert found.pictures_missing == {}
        assert target.media(old_id, "snapshot") is not None
    assert (tmp_path / "20251122T101112Z-0002.json").exists()


CHILD = """
import sys
from pathlib import Path
from tests.stream.spool.builders import spool, with_picture, closed
with spool(Path(sys.argv[1])) as target:
    first = int(sys.argv[2])
    for number in range(first, first + 100000):
        with_picture(target, number)
        print("opened", number, flush=True)
        if number % 3:
            target.append(closed(number))
            print("closed", number, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_was_appended_is_lost_by_a_kill(tmp_path: Path, seed: int) -> None:
    """A process is killed again and again at random moments: what `append` had returned is there, once, in order."""
    random_s = random.Random(seed)
    said: list[tuple[str, int]] = []
    for turn in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(1000 * (turn + 1))], cwd=ROOT, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(random_s.randint(4, 60))]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        said += [(line.split()[0], int(line.split()[1])) for line in lines if line.endswith("\n")]
    assert len(said) > 10
    with Spool(tmp_path, options()) as target:
        events = target.events(limit=100000)
        assert len({event.key for event in events}) == len(events)
        kinds = [(event.kind.removeprefix("alert_"), event.alert_id) for event in events]
        expected = [(kind, alert_id(number)) for kind, number in said]
        rest = iter(kinds)
        assert all(item in rest for item in expected), "lost, or out of order"
        assert not target.alerts(state="open")
        for alert in target.alerts(limit=1000):
            assert json.loads((tmp_path / f"{alert.id}.json").read_text()) == alert.as_json()
            assert target.media(alert.id, "snapshot") is not None
        names = {path.name for path in tmp_path.iterdir()}
        assert not [name for name in names if ".tmp" in name]
        assert len([name for name in names if name.endswith(".jpg")]) == len(target.alerts(limit=1000))


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    """It is refused, not moved aside."""
    with spool(tmp_path) as target:
        target.append(opened())
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("CREATE TABLE future (what TEXT)")
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(StorageError, match="newer edgead"):
        spool(tmp_path).__enter__()
    assert (tmp_path / DATABASE).read_bytes() == before
    assert AT in (tmp_path / f"{alert_id(1)}.json").read_text()
