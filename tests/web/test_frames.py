"""Judging a frame without an alert over REST, and what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgead.data.collection import read_entries
from edgead.data.reader import read_image
from edgead.stream.judged_frames import MAX_HELD, JudgedFrames
from edgead.web.running_stream import RunningStream

from ..stream.fakes import BAD, GOOD
from .parts import LINE, SIDE, Browser, judged

FRAMES = f"/api/v1/cameras/{LINE}/frames"


@pytest.fixture
def folder(stream: RunningStream, tmp_path: Path) -> Path:
    stream.frames = JudgedFrames(tmp_path / "frames")
    return tmp_path / "frames"


def hold(browser: Browser, index: int | None = None) -> str:
    reply = browser.send("POST", FRAMES, {} if index is None else {"frame": index})
    assert reply.status == 201, reply.body
    return str(reply.json["id"])


def test_the_frame_that_was_shown_is_stored(browser: Browser, stream: RunningStream, folder: Path) -> None:
    """The original picture, not a later frame and not the heatmap, with score, time, verdict and person."""
    stream.monitor.accept(judged(value=BAD, index=7))
    assert browser.get(f"/api/v1/cameras/{LINE}/picture.jpg?heatmap=1").headers["x-frame"] == "7"
    stream.monitor.accept(judged(value=GOOD, index=8))
    held = hold(browser, 7)
    picture = browser.get(f"{FRAMES}/{held}/picture.jpg?width=64")
    assert (picture.status, picture.headers["content-type"]) == (200, "image/jpeg")
    reply = browser.send("POST", f"{FRAMES}/{held}/judge", {"judgement": "defect", "kind": "dent", "note": "edge"})
    assert (reply.status, reply.json["verdict"], reply.json["judged_by"]) == (200, "defect", "script")
    (entry,) = read_entries(folder).values()
    assert (entry.verdict, entry.kind, entry.note, entry.camera) == ("defect", "dent", "edge", LINE)
    assert entry.judged_at.endswith("Z")
    assert entry.time <= entry.judged_at
    assert entry.score is not None
    assert entry.threshold is not None
    assert entry.score > entry.threshold
    stored = read_image(folder / entry.path)
    assert (folder / entry.path).suffix == ".png"
    assert np.array_equal(stored, np.full((48, 64, 3), BAD, np.uint8))


def test_a_good_frame_that_alarmed_is_a_false_alarm(browser: Browser, stream: RunningStream, folder: Path) -> None:
    for value, verdict in ((BAD, "false-alarm"), (GOOD, "good")):
        stream.monitor.accept(judged(value=value, index=value))
        reply = browser.send("POST", f"{FRAMES}/{hold(browser)}/judge", {"judgement": "good"})
        assert reply.json["verdict"] == verdict
    assert [entry.is_good for entry in read_entries(folder).values()] == [True, True]


def test_another_judgement_needs_to_be_asked_for(browser: Browser, stream: RunningStream, folder: Path) -> None:
    """The same picture is there once; a second opinion replaces the first only with `again`."""
    stream.monitor.accept(judged(value=GOOD))
    address = f"{FRAMES}/{hold(browser)}/judge"
    assert browser.send("POST", address, {"judgement": "good"}).status == 200
    reply = browser.send("POST", f"{FRAMES}/{hold(browser)}/judge", {"judgement": "defect"})
    assert (reply.status, "already judged good by script" in reply.message) == (409, True)
    assert browser.send("POST", address, {"judgement": "good"}).status == 200
    assert browser.send("POST", address, {"judgement": "good", "note": "mine"}).status == 409
    assert browser.send("POST", address, {"judgement": "defect", "again": True}).json["verdict"] == "defect"
    assert [entry.verdict for entry in read_entries(folder).values()] == ["defect"]


def test_refusals_say_why(browser: Browser, stream: RunningStream, folder: Path) -> None:
    """No frame yet, another camera's frame, one that gave way, and a word that is no judgement."""
    assert browser.send("POST", FRAMES, {}).status == 503
    stream.monitor.accept(judged(value=GOOD))
    first = hold(browser)
    other = browser.send("POST", f"/api/v1/cameras/{SIDE}/frames/{first}/judge", {"judgement": "good"})
    assert (other.status, other.message) == (404, "This frame is not held any more.")
    assert browser.send("POST", f"{FRAMES}/{first}/judge", {"judgement": "fine"}).status == 422
    for _ in range(MAX_HELD):
        hold(browser)
    assert browser.send("POST", f"{FRAMES}/{first}/judge", {"judgement": "good"}).status == 404
    assert browser.get(f"{FRAMES}/{first}/picture.jpg").status == 404
    assert not folder.exists()


def test_a_stream_without_a_folder_says_so(browser: Browser, stream: RunningStream) -> None:
    stream.monitor.accept(judged(value=GOOD))
    reply = browser.send("POST", FRAMES, {})
    assert (reply.status, reply.message) == (409, "This stream has no folder for judged frames.")
