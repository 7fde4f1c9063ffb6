"""Soak test: the ledger finds a loss, a second key and a wrong order; and a soak of three minutes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.soak.__main__ import SoakReport
from tools.soak.faults import Outcome
from tools.soak.ledger import compare
from tools.soak.parts import Received

WRITTEN = {1: "d-1", 2: "d-2", 3: "d-3"}


def arrived(*pairs: tuple[int, str]) -> list[Received]:
    return [Received(float(at), key, sequence, "alert_opened") for at, (sequence, key) in enumerate(pairs)]


def test_everything_in_order_is_kept_also_with_repeats() -> None:
    """The same event twice under the same key, also after a later one, is what at-least-once means."""
    found = compare(WRITTEN, arrived((1, "d-1"), (2, "d-2"), (1, "d-1"), (3, "d-3"), (3, "d-3")))
    assert found.is_kept
    assert (found.n_written, found.n_arrived, found.n_repeated) == (3, 3, 2)


def test_each_broken_promise_is_seen() -> None:
    """Lost, under another key, unknown to the spool, out of order."""
    assert compare(WRITTEN, arrived((1, "d-1"), (3, "d-3"))).lost == (2,)
    assert compare(WRITTEN, arrived((1, "d-1"), (2, "d-2"), (2, "e-2"), (3, "d-3"))).rekeyed == (2,)
    assert compare(WRITTEN, arrived((1, "d-1"), (2, "d-2"), (3, "d-3"), (4, "d-4"))).rekeyed == (4,)
    assert compare(WRITTEN, arrived((1, "d-1"), (3, "d-3"), (2, "d-2"))).disordered == (2,)
    for pairs in ([(1, "d-1")], [(2, "d-2"), (1, "d-1"), (3, "d-3")]):
        assert not compare(WRITTEN, arrived(*pairs)).is_kept


def report(**changes: object) -> SoakReport:
    kept = compare(WRITTEN, arrived((1, "d-1"), (2, "d-2"), (3, "d-3")))
    values: dict[str, object] = {
        "minutes": 30.0, "fps": 25.0, "outcomes": (Outcome("camera", 0.5, 2.0, 1.0),), "sinks": {"mqtt": kept},
        "n_alerts": 7, "memory_mb": (200.0, 209.0), "exit_status": 0,
    }  # fmt: skip
    return SoakReport(**{**values, **changes})  # type: ignore[arg-type]


def test_every_broken_promise_is_named() -> None:
    """A loss, no recovery, memory that grew, no alert at all, a stream that failed."""
    assert report().broken == []
    lost = compare(WRITTEN, arrived((1, "d-1")))
    for change, said in (
        ({"sinks": {"mqtt": lost}}, "mqtt"),
        ({"outcomes": (Outcome("camera", 0.5, None, 1.0),)}, "no recovery"),
        ({"memory_mb": (200.0, 211.0)}, "memory grew"),
        ({"n_alerts": 0}, "no alert"),
        ({"exit_status": -9}, "status -9"),
    ):
        (text,) = report(**change).broken
        assert said in text
    assert report(minutes=3.0, memory_mb=(200.0, 211.0)).broken == []  # its histories were still filling
    assert "memory grew" in report(minutes=3.0, memory_mb=(200.0, 221.0)).broken[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_minutes_of_faults(tmp_path: Path) -> None:
    """Camera, broker, receiver, disk and stream fail one after the other, and every promise is kept."""
    if os.getuid() != 0:
        pytest.skip("the soak mounts a disk, which needs root")
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("mosquitto is not installed")
    pytest.importorskip("gi")
    out = tmp_path / "soak"
    done = subprocess.run(
        [sys.executable, "-m", "tools.soak", "--minutes", "3", "--out", str(out)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((out / "report.json").read_text())
    assert len(found["outcomes"]) == 6
    assert {name for name, one in found["sinks"].items() if one["n_written"] > 20} == {"mqtt", "webhook", "jsonl"}
