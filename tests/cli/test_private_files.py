"""Evidence is readable by the stream's user alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgead.storage import keep_files_private

from ..stream.spool.builders import spool

BUNDLE = Path(__file__).parents[1] / "fixtures" / "bundle-schema-1"


@pytest.mark.parametrize(
    ("before", "after"), [(0o022, 0o077), (0o002, 0o077), (0, 0o077), (0o027, 0o027), (0o007, 0o007), (0o077, 0o077)]
)
def test_a_mask_that_keeps_out_others_is_a_decision(before: int, after: int) -> None:
    """Files become private, unless the user or the unit already keeps out everyone but a group."""
    mask = os.umask(before)
    try:
        keep_files_private()
        assert os.umask(0) == after
    finally:
        os.umask(mask)


def test_the_folder_of_alerts_is_private(tmp_path: Path) -> None:
    """Also in a program of one's own, whose other files are its own business; a folder that is there keeps its mode."""
    with spool(tmp_path / "a" / "alerts") as target:
        assert stat.S_IMODE(target.folder.stat().st_mode) == 0o700
    (tmp_path / "shared").mkdir(mode=0o750)
    with spool(tmp_path / "shared") as target:
        assert stat.S_IMODE(target.folder.stat().st_mode) == 0o750


@pytest.mark.slow
def test_a_stream_writes_nothing_for_others(tmp_path: Path) -> None:
    """Records, pictures, clip, database, recording and lines of events: no bit for group and others."""
    settings = (
        "cameras: [{name: line, source: synthetic:disc, threshold: 1.0}]\n"
        "alerts: {open_frames: 1, window_frames: 1, close_frames: 1}\n"
        "clips: {seconds_before: 0.5, seconds_after: 0.5}\n"
        "sinks: [{kind: jsonl, path: events.jsonl}]\n"
    )
    (tmp_path / "line.yaml").write_text(settings)
    words = ["stream", str(BUNDLE), "--config", "line.yaml", "--engine", "reference", "--max-frames", "12"]
    done = subprocess.run(
        ["sh", "-c", 'umask 022; exec "$@"', "sh", sys.executable, "-m", "edgead", *words, "--record", "out.avi"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = [path for path in tmp_path.rglob("*") if path.name != "line.yaml"]
    suffixes = {path.suffix for path in made}
    assert {".json", ".jpg", ".sqlite", ".avi", ".jsonl"} <= suffixes
    assert [path for path in made if path.stat().st_mode & 0o077] == []
