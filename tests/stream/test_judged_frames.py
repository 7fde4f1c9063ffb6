"""Judged frames on disk: a full disk, a full folder, a kill in the middle, and what becomes of them in an export."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgead.commands.dataset import add_pictures
from edgead.commands.judged_frames import ExportedFrames, export_frames
from edgead.data.collection import INDEX, open_collection, read_entries
from edgead.data.snapshots import make_snapshot
from edgead.errors import StorageError
from edgead.stream.frame import Frame
from edgead.stream.judged_frames import FOLDER, HOLD_S, HeldFrame, HeldFrames, JudgedFrames
from edgead.stream.spool.judgements import frame_judged

from .fakes import GOOD, plain
from .spool.builders import spool

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from edgead.stream.frame import Frame
from edgead.stream.judged_frames import HeldFrame, JudgedFrames

frames = JudgedFrames(Path(sys.argv[1]))
for number in range(100_000):
    image = np.random.default_rng(number).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    held = HeldFrame("1", "line", Frame(image, number, 0.0, "fake"), "", None, None, False, "")
    frames.judge(held, "good", "Ada")
    print(number, flush=True)
"""


def frame(value: int, camera: str = "line", *, is_anomalous: bool = False) -> HeldFrame:
    image = plain(value, (48, 64))
    return HeldFrame(
        "1", camera, Frame(image, 0, 0.0, "fake"), "2026-11-23T02:15:00.000Z", 0.1, 0.2, is_anomalous, "ab"
    )


def test_a_full_disk_is_named_and_nothing_is_half_written(small_disk: Path) -> None:
    with pytest.raises(StorageError, match="Judging a frame needs 100 MB"):
        JudgedFrames(small_disk / FOLDER).judge(frame(GOOD), "good", "Ada")
    assert not (small_disk / FOLDER / INDEX).exists()


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    """The limit counts what is there; a judgement of a picture that is there is still possible."""
    frames = JudgedFrames(tmp_path, max_mb=0.001)
    frames.judge(frame(1), "good", "Ada")
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    with pytest.raises(StorageError, match="are allowed"):
        frames.judge(replace(frame(1), frame=Frame(noise, 0, 0.0, "fake")), "good", "Ada")
    frames.judge(frame(1), "defect", "Ada", again=True)
    assert [entry.verdict for entry in read_entries(tmp_path).values()] == ["defect"]


def test_another_process_in_the_folder_is_named(tmp_path: Path) -> None:
    with open_collection(tmp_path, create=True), pytest.raises(StorageError, match="changes"):
        JudgedFrames(tmp_path).judge(frame(GOOD), "good", "Ada")


def test_a_held_frame_is_forgotten_after_some_minutes() -> None:
    now = [0.0]
    held = HeldFrames(clock=lambda: now[0])
    held._held["x"] = (0.0, frame(GOOD))
    assert held.find("line", "x") is not None
    now[0] = HOLD_S + 1
    assert held.find("line", "x") is None


def test_each_judgement_is_an_event(tmp_path: Path) -> None:
    """Who judged what, of which picture, and what it replaces; the same judgement again is none."""
    with spool(tmp_path) as target:
        frames = JudgedFrames(
            tmp_path / FOLDER, report=lambda entry, before: target.append(frame_judged(entry, before))
        )
        frames.judge(frame(10), "defect", "Ada", kind="dent")
        frames.judge(frame(10), "defect", "Ada", kind="dent")
        frames.judge(frame(10), "good", "Bo", again=True)
        first, second = [event.payload for event in target.events()]
    assert (first["kind"], first["camera"], first["alert"]) == ("frame_judged", "line", None)
    assert (tmp_path / FOLDER / first["values"]["picture"]).is_file()
    names = ("who", "judgement", "kind", "instead_of", "score")
    assert [[one["values"][name] for name in names] for one in (first, second)] == [
        ["Ada", "defect", "dent", None, 0.1], ["Bo", "good", "", "defect", 0.1],
    ]  # fmt: skip


def test_an_export_takes_them_once_with_the_judgement_in_force(tmp_path: Path) -> None:
    """Filters hold; a later judgement is taken over, and one that was given in the folder stays."""
    frames, out = JudgedFrames(tmp_path / "alerts" / FOLDER), tmp_path / "case"
    frames.judge(frame(10), "defect", "Ada", kind="dent")
    frames.judge(frame(20, "other"), "good", "Ada")
    frames.judge(frame(30, is_anomalous=True), "good", "Ada")
    alerts = tmp_path / "alerts"
    assert export_frames(alerts, out, state="open").n_new == 0
    assert export_frames(alerts, out, judged="unjudged") == export_frames(alerts, out, since="2027-01-01")
    assert export_frames(alerts, tmp_path / "false", judged="false-alarm").n_new == 2
    assert export_frames(alerts, out, camera="other") == ExportedFrames(1, 0, 0)
    assert export_frames(alerts, out) == ExportedFrames(2, 1, 0)
    given = next(entry for entry in read_entries(out).values() if entry.camera == "other")
    with open_collection(out) as collection:
        collection.change([replace(given, verdict="unsure")])
    time.sleep(0.002)
    frames.judge(frame(10), "good", "Bo", again=True)
    assert export_frames(alerts, out) == ExportedFrames(0, 3, 0)
    assert {(one.verdict, one.judged_by) for one in read_entries(out).values()} == {
        ("good", "Bo"), ("unsure", "Ada"), ("false-alarm", "Ada"),
    }  # fmt: skip


def test_a_data_set_learns_from_them(tmp_path: Path) -> None:
    """`edgead dataset add` takes the folder itself; good pictures are learned from, defects tested with."""
    frames = JudgedFrames(tmp_path / FOLDER)
    frames.judge(frame(10), "defect", "Ada", kind="dent")
    frames.judge(frame(20), "good", "Ada")
    frames.judge(frame(30), "unsure", "Ada")
    add_pictures(tmp_path / "set", tmp_path / FOLDER)
    snapshot = make_snapshot(tmp_path / "set", read_entries(tmp_path / "set").values())
    assert (snapshot.n_good, snapshot.n_defects) == (1, 1)
    assert len(list(snapshot.root.glob("test/dent/*.png"))) == 1


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_whole_pictures(tmp_path: Path) -> None:
    """Every line of the index has its picture, and judging goes on."""
    out = tmp_path / FOLDER
    for wait_s in (0.0, 0.021):
        child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "0\n"
        time.sleep(wait_s)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        n_before = len(read_entries(out))
        JudgedFrames(out).judge(frame(len(str(wait_s)) + round(1000 * wait_s)), "good", "Ada")
        entries = read_entries(out)
        assert len(entries) == n_before + 1 >= 2
        for digest, entry in entries.items():
            assert hashlib.sha256((out / entry.path).read_bytes()).hexdigest() == digest
