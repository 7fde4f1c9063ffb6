"""The monitor: histories, alert spans, counters and pictures, against recomputation and a real stream."""

from __future__ import annotations

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.stream.alerts import Alert
from edgead.stream.likeness import Unlikeness
from edgead.stream.monitoring.histogram import Histogram
from edgead.stream.monitoring.live_pictures import LivePictures
from edgead.stream.monitoring.monitor import POINTS, Monitor
from edgead.stream.monitoring.score_history import BUCKET_S, ScoreHistory, points
from edgead.stream.notices import FramesUnlike, ModelChanged
from edgead.stream.pipeline import run_stream

from ...web.parts import LEFT, LINE, fault_began, fault_ended, judged, lost, tell, unjudged
from ..fakes import BAD, GOOD, OPTIONS, SCALE, ListSource, ManualClock, camera, scorer


@given(
    st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(-5, 5, width=32)), min_size=1, max_size=150),
    st.integers(5, 60),
    st.floats(5.0, 900.0),
)
def test_a_history_keeps_every_extreme(steps: list[tuple[float, float]], recent: int, seconds: float) -> None:
    """Whatever was overwritten, the largest and smallest score of the asked time are in the points, and no foreign one."""
    history, now_s, seen = ScoreHistory(recent), 1000.0, []
    for step_s, score in steps:
        now_s += step_s
        history.add(now_s, score)
        seen.append((now_s, score))
    found = points(history.samples(now_s, seconds)(), now_s, seconds, 50)
    inside = [score for at_s, score in seen if at_s >= now_s - seconds]
    # a bucket that the asked time begins in counts whole
    around = [score for at_s, score in seen if at_s >= now_s - seconds - BUCKET_S]
    assert len(found) <= max(50, 1)
    assert max(around) >= max(point.high for point in found) >= max(inside)
    assert min(around) <= min(point.low for point in found) <= min(inside)
    ages = [point.age_s for point in found]
    assert ages == sorted(ages, reverse=True)
    assert all(0 <= age <= seconds + 0.01 for age in ages)


def test_single_frames_of_the_present_model_are_given() -> None:
    """Those of the asked time since the model took over, with the outages between them."""
    clock = ManualClock()
    monitor = Monitor({LINE: ["picture", LEFT]}, clock=clock)
    for second in range(10):
        clock.now_s = 100.0 + second
        monitor.accept(judged(index=second, value=BAD if second == 7 else GOOD))
        if second == 3:
            monitor.accept(ModelChanged("", 0.0, None, None, "ann"))
        if second == 5:
            monitor.accept(lost("unplugged"))
    found = monitor.frames(LINE, "picture", 600.0)
    assert found is not None
    assert found.times_s.tolist() == [104.0, 105.0, 106.0, 107.0, 108.0, 109.0]
    assert (found.breaks_s, found.seconds) == ([105.0], 5.0)
    assert int(found.scores.argmax()) == found.times_s.tolist().index(107.0)
    short = monitor.frames(LINE, "picture", 2.0)
    assert short is not None
    assert (short.times_s.tolist(), short.seconds) == ([107.0, 108.0, 109.0], 2.0)
    assert monitor.frames(LINE, "nowhere", 2.0) is None


def test_a_history_forgets_after_a_day() -> None:
    """Scores older than a day are dropped, newer ones are kept, and memory stays constant."""
    history = ScoreHistory(recent=100)
    before = history.nbytes
    for second in range(0, 100_000, 5):
        history.add(float(second), 9.0 if second == 50_000 else 8.0 if second == 13_000 else 1.0)
    found = points(history.samples(99_999.0, 86_400)(), 99_999.0, 86_400, POINTS)
    assert history.nbytes == before
    assert max(point.high for point in found) == 9.0
    peak = next(point for point in found if point.high == 9.0)
    assert peak.age_s == pytest.approx(49_999, abs=86_400 / POINTS + BUCKET_S)
    assert len(found) <= POINTS


def test_memory_of_a_zone() -> None:
    """A zone's day takes less than half a megabyte."""
    assert Monitor({LINE: ["picture"]}).history_bytes < 400_000


def test_a_histogram_counts_as_prometheus_does() -> None:
    """A bound belongs to its own band, and the last band has what is above all of them."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.add(value)
    view = histogram.view()
    assert view.cumulative == [2, 4, 5]
    assert (view.n, view.total) == (5, 104.0)
    with pytest.raises(ValueError, match="rise"):
        Histogram((2.0, 1.0))


def watched() -> tuple[Monitor, ManualClock]:
    clock = ManualClock()
    return Monitor({LINE: ["picture", LEFT]}, clock=clock), clock


def test_alerts_become_spans() -> None:
    """An alert that opens, is held and closes is one span; a held one has no end yet."""
    monitor, clock = watched()
    alert = Alert(1, 0.0, 0, 0.4, 0)
    for item in (judged(), judged(alert=alert), judged(alert=replace(alert, held_s=1.0))):
        monitor.accept(item)
        clock.now_s += 10
    history = monitor.history(LINE, "picture", 100)
    assert history is not None
    (span,) = history.alerts
    assert (span.opened_age_s, span.closed_age_s) == (20.0, None)
    monitor.accept(judged())
    clock.now_s += 7
    history = monitor.history(LINE, "picture", 100)
    assert history is not None
    assert [(span.opened_age_s, span.closed_age_s) for span in history.alerts] == [(27.0, 7.0)]
    clock.now_s += 100
    history = monitor.history(LINE, "picture", 100)
    assert history is not None
    assert history.alerts == []


def test_missed_results_cost_no_alert() -> None:
    """Alerts are counted by their number, so that one whose results a slow monitor missed still counts."""
    monitor, _ = watched()
    monitor.accept(judged(alert=Alert(1, 0.0, 0, 0.4, 0), alert_id="one"))
    monitor.accept(judged(alert=Alert(4, 0.0, 0, 0.4, 0), alert_id="four"))
    view = monitor.camera(LINE)
    assert view is not None
    assert view.n_zone_alerts == {"picture": 4, LEFT: 0}
    history = monitor.history(LINE, "picture", 100)
    assert history is not None
    assert [span.id for span in history.alerts] == ["one", "four"]
    assert history.alerts[0].closed_age_s is not None


def test_repeats_are_no_frames() -> None:
    """A result that only brings a late event adds neither score nor latency, and takes no unjudged picture away."""
    monitor, _ = watched()
    monitor.accept(judged())
    monitor.accept(unjudged("black", value=3))
    monitor.accept(judged(is_repeat=True))
    view = monitor.camera(LINE)
    assert view is not None
    assert view.end_to_end_s.n == view.levels["picture"].n == 1
    assert view.unjudged is not None
    assert view.fault == "black"


def test_faults_and_errors_come_and_go() -> None:
    """A fault lasts until the pictures are fine, the last error until there is another one."""
    monitor, _ = watched()
    monitor.accept(fault_began("frozen", value=9))
    view = monitor.camera(LINE)
    assert view is not None
    assert (view.fault, view.last_error) == ("frozen", None)
    monitor.accept(lost("no route"))
    monitor.accept(fault_ended())
    monitor.accept(judged())
    view = monitor.camera(LINE)
    assert view is not None
    assert (view.fault, view.last_error, view.unjudged) == (None, "no route", None)


def test_strangers_are_ignored() -> None:
    """Unannounced cameras and zones are not stored."""
    monitor = Monitor({LINE: ["other"]})
    monitor.accept(judged())
    monitor.accept(judged("side"))
    view = monitor.camera(LINE)
    assert view is not None
    assert view.levels["other"].n == 0
    assert monitor.camera("side") is None
    assert monitor.history(LINE, "picture", 10) is None


def test_a_monitor_that_hears_nothing_says_so() -> None:
    """The seconds since the last account grow until there is another one."""
    monitor, clock = watched()
    clock.now_s += 3
    assert monitor.silent_s == 3
    tell(monitor)
    assert monitor.silent_s == 0
    clock.now_s += 8
    assert monitor.silent_s == 8


def test_viewers_share_pictures() -> None:
    """However many ask, a picture is drawn once; another one not before a tenth of a second is over."""
    monitor, clock = watched()
    pictures = LivePictures(monitor, {LINE: SCALE}, opacity=0.6, clock=clock)
    assert pictures.picture(LINE, heatmap=True, width=640) is None
    assert pictures.picture("nobody", heatmap=True, width=640) is None
    monitor.accept(judged())
    first = [pictures.picture(LINE, heatmap=True, width=640) for _ in range(5)]
    assert pictures.n_drawn == 1
    assert all(one is first[0] for one in first)
    monitor.accept(judged(index=1))
    clock.now_s += 0.05
    assert pictures.picture(LINE, heatmap=True, width=640) is first[0]
    clock.now_s += 0.06
    second = pictures.picture(LINE, heatmap=True, width=639)
    assert second is not None
    assert second.index == 1
    assert pictures.n_drawn == 2


def test_pictures_show_what_they_should() -> None:
    """The heatmap is on the bundle's scale, the width is kept, and an unjudged picture has no heatmap."""
    monitor, clock = watched()
    pictures = LivePictures(monitor, {LINE: SCALE}, opacity=0.6, clock=clock)

    def shown(heatmap: bool, width: int = 1920) -> np.ndarray:  # type: ignore[type-arg]
        clock.now_s += 1
        picture = pictures.picture(LINE, heatmap=heatmap, width=width)
        assert picture is not None
        decoded = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded

    monitor.accept(judged(value=BAD, size=(240, 320)))
    assert shown(False).shape == (240, 320, 3)
    assert shown(False, 64).shape == (48, 64, 3)
    assert np.ptp(shown(False).reshape(-1, 3).mean(0)) < 3
    assert np.ptp(shown(True).reshape(-1, 3).mean(0)) > 60
    monitor.accept(unjudged("black", value=30))
    assert abs(shown(True).mean() - 30) < 3


def test_cached_pictures_are_bounded() -> None:
    """Requests for every width leave at most 32 images in the cache."""
    monitor, clock = watched()
    pictures = LivePictures(monitor, {LINE: SCALE}, opacity=0.6, clock=clock)
    monitor.accept(judged())
    for width in range(64, 1920, 16):
        pictures.picture(LINE, heatmap=False, width=width)
    assert len(pictures._cache) == 32


def test_a_stream_is_monitored() -> None:
    """A real stream's frames, scores, alert and end are all there."""
    monitor = Monitor({LINE: ["picture"]})
    values = [GOOD] * 5 + [BAD] * 4 + [GOOD] * 4
    summary = run_stream(
        [camera(ListSource(values))], scorer(), [monitor], OPTIONS, stop=threading.Event(), on_status=monitor.update
    )
    view, history = monitor.camera(LINE), monitor.history(LINE, "picture", 60)
    assert view is not None
    assert history is not None
    assert view.end_to_end_s.n == summary.n_processed == len(values) == len(history.points)
    assert view.n_zone_alerts == {"picture": summary.n_alerts} == {"picture": 1}
    assert [span.closed_age_s is None for span in history.alerts] == [False]
    assert sum(point.high > 0.4 for point in history.points) == 4
    assert view.result is not None
    assert view.result.frame.index == len(values) - 1


def test_frames_that_are_unlike_stay_on_the_page() -> None:
    """The warning is shown from then on, although it is reported once."""
    monitor, _ = watched()
    view = monitor.camera(LINE)
    assert view is not None
    assert view.unlike is None
    notice = FramesUnlike(LINE, 0.0, "picture", Unlikeness(30, 30, 12.5, 99, 1))
    assert monitor.wants(notice)
    monitor.accept(notice)
    view = monitor.camera(LINE)
    assert view is not None
    assert view.unlike is not None
    assert view.unlike.startswith(
        "picture: the frames are unlike the training images: 30 of the last 30 score above 12.5"
    )
