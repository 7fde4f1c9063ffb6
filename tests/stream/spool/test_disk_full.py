"""A full disk: images and clips stop first, records are buffered in memory, and each problem is logged once."""

from __future__ import annotations

import json
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgead.errors import StorageError
from edgead.stream.spool.database import DATABASE

from .builders import alert_id, closed, opened, plain_event, spool, with_picture


@contextmanager
def no_file_may_grow(folder: Path) -> Iterator[None]:
    """Imitate a full disk for SQLite without root: no file may grow beyond the log's current size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / f"{DATABASE}-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_below_the_reserve_evidence_stops_and_records_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With less free space than wanted, pictures are refused with a reason, said once, and taken again later."""
    with caplog.at_level(logging.WARNING), spool(tmp_path, min_free_mb=1e9) as target:
        for number in (1, 2, 3):
            assert target.write_media(f"{alert_id(number)}-snapshot.jpg", b"x") == "disk_full"
            assert target.append(opened(number, pictures_missing={"snapshot": "disk_full"})) > 0
        health = target.health()
        assert not health.evidence_ok
        assert health.records_ok
        assert "1e+09 MB" in health.detail
        assert health.free_mb > 0
        assert caplog.text.count("No images and clips are written") == 1
        assert list(tmp_path.glob("*.jpg")) == []
        target._media._min_free_mb = 0.0
        assert target.write_media(f"{alert_id(4)}-snapshot.jpg", b"x") is None
        assert target.health().evidence_ok
        assert target.health().detail == ""
        assert caplog.text.count(f"are written to {tmp_path} again") == 1


def test_a_picture_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A quota shows no lack of space: each attempt fails quietly after the first, until one succeeds."""
    name = f"{alert_id(1)}-snapshot.jpg"
    (tmp_path / name).mkdir()
    with caplog.at_level(logging.WARNING), spool(tmp_path) as target:
        assert [target.write_media(name, b"x") for _ in range(3)] == ["failed"] * 3
        assert not target.health().evidence_ok
        assert name in target.health().detail
        assert caplog.text.count("No images and clips are written") == 1
        assert target.write_media(f"{alert_id(2)}-snapshot.jpg", b"x") is None
        assert target.health().evidence_ok


def test_records_wait_in_memory_and_follow_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the disk takes nothing: 0 instead of a number, the records are seen, and all follow when it takes them."""
    with caplog.at_level(logging.WARNING), spool(tmp_path) as target:
        first = target.append(opened(1))
        with no_file_may_grow(tmp_path):
            assert target.append(opened(2, camera="b")) == 0
            assert target.append(closed(1)) == 0
            assert target.append(plain_event("while full")) == 0
            assert target.acknowledge(alert_id(2), "Ada")
            assert not target.acknowledge(alert_id(2), "Bob")
            health = target.health()
            assert (health.records_ok, health.waiting, health.lost) == (False, 4, 0)
            assert str(tmp_path) in health.detail
            states = {alert.id: alert.state for alert in target.alerts()}
            assert states == {alert_id(1): "closed", alert_id(2): "open"}
            assert [alert.id for alert in target.alerts(state="open", camera="b")] == [alert_id(2)]
            assert target.alerts(state="open", camera="line 1") == []
            assert [request.alert_id for request in target.poll_acknowledgements()] == [alert_id(2)]
            target.maintain()
            assert len(target.events()) == 1
        assert caplog.text.count("are buffered in memory") == 1
        target.maintain()
        assert target.health().records_ok
        assert target.health().waiting == 0
        assert "Alert records are written again; 0 were lost" in caplog.text
        assert target.append(plain_event("after")) == first + 5
        kinds = [event.kind for event in target.events()]
        assert kinds == [
            "alert_opened", "alert_opened", "alert_closed", "camera_lost", "alert_acknowledged", "camera_lost",
        ]  # fmt: skip
        for number in (1, 2):
            found = target.alert(alert_id(number))
            assert found is not None
            assert json.loads((tmp_path / f"{alert_id(number)}.json").read_text()) == found.as_json()
        second = target.alert(alert_id(2))
        assert second is not None
        assert second.acknowledged_by == "Ada"


def test_memory_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the limit the oldest are lost, counted, and said once, and the end of the spool is an error."""

    def stream() -> None:
        with spool(tmp_path, memory_events=5) as target:
            target.append(plain_event())
            with no_file_may_grow(tmp_path):
                for number in range(8):
                    target.append(plain_event(str(number)))
                assert (target.health().waiting, target.health().lost) == (5, 3)
            target.maintain()
            assert [event.payload["detail"] for event in target.events()][1:] == ["3", "4", "5", "6", "7"]
            assert caplog.text.count("the oldest are lost") == 1
            assert "3 records lost" in target.health().detail

    with caplog.at_level(logging.ERROR), pytest.raises(StorageError, match="because they could not be written: 3"):
        stream()


def test_what_still_waits_at_the_end_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process that ends on a full disk says how many changes it takes with it, and fails."""
    limit = no_file_may_grow(tmp_path)
    lost = "because they could not be written: 1"

    def stream() -> None:
        with spool(tmp_path) as target:
            target.append(plain_event())
            limit.__enter__()
            target.append(plain_event())

    try:
        with caplog.at_level(logging.ERROR), pytest.raises(StorageError, match=lost) as caught:
            stream()
    finally:
        limit.__exit__(None, None, None)
    assert lost in caplog.text
    assert caught.value.exit_code == 1


def test_a_really_full_disk(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a filling 80 MB disk images stop at the reserve, records continue until nothing fits, and none is lost."""
    folder, filler = small_disk / "alerts", small_disk / "other"
    with caplog.at_level(logging.WARNING), spool(folder, min_free_mb=20.0) as target:
        with_picture(target, 1, 1_000_000)
        filler.write_bytes(bytes(70_000_000))
        assert target.write_media(f"{alert_id(2)}-snapshot.jpg", b"x") == "disk_full"
        numbers = [target.append(opened(2))]
        assert numbers == [2]
        with pytest.raises(OSError, match="No space"):
            fill(filler)
        for number in range(3, 800):
            numbers.append(target.append(opened(number)))
        assert numbers[-1] == 0, "the disk cannot have taken them all"
        health = target.health()
        assert not health.records_ok
        assert not health.evidence_ok
        assert health.waiting > 0
        assert len(target.alerts(limit=1000)) == 799
        assert len([line for line in caplog.text.splitlines() if "full" in line]) <= 3, "said once per change"
        filler.unlink()
        target.maintain()
        assert target.health().records_ok
        assert [event.alert_id for event in target.events(limit=1000)] == [alert_id(n) for n in range(1, 800)]
        while target._archive.export_pending():
            pass
        assert len(list(folder.glob("*.json"))) == 799


def test_a_stream_starts_on_a_full_disk(small_disk: Path) -> None:
    """A restart must not end the watching: there is room for the opening and some records, then memory takes over."""
    folder, filler = small_disk / "alerts", small_disk / "other"
    with spool(folder) as target:
        target.append(opened(1))
    with pytest.raises(OSError, match="No space"):
        fill(filler)
    with spool(folder) as target:
        assert target.alerts(state="open") == []
        assert target.append(plain_event()) > 0
        with pytest.raises(OSError, match="No space"):
            fill(filler)
        for _ in range(100):
            target.append(plain_event())
        filler.unlink()
    with spool(folder) as target:
        assert len(target.events(limit=1000)) == 103
        assert (folder / ".reserve").stat().st_size > 1_000_000
