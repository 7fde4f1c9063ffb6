"""What a shadow found over REST and as metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgead.web.running_stream import RunningStream

from .parts import LINE, Browser, shadow_report

ROOT = "/api/v1/shadow"


@pytest.fixture
def folder(stream: RunningStream, tmp_path: Path) -> Path:
    stream.shadow = lambda: shadow_report(tmp_path)
    return tmp_path


def test_the_report_of_a_shadow(browser: Browser, folder: Path) -> None:
    """Counts, forecast, cost and words; the page is told that there is one."""
    report = browser.get(ROOT).json
    assert (report["judged"], report["only_shadow"], report["cameras"]["line"]["alerts"]) == (100, 5, 2)
    forecast = report["forecast"]
    assert forecast["low"] <= forecast["per_hour"] == 20.0 <= forecast["high"]
    assert report["cost"]["slowdown"] == pytest.approx(0.02)
    assert "anomalous for the shadow alone 5" in report["text"]
    assert browser.get("/api/v1/info").json["can"]["shadow"] is True


def test_every_key_is_documented() -> None:
    """Those of `report.json`, with those inside them."""
    page = (Path(__file__).parents[2] / "docs" / "update.md").read_text(encoding="utf-8")

    def keys(value: Any) -> set[str]:
        if isinstance(value, list | tuple):
            return set().union(*map(keys, value))
        return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()

    names = keys(shadow_report().to_json()) - {LINE}
    assert len(names) > 40
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_its_pictures(browser: Browser, folder: Path) -> None:
    """Names in the report are sent, and no other file of the folder is."""
    (folder / "secret.jpg").write_bytes(b"secret")
    reply = browser.get(f"{ROOT}/pictures/only-shadow-00001.jpg")
    assert (reply.status, reply.body) == (200, b"JPEG")
    for name in ("secret.jpg", "only-shadow-00002.jpg", "..%2Fsecret.jpg"):
        assert browser.get(f"{ROOT}/pictures/{name}").status == 404


def test_its_metrics(browser: Browser, folder: Path) -> None:
    """Frames by verdict, the ends of the forecast, and the cost."""
    lines = browser.get("/metrics").body.decode().splitlines()
    assert 'edgead_shadow_frames{camera="line",verdict="only_shadow"} 5' in lines
    assert 'edgead_shadow_frames{camera="line",verdict="same"} 94' in lines
    assert 'edgead_shadow_alarms_per_hour{end="expected"} 20' in lines
    assert "edgead_shadow_cpu_share 0.02" in lines


def test_a_stream_without_a_shadow(browser: Browser, stream: RunningStream) -> None:
    """The answer names the option, and nothing is exported."""
    reply = browser.get(ROOT)
    assert (reply.status, reply.message) == (404, "This stream has no shadow.")
    assert "shadow" not in browser.get("/metrics").body.decode()
