"""`edgead alerts`: reading and acknowledging beside a running stream."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgead.cli import app
from edgead.commands.alerts import acknowledge, export_alerts, export_pictures, judge, list_alerts, show_alert, utc_time
from edgead.commands.case_archive import write_case
from edgead.data.collection import open_collection, read_entries
from edgead.errors import ConfigError, DataError, EdgeadError, StorageError
from edgead.stream.control import Acknowledge
from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.records import Change

from ..stream.spool.builders import alert_id, closed, opened, record, spool, stored, with_picture

ROOT = Path(__file__).parents[2]


def test_lists_show_and_export(tmp_path: Path) -> None:
    """Newest first, by state and camera; one with its files; all as lines of JSON, oldest first."""
    with spool(tmp_path) as target:
        with_picture(target, 1)
        target.append(opened(2, camera="line 2", note="ä"))
        target.append(closed(1))
        assert [record["id"] for record in list_alerts(tmp_path)] == [alert_id(2), alert_id(1)]
        assert [record["id"] for record in list_alerts(tmp_path, state="closed")] == [alert_id(1)]
        assert [record["id"] for record in list_alerts(tmp_path, camera="line 2", limit=5)] == [alert_id(2)]
        assert len(list_alerts(tmp_path, limit=1)) == 1
        shown = show_alert(tmp_path, alert_id(1))
        assert shown["files"] == {"snapshot": str(tmp_path / f"{alert_id(1)}-snapshot.jpg")}
        lines: list[str] = []
        export_alerts(list_alerts(tmp_path), lines.append)
        assert [json.loads(line) for line in lines] == [stored(target, 1), stored(target, 2)]
        assert "ä" in lines[1]
    assert len(list_alerts(tmp_path)) == 2, "also without a stream"


def test_more_alerts_than_a_page(tmp_path: Path) -> None:
    """Every one is there, once."""
    with spool(tmp_path) as target:
        target._archive.write([Change(opened(number)) for number in range(1200)])
        target._archive.export_pending = lambda limit=0: 0  # type: ignore[method-assign]  # 1200 synced files take long
    ids = [record["id"] for record in list_alerts(tmp_path)]
    assert len(ids) == len(set(ids)) == 1200
    assert ids == [alert_id(number) for number in reversed(range(1200))]


def test_acknowledging_beside_a_running_stream(tmp_path: Path) -> None:
    """Another process acknowledges: the stream's spool has it, its machines hear of it, the file shows it."""
    with spool(tmp_path) as target:
        target.append(opened(1))
        code = f"""
from pathlib import Path
from edgead.commands.alerts import acknowledge
print(acknowledge(Path({str(tmp_path)!r}), {alert_id(1)!r}, note="seen", who="Ada")["acknowledged_by"])
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "Ada\n"
        assert target.poll_acknowledgements() == [Acknowledge(alert_id(1), "Ada")]
        record = target.alert(alert_id(1))
        assert record is not None
        assert record.note == "seen"
        assert json.loads((tmp_path / f"{alert_id(1)}.json").read_text()) == record.as_json()
        assert target.wait_for_events(1, 0.0), "sinks hear of it too"
        with pytest.raises(EdgeadError, match=r"already acknowledged, at .* by Ada") as caught:
            acknowledge(tmp_path, alert_id(1))
        assert f"edgead alerts judge {alert_id(1)} --as" in caught.value.hint


def test_a_held_alert_is_closed_without_a_stream(tmp_path: Path) -> None:
    """And the next stream tells the sinks."""
    with spool(tmp_path) as target:
        target.append(opened(1, state="held", latched=True))
    record = acknowledge(tmp_path, alert_id(1))
    assert (record["state"], record["ended_by"]) == ("closed", "acknowledged")
    assert record["acknowledged_by"]
    with spool(tmp_path) as target:
        assert target.held_alerts() == []
        assert [event.kind for event in target.events()][1:] == ["alert_acknowledged", "alert_closed"]


def test_an_alert_is_judged_beside_a_running_stream(tmp_path: Path) -> None:
    """The stream's spool and the record file have it; a second opinion is refused, named, and replaces the first if asked to."""
    with spool(tmp_path) as target:
        target.append(opened(1))
        target.append(opened(2))
        assert judge(tmp_path, alert_id(1), "false-alarm", kind="dust", who="Ada")["judgement_kind"] == "dust"
        assert stored(target, 1)["judged_by"] == "Ada"
        assert json.loads((tmp_path / f"{alert_id(1)}.json").read_text()) == stored(target, 1)
        with pytest.raises(EdgeadError, match=r"already judged false-alarm \(dust\) by Ada") as caught:
            judge(tmp_path, alert_id(1), "defect", who="Bob")
        assert "--replace" in caught.value.hint
        assert judge(tmp_path, alert_id(1), "defect", who="Bob", replace=True)["judged_by"] == "Bob"
        assert [record["id"] for record in list_alerts(tmp_path, judged="defect")] == [alert_id(1)]
        assert [record["id"] for record in list_alerts(tmp_path, judged="unjudged")] == [alert_id(2)]
        with pytest.raises(EdgeadError, match="no alert 'gone'"):
            judge(tmp_path, "gone", "defect")
        with pytest.raises(ConfigError, match=r"defect, false-alarm, unsure.*'dust'"):
            judge(tmp_path, alert_id(1), "dust")
        with pytest.raises(ConfigError, match=r"unjudged, judged, defect.*'dust'"):
            list_alerts(tmp_path, judged="dust")


def test_the_pictures_of_judged_alerts_are_a_folder_with_an_index(tmp_path: Path) -> None:
    """Each once, as it is stored, with what people found; a second export adds what is new and the judgement in force."""
    folder, out = tmp_path / "alerts", tmp_path / "case"
    with spool(folder) as target:
        with_picture(target, 1, 10)
        with_picture(target, 2, 20, opened_at="2026-11-24T02:15:00.000Z")
        target.append(opened(3))
    judge(folder, alert_id(1), "false-alarm", kind="dust", who="Ada")
    judge(folder, alert_id(2), "defect", who="Ada")
    first = export_pictures(folder, out, list_alerts(folder, judged="false-alarm"))
    assert (first.n_alerts, first.n_new, first.n_missing) == (1, 1, 0)
    judge(folder, alert_id(1), "unsure", who="Bob", replace=True)
    second = export_pictures(folder, out, list_alerts(folder))
    assert (second.n_alerts, second.n_new, second.n_known, second.n_missing) == (3, 1, 1, 1)
    entries = list(read_entries(out).values())
    assert [(one.alert, one.verdict, one.camera) for one in entries] == [
        (alert_id(1), "unsure", "line 1"), (alert_id(2), "defect", "line 1"),
    ]  # fmt: skip
    assert [(out / one.path).read_bytes() for one in entries] == [b"x" * 10, b"x" * 20]
    assert len((out / "records.jsonl").read_text().splitlines()) == 3
    assert [one["id"] for one in list_alerts(folder, since="2026-11-24")] == [alert_id(2)]
    assert len(list_alerts(folder, until="2026-11-24T02:15:00Z")) == 2
    with pytest.raises(ConfigError, match="'yesterday' cannot be read as a date or a time") as caught:
        list_alerts(folder, since="yesterday")
    assert "2026-11-23T06:00+01:00" in caught.value.hint
    assert utc_time("2026-11-23T06:00+01:00") == utc_time("2026-11-23T05:00")
    with pytest.raises(ConfigError, match=r"--state must be one of open, .*, got 'shut'"):
        list_alerts(folder, state="shut")
    with pytest.raises(ConfigError, match=r"--judged must be one of .*, got 'bad'"):
        list_alerts(folder, judged="bad")


def test_a_picture_of_several_alerts_is_as_bad_as_the_worst_of_them(tmp_path: Path) -> None:
    """Also if that alert is not exported, or is judged after the picture was."""
    folder, out = tmp_path / "alerts", tmp_path / "case"
    with spool(folder) as target:
        with_picture(target, 1, 10)
        target.append(opened(2, pictures={"snapshot": f"{alert_id(1)}-snapshot.jpg"}))
    judge(folder, alert_id(1), "false-alarm")
    false_alarms = list_alerts(folder, judged="false-alarm")
    export_pictures(folder, out, false_alarms)
    assert [one.verdict for one in read_entries(out).values()] == ["unjudged"], "the other alert was not looked at"
    judge(folder, alert_id(2), "false-alarm")
    export_pictures(folder, out, false_alarms)
    assert [one.verdict for one in read_entries(out).values()] == ["false-alarm"]
    judge(folder, alert_id(2), "defect", replace=True)
    export_pictures(folder, tmp_path / "new", false_alarms)
    export_pictures(folder, out, list_alerts(folder, judged="defect"))
    for one in (tmp_path / "new", out):
        assert [entry.verdict for entry in read_entries(one).values()] == ["defect"]


def test_a_second_export_keeps_the_verdicts_given_in_the_folder(tmp_path: Path) -> None:
    """Whether its alert has no judgement or another one."""
    folder, out = tmp_path / "alerts", tmp_path / "case"
    with spool(folder) as target:
        with_picture(target, 1, 10)
    export_pictures(folder, out, list_alerts(folder))
    with open_collection(out) as collection:
        collection.change([replace(one, verdict="good", note="mine") for one in collection.entries.values()])
    export_pictures(folder, out, list_alerts(folder))
    judge(folder, alert_id(1), "unsure")
    export_pictures(folder, out, list_alerts(folder))
    assert [(one.verdict, one.note) for one in read_entries(out).values()] == [("good", "mine")]


def test_a_case_is_one_file_with_everything(tmp_path: Path) -> None:
    """Page, records, pictures and clips of the alerts that fit, each with its digest; what is gone is counted."""
    folder = tmp_path / "alerts"
    names = {
        kind: f"{alert_id(1)}-{kind}{'.mp4' if kind == 'clip' else '.jpg'}" for kind in ("snapshot", "heatmap", "clip")
    }
    with spool(folder) as target:
        for number, changes in (
            (1, {"pictures": names, "camera": "<line>"}),
            (2, {"pictures": {"snapshot": "gone.jpg"}}),
        ):
            target._archive.write([Change(patch=AlertRecord(**record(number, **changes)))])
    for kind, name in names.items():
        (folder / name).write_bytes(kind.encode())
    judge(folder, alert_id(1), "defect", kind="dent", who="ann")
    out = tmp_path / "case.zip"
    ran = CliRunner().invoke(app, ["alerts", "export", "--alerts", str(folder), "--archive", str(out)])
    assert ran.exit_code == 0, ran.output
    assert "2 alerts and 0 judged frames with 3 pictures and clips" in ran.stdout
    assert "1 are no longer stored" in ran.stdout
    with zipfile.ZipFile(out) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert set(content) == {f"alerts/{name}" for name in names.values()} | {"index.html", "records.jsonl", "SHA256SUMS"}
    assert content[f"alerts/{names['clip']}"] == b"clip"
    for line in content["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256(content[name]).hexdigest()
    page = content["index.html"].decode()
    assert "Judged defect (dent) by ann" in page
    assert "&lt;line&gt;" in page
    assert f'src="alerts/{names["heatmap"]}"' in page
    assert "not stored any more" in page
    with pytest.raises(DataError, match="there is no case to write"):
        write_case(folder, out, [], [])
    both = CliRunner().invoke(
        app, ["alerts", "export", "--alerts", str(folder), "--archive", str(out), "--pictures", "p"]
    )
    assert both.exit_code != 0


def test_what_is_not_there(tmp_path: Path) -> None:
    """A folder without alerts, an unknown alert and an unknown state are named."""
    with pytest.raises(StorageError, match=f"{tmp_path} holds no alerts"):
        list_alerts(tmp_path)
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
    with spool(tmp_path):
        pass
    for look in (show_alert, acknowledge):
        with pytest.raises(EdgeadError, match="no alert 'nothing'"):
            look(tmp_path, "nothing")
    with pytest.raises(ConfigError, match=r"open, held, closed.*'broken'"):
        list_alerts(tmp_path, state="broken")
    (tmp_path / "spool.sqlite").write_bytes(b"no database" * 1000)
    # reading falls back to the record files, of which there are none; writing would be lost
    assert list_alerts(tmp_path) == []
    with pytest.raises(StorageError, match="damaged") as caught:
        acknowledge(tmp_path, "nothing")
    assert "edgead stream" in caught.value.hint
