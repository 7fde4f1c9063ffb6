"""Frames that are unlike the training images are found, and reported once."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.commands.evaluate import note_unlike
from edgead.evaluation.evaluate import ScoredImage
from edgead.stream.consumers.notice_event import notice_event
from edgead.stream.likeness import MIN_FRAMES, LikenessCheck
from edgead.stream.notices import FramesUnlike
from edgead.stream.pipeline import run_stream
from tests.notes import Notes

from .fakes import BAD, GOOD, OPTIONS, CollectingConsumer, ListSource, camera, scorer

GOOD_SCORES = tuple(np.random.default_rng(0).normal(10.0, 1.0, 99))


def first_finding(scores: list[float], fps: float = 2.0, stretch_s: float = 5.0) -> int | None:
    """Index of the frame with which the frames are found to be unlike; None if they are not."""
    check = LikenessCheck(GOOD_SCORES, stretch_s=stretch_s)
    found = [index for index, score in enumerate(scores) if check.add(score, index / fps)]
    assert len(found) <= 1
    return found[0] if found else None


def test_thirty_shifted_images_are_found() -> None:
    """A folder of 30 good images that all score far above the good ones, as JPEG against PNG, is found within it."""
    assert first_finding(list(np.random.default_rng(1).normal(20.0, 1.0, 30))) == MIN_FRAMES - 1


def test_a_change_of_light_after_hours_is_found() -> None:
    """The frames before it do not hide it."""
    scores = [*np.random.default_rng(2).normal(10.0, 1.0, 20_000), *[14.0] * 1000]
    found = first_finding(scores, fps=5.0, stretch_s=30.0)
    assert found is not None
    assert 20_000 < found < 20_000 + 6 * 151


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5])
def test_good_parts_and_some_defects_are_no_finding(share: float) -> None:
    """Frames like the good images, also with many defects among them."""
    random = np.random.default_rng(3)
    scores = np.where(random.random(20_000) < share, 30.0, random.normal(10.0, 1.0, 20_000))
    assert first_finding(list(scores)) is None


def test_a_defect_that_passes_is_no_finding() -> None:
    """A live camera sees it for 10 s; a stretch is longer."""
    scores = [10.0] * 500 + [30.0] * 250 + [10.0] * 500
    assert first_finding(scores, fps=25.0, stretch_s=30.0) is None


@given(st.lists(st.floats(-100.0, 100.0), max_size=9), st.lists(st.floats(-100.0, 100.0), max_size=60))
def test_too_few_good_images_find_nothing(good: list[float], scores: list[float]) -> None:
    """Fewer than ten good scores say too little about what good images reach."""
    check = LikenessCheck(good, stretch_s=0.0)
    assert not [score for score in scores if check.add(score, 0.0)]


def test_a_stream_reports_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """One notice to every consumer and one line in the log, which name the zone, the scores and what to do."""
    consumer = CollectingConsumer()
    source = ListSource([BAD] * 300, fps=4.0)
    with caplog.at_level(logging.WARNING):
        run_stream([camera(source)], scorer(), [consumer], OPTIONS, stop=threading.Event())
    (notice,) = consumer.notices
    assert isinstance(notice, FramesUnlike)
    event = notice_event(notice, "now")
    assert event is not None
    assert (event.kind, event.camera, event.zone) == ("frames_unlike", "line", "picture")
    assert event.values == {"n_frames": 21, "n_above": 21, "level": 0.0, "n_good": 99, "n_good_above": 0}
    assert "train with images from this camera" in event.detail
    assert caplog.text.count("unlike the training images") == 1


def test_a_stream_of_good_parts_reports_nothing() -> None:
    """Neither a file nor a live camera of good parts."""
    for live in (False, True):
        consumer = CollectingConsumer()
        source = ListSource([GOOD] * 200, live=live)
        run_stream([camera(source)], scorer(), [consumer], replace(OPTIONS), stop=threading.Event())
        assert consumer.notices == []


@pytest.mark.parametrize(("shift", "n_notes"), [(0.0, 0), (8.0, 1)])
def test_an_evaluation_warns_too(shift: float, n_notes: int) -> None:
    """Good test images that all score far above the held-out ones are named; defective ones do not count."""
    random, notes = np.random.default_rng(1), Notes()
    images = [
        ScoredImage(Path("x.png"), "part", "good", is_defective, score, np.zeros((1, 1), np.float32), (1, 1), None)
        for is_defective, scores in ((True, [40.0] * 30), (False, random.normal(10.0 + shift, 1.0, 30)))
        for score in scores
    ]
    note_unlike(images, GOOD_SCORES, notes)
    assert len(notes.texts) == n_notes
    if notes.texts:
        assert notes.texts[0].startswith(
            "Warning: the good test images are unlike the training images: 30 of 30 score above"
        )
