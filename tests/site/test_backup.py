"""Backup and restore, the scripts of docs/site.md, on a folder that a stream writes to meanwhile."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from edgead.stream.spool.database import DATABASE

from ..stream.spool.builders import alert_id, closed, opened, spool, stored, with_picture

PAGE = Path(__file__).parents[2] / "docs/site.md"


def script(heading: str) -> str:
    """The script under a heading of the page."""
    part = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.search(r"```sh\n(.*?)```", part, re.S)
    assert found, heading
    return found[1]


def run(heading: str, alerts: Path, backup: Path) -> None:
    environment = {**os.environ, "ALERTS": str(alerts), "BACKUP": str(backup), "PYTHON": sys.executable}
    subprocess.run(["sh", "-c", script(heading)], check=True, env=environment, timeout=60)


def test_a_backup_while_the_stream_writes_is_whole(tmp_path: Path) -> None:
    """Everything from before the backup is there after a restore, with its images, and no event number comes twice."""
    alerts, backup = tmp_path / "alerts", tmp_path / "backup"
    stop = threading.Event()
    with spool(alerts) as target:
        for number in range(1, 41):
            with_picture(target, number)
            if number <= 39:
                target.append(closed(number))
        (alerts / ".thresholds.json").write_text("{}")

        def write_on() -> None:
            number = 100
            while not stop.is_set():
                with_picture(target, number)
                target.append(closed(number))
                number += 1

        writer = threading.Thread(target=write_on)
        writer.start()
        try:
            while target.alert(alert_id(105)) is None:
                pass
            run("Back up", alerts, backup)
        finally:
            stop.set()
            writer.join()
        last = target.last_sequence()
        n_last = len(list(alerts.glob("*-snapshot.jpg")))
    run("Restore", alerts, backup)
    (before,) = tmp_path.glob("alerts.before-restore-*")
    assert len(list(before.glob("*-snapshot.jpg"))) == n_last
    assert (alerts / ".thresholds.json").is_file()
    with spool(alerts) as restored:
        for number in (*range(1, 41), *range(100, 105)):
            record = stored(restored, number)
            assert record["state"] == "closed"
            assert record["ended_by"] == ("interrupted" if number == 40 else "quiet")
            assert (alerts / record["pictures"]["snapshot"]).stat().st_size == 1000
        assert restored.append(opened(9999)) > last
    with sqlite3.connect(alerts / DATABASE) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
