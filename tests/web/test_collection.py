"""Collecting pictures of good parts over REST."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.data.collection import open_collection, read_entries
from edgead.stream.consumers.picture_collector import PictureCollector
from edgead.web.running_stream import RunningStream

from ..stream.fakes import GOOD
from .parts import LINE, SIDE, Browser, judged

COLLECTION = f"/api/v1/cameras/{LINE}/collection"


@pytest.fixture
def collector(stream: RunningStream, tmp_path: Path) -> PictureCollector:
    stream.collector = PictureCollector(tmp_path / "collected")
    return stream.collector


def test_it_is_started_watched_and_stopped(browser: Browser, collector: PictureCollector) -> None:
    """Counts since the start, who started it, and the folder; another camera is not concerned."""
    assert browser.get(COLLECTION).json["collecting"] is False
    started = browser.send("PUT", COLLECTION, {"collecting": True, "every_s": 0, "limit": 5})
    assert (started.status, started.json["collecting"], started.json["who"]) == (200, True, "script")
    shown = judged(value=GOOD, index=3)
    assert collector.wants(shown)
    collector.accept(shown)
    found = browser.get(COLLECTION).json
    assert (found["looked_at"], found["saved"], found["limit"], found["ended"]) == (1, 1, 5, "")
    assert found["folder"] == str(collector.folder)
    assert browser.get(COLLECTION.replace(LINE, SIDE)).json["collecting"] is False
    stopped = browser.send("PUT", COLLECTION, {"collecting": False}).json
    assert (stopped["collecting"], stopped["ended"], stopped["pictures"]) == (False, "stop", 1)
    assert len(read_entries(collector.folder)) == 1


def test_refusals_say_why(browser: Browser, collector: PictureCollector) -> None:
    """An unknown camera, values that make no sense, and a folder that another command is using."""
    assert browser.get(COLLECTION.replace(LINE, "none")).status == 404
    assert browser.send("PUT", COLLECTION, {"collecting": True, "every_s": -1}).status == 422
    assert browser.send("PUT", COLLECTION, {"every_s": 1}).status == 422
    with open_collection(collector.folder, create=True):
        reply = browser.send("PUT", COLLECTION, {"collecting": True})
    assert (reply.status, "Another edgead process" in reply.message) == (503, True)


def test_a_stream_without_a_folder_says_so(browser: Browser) -> None:
    reply = browser.send("PUT", COLLECTION, {"collecting": True})
    assert (reply.status, reply.message) == (409, "This stream has no folder for pictures.")
