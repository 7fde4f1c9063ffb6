"""Appended events are visible in order to every reader, every thread and the next process."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest

from edgead.errors import StorageError
from edgead.stream.control import Acknowledge
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.archive import open_archive
from edgead.stream.spool.database import DATABASE
from edgead.stream.spool.events import Event
from edgead.stream.spool.records import restored_alert
from edgead.stream.spool.spool import Spool

from .builders import AT, alert_id, closed, opened, plain_event, record, spool, stored, with_picture

PAYLOAD_KEYS = {
    "schema_version", "key", "sequence", "device", "kind", "at", "camera", "zone", "alert", "detail", "values",
}  # fmt: skip


def read_file(folder: Path, number: int = 1) -> dict[str, object]:
    return dict(json.loads((folder / f"{alert_id(number)}.json").read_text()))


def test_an_event_has_its_place_and_its_key(tmp_path: Path) -> None:
    """Numbers rise by one, keys are made of the device's id and the number, and the payload has the documented keys."""
    with spool(tmp_path) as target:
        numbers = [target.append(plain_event(str(n))) for n in range(3)]
        events = target.events(after=numbers[0] - 1)
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
        assert [event.sequence for event in events] == numbers
        assert [event.key for event in events] == [f"{target.device}-{number}" for number in numbers]
        payload = events[1].payload
        assert payload.keys() == PAYLOAD_KEYS
        assert (payload["kind"], payload["camera"], payload["detail"], payload["at"]) == (
            "camera_lost",
            "line 1",
            "1",
            AT,
        )
        assert target.events(after=numbers[1], limit=5) == events[2:]
        assert target.events(after=0, limit=2) == events[:2]


def test_numbers_and_device_outlive_the_process(tmp_path: Path) -> None:
    """A second spool on the folder continues the numbers under the same id."""
    with spool(tmp_path) as first:
        device, number = first.device, first.append(plain_event())
    with spool(tmp_path) as second:
        assert second.device == device
        assert second.append(plain_event()) == number + 1
        assert [event.sequence for event in second.events()] == [number, number + 1]


def test_an_event_carries_the_record_as_it_was_then(tmp_path: Path) -> None:
    """A change is merged into the record; the event keeps the whole record of that moment."""
    with spool(tmp_path) as target:
        target.append(opened())
        target.append(closed())
        first, second = target.events()
        assert first.payload["alert"] is not None
        assert first.payload["alert"]["state"] == "open"
        assert second.payload["alert"] == stored(target, 1)
        assert second.payload["alert"] == {
            **record(), "pictures_missing": {}, "state": "closed", "closed_at": AT, "duration_s": 1.0, "ended_by": "quiet",
        }  # fmt: skip
        assert read_file(tmp_path) == second.payload["alert"]


def test_odd_values_still_make_json(tmp_path: Path) -> None:
    """NaN, infinity and lone surrogates become values that every JSON reader accepts."""
    with spool(tmp_path) as target:
        values = {"a": float("nan"), "b": float("inf"), "c": "x\udc80", "d": (1, 2.5, None, True), "e": Path("/x")}
        target.append(Event("threshold_changed", AT, "ca\udcffm", values=values))
        payload = target.events()[0].payload
        assert payload["values"] == {"a": None, "b": None, "c": "x?", "d": [1, 2.5, None, True], "e": "/x"}
        json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
        target.append(opened(origin="bad\udc80.png"))
        assert read_file(tmp_path)["origin"] == "bad?.png"


def test_alerts_are_listed_newest_first(tmp_path: Path) -> None:
    """By state, by camera, and page by page."""
    with spool(tmp_path) as target:
        for number in range(1, 8):
            target.append(opened(number, camera="a" if number % 2 else "b"))
        target.append(closed(3))
        ids = [alert.id for alert in target.alerts()]
        assert ids == [alert_id(n) for n in range(7, 0, -1)]
        assert [alert.id for alert in target.alerts(state="closed")] == [alert_id(3)]
        assert [alert.id for alert in target.alerts(camera="b")] == [alert_id(n) for n in (6, 4, 2)]
        page = target.alerts(state="open", limit=2)
        assert [alert.id for alert in page] == [alert_id(7), alert_id(6)]
        assert [a.id for a in target.alerts(state="open", limit=2, before=page[-1].id)] == [
            alert_id(5),
            alert_id(4),
        ]
        assert target.alert("unknown") is None
        with pytest.raises(ValueError, match="open, held, closed"):
            target.alerts(state="broken")


def test_many_threads_append_at_once(tmp_path: Path) -> None:
    """Numbers stay unique and without a gap, and each thread's events keep their order."""
    with spool(tmp_path) as target:

        def work(name: str) -> None:
            for number in range(20):
                target.append(plain_event(f"{name}:{number}"))
                target.alerts()

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        events = target.events(limit=1000)
        assert [event.sequence for event in events] == list(range(1, 81))
        for name in "abcd":
            own = [e.payload["detail"] for e in events if str(e.payload["detail"]).startswith(name)]
            assert own == [f"{name}:{number}" for number in range(20)]


def test_a_waiting_reader_is_woken(tmp_path: Path) -> None:
    """`wait_for_events` returns when an event comes, and False when none does."""
    with spool(tmp_path) as target:
        assert not target.wait_for_events(0, 0.05)
        threading.Timer(0.1, target.append, [plain_event()]).start()
        assert target.wait_for_events(0, 10.0)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """The folder belongs to one stream; the error says which folder and what to do."""
    with spool(tmp_path) as first:
        with pytest.raises(StorageError, match="Another edgead process writes its alerts to") as caught:
            spool(tmp_path).__enter__()
        assert "--alerts" in caught.value.hint
        assert str(tmp_path) in caught.value.message
        first.append(plain_event())
    with spool(tmp_path):
        pass


@pytest.mark.parametrize("obstacle", ["file", "database is a folder", "read only"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, obstacle: str) -> None:
    """Before the first alert, with the path."""
    folder = tmp_path / "alerts"
    if obstacle == "file":
        folder.write_text("a file")
    elif obstacle == "database is a folder":
        (folder / DATABASE).mkdir(parents=True)
    else:
        folder = Path("/proc/edgead-alerts")
    with pytest.raises(StorageError, match=str(folder)):
        spool(folder).__enter__()


def test_acknowledging_an_open_alert(tmp_path: Path) -> None:
    """An acknowledgement is stored with user and note, becomes one event, reaches the stream once, and leaves the alert open."""
    with spool(tmp_path) as target:
        target.append(opened())
        assert target.poll_acknowledgements() == []
        assert target.acknowledge(alert_id(1), "Ada", "cleaned the lens")
        assert not target.acknowledge(alert_id(1), "Bob")
        assert not target.acknowledge("unknown", "Bob")
        found = target.alert(alert_id(1))
        assert found is not None
        assert (found.state, found.acknowledged_by, found.note) == ("open", "Ada", "cleaned the lens")
        assert found.acknowledged_at is not None
        assert [event.kind for event in target.events()] == ["alert_opened", "alert_acknowledged"]
        assert target.events()[1].payload["values"] == {"who": "Ada"}
        assert target.poll_acknowledgements() == [Acknowledge(alert_id(1), "Ada")]
        assert target.poll_acknowledgements() == []
        assert read_file(tmp_path)["note"] == "cleaned the lens"


def test_acknowledging_a_held_alert_closes_it(tmp_path: Path) -> None:
    """Also when no state machine knows it any more."""
    with spool(tmp_path) as target:
        target.append(opened(state="held", held_at=AT))
        assert target.acknowledge(alert_id(1), "Ada")
        found = target.alert(alert_id(1))
        assert found is not None
        assert (found.state, found.ended_by) == ("closed", "acknowledged")
        assert found.duration_s is not None
        assert found.closed_at is not None
        assert found.duration_s > 0 or found.closed_at < AT
        assert [event.kind for event in target.events()][1:] == ["alert_acknowledged", "alert_closed"]


def test_another_process_may_acknowledge(tmp_path: Path) -> None:
    """A second opening of the tables changes the record, and the running spool hears of it."""
    with spool(tmp_path) as target:
        target.append(opened())
        archive, database = open_archive(tmp_path)
        assert archive.acknowledge(alert_id(1), "Bob", "")
        database.close()
        assert target.poll_acknowledgements() == [Acknowledge(alert_id(1), "Bob")]
        target.append(closed())
        found = target.alert(alert_id(1))
        assert found is not None
        assert (found.acknowledged_by, found.state) == ("Bob", "closed")
        assert [event.sequence for event in target.events()] == [1, 2, 3]


def test_evidence_is_found_by_kind(tmp_path: Path) -> None:
    """Only what the record names and what is there."""
    with spool(tmp_path) as target:
        with_picture(target, 1)
        path = target.media(alert_id(1), "snapshot")
        assert path is not None
        assert path.read_bytes() == b"x" * 1000
        assert target.media(alert_id(1), "clip") is None
        assert target.media(alert_id(2), "snapshot") is None
        path.unlink()
        assert target.media(alert_id(1), "snapshot") is None


def test_an_update_changes_the_record_without_an_event(tmp_path: Path) -> None:
    """An update adds a late clip to its record without an event and does not bring back a removed record."""
    with spool(tmp_path) as target:
        target.append(opened(pictures={"snapshot": f"{alert_id(1)}-snapshot.jpg"}))
        target.update(AlertRecord(id=alert_id(1), pictures={"clip": f"{alert_id(1)}-clip.webm"}))
        target.update(AlertRecord(id=alert_id(2), pictures={"clip": "x"}))
        found = target.alert(alert_id(1))
        assert found is not None
        assert set(found.pictures) == {"snapshot", "clip"}
        assert len(target.events()) == 1
        assert target.alert(alert_id(2)) is None
        assert set(read_file(tmp_path)["pictures"]) == {"snapshot", "clip"}  # type: ignore[call-overload]


def test_held_alerts_can_be_restored(tmp_path: Path) -> None:
    """Oldest first, as the state machine of their zone knows them."""
    with spool(tmp_path) as target:
        for number in (1, 2, 3):
            target.append(opened(number, state="open" if number == 2 else "held", severity="high"))
        held = target.held_alerts()
        assert [alert.id for alert in held] == [alert_id(1), alert_id(3)]
        alert = restored_alert(held[0])
        assert (alert.peak_score, alert.peak_frame, alert.severity) == (0.5, 4, "high")
        assert alert.held_s is not None
        assert alert.acknowledged_s is None


def test_nothing_works_after_the_end_and_nothing_hangs(tmp_path: Path) -> None:
    """A thread that outlives the spool gets an error that it expects."""
    target = spool(tmp_path)
    with target:
        target.append(plain_event())
    with pytest.raises(StorageError):
        target.events()
    with pytest.raises(StorageError):
        target.depths() if target.begin("x", from_beginning=False) else None
    assert not [thread for thread in threading.enumerate() if thread.name == "edgead spool"]


def test_every_transaction_is_synced(tmp_path: Path) -> None:
    """The database keeps a write-ahead log and syncs fully: what `append` has returned survives a power cut."""
    with spool(tmp_path) as target:
        with target._database.read() as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert target._database._writer.execute("PRAGMA synchronous").fetchone() == (2,)
        target.append(plain_event())
        # what another process sees, as after a kill
        other = sqlite3.connect(tmp_path / DATABASE)
        assert other.execute("SELECT COUNT(*) FROM events").fetchone() == (1,)
        other.close()


def test_the_type_is_a_context_manager_that_can_fail_cleanly(tmp_path: Path) -> None:
    """An opening that fails leaves no lock and no thread behind."""
    (tmp_path / DATABASE).write_bytes(b"")
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("CREATE TABLE future (what TEXT)")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"newer edgead: its schema is 99"):
            spool(tmp_path).__enter__()
    assert not [thread for thread in threading.enumerate() if thread.name == "edgead spool"]
    assert isinstance(spool(tmp_path), Spool)
