"""Results and notices as a user finds them afterwards: records, pictures, events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.errors import StorageError
from edgead.heatmap import HeatmapScale
from edgead.prediction import Segmentation
from edgead.stream.alerts import EventKind, Observation
from edgead.stream.consumers.clip_maker import ClipMaker, ClipOptions
from edgead.stream.consumers.opening_record import AlertContext
from edgead.stream.consumers.spool_writer import SpoolWriter, utc_from_monotonic_now
from edgead.stream.frame import Frame
from edgead.stream.notices import CameraLost, FaultBegan, ThresholdChanged, UnjudgedFrame
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.spool import Spool

from ..spool.builders import THRESHOLD, alert_id, result, spool, verdict

START = datetime(2026, 11, 22, 10, 11, 12, tzinfo=timezone.utc)
CONTEXT = AlertContext("rtsp://***@cam/live", "d" * 64, "fake-fp32", None, HeatmapScale(0.05, THRESHOLD, 0.5))
RECORD_KEYS = {
    "schema_version", "edgead_version", "id", "camera", "zone", "severity", "state", "opened_at", "held_at", "closed_at",
    "duration_s", "ended_by", "latched", "acknowledged_at", "acknowledged_by", "note", "source", "origin", "frame_index",
    "time_s", "score", "threshold", "pixel_threshold", "peak_score", "peak_frame_index", "segmentation", "image_size",
    "judgement", "judgement_kind", "judgement_note", "judged_at", "judged_by", "n_judgements",
    "regions", "pictures", "pictures_missing", "bundle", "engine", "class",
}  # fmt: skip


_RAISED_CLOSED: tuple[EventKind, ...] = ("raised", "closed")


def utc(monotonic_s: float) -> datetime:
    """The frames of `result` are taken at 1000 s + their time."""
    return START + timedelta(seconds=monotonic_s - 1000.0)


def spool_writer(target: Spool, context: AlertContext = CONTEXT, **changes: Any) -> SpoolWriter:
    return SpoolWriter(target, {"line 1": context}, opacity=0.6, utc_from_monotonic=utc, **changes)


def read_record(folder: Path, number: int = 1) -> dict[str, Any]:
    return dict(json.loads((folder / f"{alert_id(number)}.json").read_text()))


def kinds(target: Spool) -> list[str]:
    return [event.kind for event in target.events() if event.kind.startswith("alert_")]


def test_record_is_complete_while_the_alert_is_open(tmp_path: Path) -> None:
    """The record, both images and the event are complete, with every documented key, as soon as an alert opens."""
    with spool(tmp_path) as target:
        spool_writer(target).accept(result(verdict("opened", severity="high")))
        record = read_record(tmp_path)
        (event,) = target.events()
    assert record.keys() == RECORD_KEYS
    assert event.payload["alert"] == record
    assert (event.kind, event.payload["camera"], event.payload["zone"]) == ("alert_opened", "line 1", "picture")
    assert event.payload["at"] == record["opened_at"] == "2026-11-22T10:11:12.500Z"
    assert (record["id"], record["state"], record["latched"], record["severity"]) == (
        alert_id(1),
        "open",
        False,
        "high",
    )
    for key in ("closed_at", "duration_s", "ended_by", "held_at", "acknowledged_at"):
        assert record[key] is None
    assert record["source"] == CONTEXT.source
    assert record["threshold"] == THRESHOLD
    assert record["image_size"] == [48, 64]
    assert record["regions"] == [
        {"x": 0, "y": 0, "width": 64, "height": 48, "area_px": 48 * 64, "peak": pytest.approx(250 / 255 - 0.5)}
    ]
    snapshot = cv2.imread(str(tmp_path / record["pictures"]["snapshot"]))
    heatmap = cv2.imread(str(tmp_path / record["pictures"]["heatmap"]))
    assert snapshot is not None
    assert heatmap is not None
    assert snapshot.shape == heatmap.shape == (48, 64, 3)
    assert abs(float(snapshot.mean()) - 250) < 2
    assert np.abs(snapshot.astype(int) - heatmap).max() > 50


def test_closing_completes_the_record(tmp_path: Path) -> None:
    """The closed record keeps what it said when it opened and adds end, duration and peak with its picture."""
    with spool(tmp_path) as target:
        writer = spool_writer(target)
        writer.accept(result(verdict("opened")))
        before = read_record(tmp_path)
        writer.accept(result(verdict("peak", score=0.5, peak_frame=7), value=255, index=7, time_s=0.7))
        assert len(target.events()) == 1, "a peak is no event"
        closed = verdict("closed", score=0.5, peak_frame=7, closed_s=2.0, ended_by="quiet")
        writer.accept(result(closed, value=100, index=20, time_s=2.0))
        after = read_record(tmp_path)
        assert kinds(target) == ["alert_opened", "alert_closed"]
    changed = {key for key in RECORD_KEYS if before[key] != after[key]}
    assert changed == {"state", "closed_at", "duration_s", "ended_by", "peak_score", "peak_frame_index", "pictures"}
    assert (after["state"], after["ended_by"], after["duration_s"]) == ("closed", "quiet", 1.5)
    assert after["closed_at"] == "2026-11-22T10:11:14.000Z"
    assert (after["peak_score"], after["peak_frame_index"]) == (0.5, 7)
    assert set(after["pictures"]) == {"snapshot", "heatmap", "peak"}
    assert {path.name for path in tmp_path.glob("*.jpg")} == set(after["pictures"].values())


def test_only_the_strongest_picture_is_kept(tmp_path: Path) -> None:
    """Only the last of several peaks is written, once, when the alert ends."""
    with spool(tmp_path) as target:
        writer = spool_writer(target)
        writer.accept(result(verdict("opened"), value=100))
        for index, value in ((6, 120), (7, 140), (8, 30)):
            writer.accept(result(verdict("peak", peak_frame=index), value=value, index=index))
        assert not list(tmp_path.glob("*peak*"))
        writer.accept(result(verdict("closed", closed_s=2.0, ended_by="quiet"), value=200))
        peak = cv2.imread(str(tmp_path / read_record(tmp_path)["pictures"]["peak"]))
    assert peak is not None
    assert abs(float(peak.mean()) - 30) < 3


def test_a_higher_severity_is_told(tmp_path: Path) -> None:
    """`raised` changes record and history, and its frame is the peak."""
    with spool(tmp_path) as target:
        writer = spool_writer(target)
        writer.accept(result(verdict("opened", severity="low")))
        writer.accept(result(verdict("raised", severity="high", score=0.9, peak_frame=6), index=6))
        record = target.alert(alert_id(1))
        assert record is not None
        assert (record.severity, record.peak_score, record.state) == ("high", 0.9, "open")
        assert kinds(target) == ["alert_opened", "alert_raised"]


def test_a_latched_alert_is_held_and_resumed(tmp_path: Path) -> None:
    """The record is open, held, open, held, and closed on acknowledgement; each step is one event."""
    context = replace(CONTEXT, latched=frozenset({"picture"}))
    with spool(tmp_path) as target:
        writer = spool_writer(target, context)
        writer.accept(result(verdict("opened")))
        assert read_record(tmp_path)["latched"] is True
        writer.accept(result(verdict("held"), time_s=2.0))
        assert (read_record(tmp_path)["state"], read_record(tmp_path)["held_at"]) == (
            "held",
            "2026-11-22T10:11:14.000Z",
        )
        writer.accept(result(verdict("resumed", peak_frame=30), value=180, index=30, time_s=3.0))
        assert read_record(tmp_path)["state"] == "open"
        writer.accept(result(verdict("held"), time_s=4.0))
        assert set(read_record(tmp_path)["pictures"]) == {"snapshot", "heatmap", "peak"}
        assert target.acknowledge(alert_id(1), "Ada")
        # the state machine hears of it and says so, for a record that is closed already
        closed = verdict("closed", closed_s=5.0, ended_by="acknowledged")
        writer.accept(result(closed, time_s=4.0, is_repeat=True))
        record = read_record(tmp_path)
        assert (record["state"], record["ended_by"], record["acknowledged_by"]) == ("closed", "acknowledged", "Ada")
        assert kinds(target) == [
            "alert_opened", "alert_held", "alert_resumed", "alert_held", "alert_acknowledged", "alert_closed",
        ]  # fmt: skip


def test_an_acknowledgement_while_the_alert_goes_on(tmp_path: Path) -> None:
    """An acknowledgement is one event, whether the spool or the state machine gets it first, and is kept on closing."""
    with spool(tmp_path) as target:
        writer = spool_writer(target)
        for number in (1, 2):
            writer.accept(result(verdict("opened", number=number)))
        target.acknowledge(alert_id(1), "Ada", "seen")
        for number in (1, 2):
            writer.accept(result(verdict("acknowledged", number=number), is_repeat=True))
        writer.accept(result(verdict("closed", closed_s=2.0, ended_by="quiet"), time_s=2.0))
        first, second = target.alert(alert_id(1)), target.alert(alert_id(2))
        assert first is not None
        assert second is not None
        assert (first.state, first.acknowledged_by, first.note) == ("closed", "Ada", "seen")
        assert second.acknowledged_at is not None
        assert kinds(target).count("alert_acknowledged") == 2


def test_a_restored_alert_of_an_earlier_process_closes(tmp_path: Path) -> None:
    """The duration is by the clock, because the source's time line has restarted."""
    with spool(tmp_path) as target:
        spool_writer(target).accept(result(verdict("opened")))
        target.update(AlertRecord(id=alert_id(1), state="held"))
        writer = spool_writer(target)
        writer.accept(result(verdict("resumed", peak_frame=5), time_s=60.0))
        writer.accept(result(verdict("closed", closed_s=1.0, ended_by="quiet"), time_s=90.5))
        record = target.alert(alert_id(1))
        assert record is not None
        assert (record.duration_s, record.ended_by) == (90.0, "quiet")


def test_zones_of_one_frame_share_their_pictures(tmp_path: Path) -> None:
    """Two alerts, two records, each picture encoded and written once; regions are those inside the zone."""
    left = np.zeros((4, 4), np.bool_)
    left[:, :2] = True
    context = replace(CONTEXT, masks={"left": left})
    with spool(tmp_path) as target:
        writer = spool_writer(target, context)
        writer.accept(
            result(verdict("opened", zone="left"), verdict(None, zone="x"), verdict("opened", zone="all", number=2))
        )
        first, second = target.alert(alert_id(1)), target.alert(alert_id(2))
        assert first is not None
        assert second is not None
        assert first.pictures == second.pictures
        assert len(list(tmp_path.glob("*.jpg"))) == 2
        assert (first.zone, second.zone) == ("left", "all")
        assert second.regions[0]["width"] == 64
        assert first.regions[0]["x"] == 0
        assert 24 < first.regions[0]["width"] < 48
        kept = target.media(alert_id(2), "snapshot")
        assert kept is not None
        assert kept.name == f"{alert_id(1)}-snapshot.jpg"


def test_an_alert_gets_its_clip(tmp_path: Path) -> None:
    """One clip for the alerts of a frame, there at the latest when the stream has ended."""
    with spool(tmp_path) as target:
        clips = ClipMaker(target, ClipOptions(pre_s=1.0, post_s=1.0, fps=5.0, max_side_px=64, memory_mb=1.0))
        with spool_writer(target, clips=clips) as writer:
            for index in range(8):
                opens: EventKind | None = "opened" if index == 6 else None
                item = result(verdict(opens), verdict(opens, number=2), index=index, time_s=index / 5)
                for each in (clips, writer):
                    if each.wants(item):
                        each.accept(item)
        paths = [target.media(alert_id(number), "clip") for number in (1, 2)]
        assert paths[0] is not None
        assert paths[0] == paths[1]
        assert read_record(tmp_path, 2)["pictures"]["clip"] == paths[0].name
        assert [event.kind for event in target.events()][-1] == "stream_stopped"


def test_regions_of_a_segmentation_of_its_own(tmp_path: Path) -> None:
    """Regions come from the bundle's segmentation, not from the pixel threshold, also inside a zone."""
    values = np.zeros((8, 8), np.float32)
    values[1:3, 1:3] = values[5:7, 5:7] = 9.0
    mask = np.zeros((4, 4), np.bool_)
    mask[2:, 2:] = True
    context = replace(CONTEXT, segmentation="nfa", masks={"corner": mask})
    item = result(verdict("opened", zone="corner"), verdict("opened", zone="all", number=2))
    item = replace(item, prediction=replace(item.prediction, own_segmentation=Segmentation(values, 1.0)))
    with spool(tmp_path) as target:
        spool_writer(target, context).accept(item)
        first, second = target.alert(alert_id(1)), target.alert(alert_id(2))
        assert first is not None
        assert second is not None
        assert first.segmentation == "nfa"
        drawn = target.media(alert_id(1), "heatmap")
        assert drawn is not None
        own = drawn.read_bytes()
        assert (len(first.regions), len(second.regions)) == (1, 2)
        assert first.regions[0]["x"] >= 30
        spool_writer(target, context).accept(result(verdict("opened", number=3)))
        plain = target.media(alert_id(3), "heatmap")
        assert plain is not None
        assert plain.read_bytes() != own, "the heatmap outlines the segmentation, else the map"


def test_a_disk_without_room_does_not_end_the_stream(tmp_path: Path) -> None:
    """No pictures, but a record that says why."""
    with spool(tmp_path, min_free_mb=1e9) as target:
        writer = spool_writer(target)
        writer.accept(result(verdict("opened")))
        writer.accept(result(verdict("peak", peak_frame=6), index=6))
        writer.accept(result(verdict("closed", closed_s=2.0, ended_by="quiet")))
        record = read_record(tmp_path)
        assert record["pictures"] == {}
        assert record["pictures_missing"] == dict.fromkeys(("snapshot", "heatmap", "peak"), "disk_full")
        assert record["state"] == "closed"
        target._media._min_free_mb = 0.0
        writer.accept(result(verdict("opened", number=2)))
        assert read_record(tmp_path, 2)["pictures_missing"] == {}


def test_a_disk_that_cannot_be_read_does_not_end_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are still appended, and the record is updated when the disk is back."""
    with spool(tmp_path) as target:
        writer = spool_writer(target)
        writer.accept(result(verdict("opened")))
        with monkeypatch.context() as patch:

            def fail(*arguments: object) -> None:
                raise StorageError("I/O error")

            patch.setattr(target._archive, "alert", fail)
            patch.setattr(target._archive, "write", fail)
            writer.accept(result(verdict("raised", severity="high", score=0.9)))
            writer.accept(result(verdict("closed", severity="high", closed_s=2.0, ended_by="quiet")))
            for kind in _RAISED_CLOSED:
                writer.accept(result(verdict(kind, number=9, closed_s=2.0, ended_by="quiet")))
            assert not target.health().records_ok
            assert target.alerts(camera="line 1", state="open") == target.alerts(state="open")
        target.maintain()
        record = target.alert(alert_id(1))
        assert record is not None
        assert (record.state, record.severity, record.camera) == ("closed", "high", "line 1")
        assert record.duration_s == 1.5
        assert kinds(target) == ["alert_opened", *["alert_raised", "alert_closed"] * 2]


def test_notices_become_events(tmp_path: Path) -> None:
    """Notices become events with their values; single frames and frames without events do not."""
    with spool(tmp_path) as target:
        writer = spool_writer(target)
        lost = CameraLost("line 1", 1001.0, "no frames for 5 s")
        changed = ThresholdChanged(
            "line 1", 1002.0, zone="left", who="Ada", before=0.1, after=0.2, false_alarm_rate=0.01, why="too many"
        )
        frame = Frame(np.zeros((2, 2, 3), np.uint8), 0, 1002.0, "x")
        dark = FaultBegan("line 1", 1003.0, frame, 3.0, "The picture is black.", "black")
        picture = UnjudgedFrame("line 1", 1003.0, frame, 3.0, "The picture is black.", "black")
        assert [writer.wants(item) for item in (lost, changed, dark, picture)] == [True, True, True, False]
        assert not writer.wants(result(verdict(None)))
        assert writer.wants(result(verdict("peak")))
        with writer:
            writer.accept(lost)
            writer.accept(changed)
            writer.accept(dark)
        started, first, second, third, stopped = (event.payload for event in target.events())
        assert (started["kind"], started["values"]["cameras"]) == ("stream_started", ["line 1"])
        assert started["values"]["engine"] == "fake-fp32"
        assert (first["kind"], first["at"], first["detail"]) == (
            "camera_lost", "2026-11-22T10:11:13.000Z", "no frames for 5 s",
        )  # fmt: skip
        assert second["zone"] == "left"
        assert second["values"] == {
            "who": "Ada", "from": 0.1, "to": 0.2, "false_alarm_rate": 0.01, "alarms_per_hour": None,
        }  # fmt: skip
        assert second["detail"] == "Ada changed the threshold of left from 0.1 to 0.2: too many"
        assert (third["kind"], third["values"]) == ("picture_fault", {"fault": "black"})
        assert stopped["kind"] == "stream_stopped"


def test_the_time_of_day_follows_a_clock_that_is_set() -> None:
    """A monotonic time of now is now, and one of an hour ago an hour ago."""
    import time

    now = time.monotonic()
    assert abs(utc_from_monotonic_now(now) - datetime.now(timezone.utc)) < timedelta(seconds=1)
    assert abs(utc_from_monotonic_now(now - 3600) + timedelta(hours=1) - datetime.now(timezone.utc)) < timedelta(
        seconds=1
    )


def test_a_real_state_machine_ends_in_whole_records(tmp_path: Path) -> None:
    """Random scores through the state machine: open and closed alternate, and records agree with the machine."""
    from edgead.stream.alerts import AlertRules, AlertState, Severity, finish, step

    rules = AlertRules(0.2, 0.15, 2, 3, 1, 0.0, latch=True, severities=(Severity("low", 0.2), Severity("high", 0.4)))
    random = np.random.default_rng(0)
    with spool(tmp_path) as target:
        writer = spool_writer(target)
        state, number, score_s = AlertState(), 0, random.uniform(0, 0.5, 300)
        judge: Callable[..., Any] = step
        for index, score in enumerate([*score_s, None]):
            time_s = index / 10
            if score is None:
                state, event = finish(rules, state, time_s=time_s)
            else:
                state, event = judge(rules, state, Observation(float(score)), frame_index=index, time_s=time_s)
            number += event is not None and event.kind == "opened"
            item = replace(
                verdict(None, number=number), event=event, alert=state.alert, alert_id=alert_id(max(number, 1))
            )
            if event is not None:
                writer.accept(result(item, index=index, time_s=time_s))
            if event is not None and event.kind == "held" and random.random() < 0.7:
                target.acknowledge(alert_id(number), "Ada")
                state = AlertState(n_alerts=state.n_alerts)
        assert number > 5
        history: dict[str, list[str]] = {}
        for told in target.events(limit=1000):
            history.setdefault(str(told.alert_id), []).append(told.kind)
        for alert in target.alerts(limit=1000):
            steps = history[alert.id]
            assert steps[0] == "alert_opened"
            assert steps.count("alert_closed") == (alert.state == "closed")
            assert read_record(tmp_path, int(alert.id[-6:], 16)) == alert.as_json()
