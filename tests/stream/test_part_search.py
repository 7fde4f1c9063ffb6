"""Fault of frames without the part, and that they are not judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np

from edgead.aligner import Aligner
from edgead.imaging import Image
from edgead.pose import AlignmentRule
from edgead.pose_finder import grey_picture, working_size
from edgead.runner import FakeRunner
from edgead.stream.frame import Frame
from edgead.stream.monitoring.camera_history import WatchedCamera
from edgead.stream.notices import FaultBegan, FaultEnded, UnjudgedFrame, sentence
from edgead.stream.part_search import KIND, PartMonitor
from edgead.stream.pipeline import run_stream
from edgead.stream.scorer import Scorer
from tools.moving_parts import STILL, moved_part

from .fakes import OPTIONS, CollectingConsumer, ListSource, camera

SIZE = (160, 160)
PART = moved_part("board", 1, SIZE, STILL)[0]
EMPTY: Image = np.random.default_rng(0).integers(20, 40, (*SIZE, 3), np.uint8)
RULE = AlignmentRule(angle_deg=20, shift=0.1, scale=0.08, usual_likeness=0.95, least_likeness=0.48)


def faults(lacking: list[bool], *, waits: bool) -> list[bool]:
    monitor = PartMonitor(waits=waits)
    return [monitor.observe(50 + i * 0.25, lacks_part=lacks) is not None for i, lacks in enumerate(lacking)]


def test_a_gap_between_parts_is_no_fault() -> None:
    """Frames that show no part for a second between two parts are left out without a word."""
    assert not any(faults(([True] * 4 + [False]) * 10, waits=True))


def test_a_part_that_stays_away_is_a_fault_until_it_is_back() -> None:
    """Two seconds without the part are a fault of a camera, which ends with the first part; a file counts at once."""
    assert faults([True] * 12 + [False], waits=True) == [False] * 8 + [True] * 4 + [False]
    assert faults([True, False, True], waits=False) == [True, False, True]


class Gaps(ListSource):
    """A live source whose conveyor is empty from frame 5 to 24."""

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        start_s = time.monotonic()
        for index in range(40):
            image = EMPTY if 5 <= index < 25 else PART
            yield Frame(image, index, start_s + index * 0.2, self.name)
            stop.wait(0.03)


def test_frames_without_the_part_are_reported_and_not_judged() -> None:
    """The stream says when the part is missing and when it is back, judges none of these frames, and raises no alert."""
    consumer = CollectingConsumer()
    aligner = Aligner(RULE, grey_picture(PART, working_size(SIZE)))
    scorer = Scorer(FakeRunner(SIZE), image_size=SIZE, aligner=aligner)
    summary = run_stream([camera(Gaps([], live=True))], scorer, [consumer], OPTIONS, stop=threading.Event())
    judged = {result.frame.index for result in consumer.results}
    assert judged
    assert not judged & set(range(5, 25))
    assert all(result.prediction.pose is not None for result in consumer.results)
    assert summary.n_unjudged > 0
    (began,) = [notice for notice in consumer.notices if isinstance(notice, FaultBegan)]
    assert (began.fault, "part is not found" in began.message) == (KIND, True)
    assert any(isinstance(notice, FaultEnded) for notice in consumer.notices)
    first = next(notice for notice in consumer.notices if isinstance(notice, UnjudgedFrame))
    assert (first.message, sentence(first)) == ("", "the part is not found")


def test_a_single_unjudged_frame_leaves_no_fault_on_the_dashboard() -> None:
    """A frame that is only suspected is shown as not judged; nothing would ever end a fault that did not begin."""
    history = WatchedCamera(["picture"])
    history.notice(UnjudgedFrame("line", 0.0, Frame(EMPTY, 0, 0.0, "line"), 0.0, message="", fault=KIND), 0.0)
    assert history.unjudged is not None
    assert history.fault is None
