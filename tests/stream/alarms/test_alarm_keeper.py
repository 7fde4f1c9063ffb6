"""Thresholds follow the frame rate that the stream has, and leave alone what a person has set."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgead.errors import DataError
from edgead.evaluation.alarm_rate import promise_from_images, promise_from_watch
from edgead.evaluation.pace import Pace
from edgead.prediction import Prediction
from edgead.stream.alarms.alarm_keeper import RENEW_S, AlarmBasis, AlarmKeeper
from edgead.stream.camera import Camera
from edgead.stream.control import OWN_NAME, Control, SetThreshold
from edgead.stream.frame import Frame
from edgead.stream.notices import ThresholdChanged, sentence
from edgead.stream.pipeline import run_stream
from edgead.stream.result import FrameResult, JudgedBy, ZoneVerdict

from ..fakes import GOOD, OPTIONS, CollectingConsumer, ListSource, camera, plain, scorer, watch

SCORES = tuple(np.random.default_rng(3).gumbel(size=300).tolist())
PLACE = ("line", "picture")


@pytest.fixture
def one() -> Camera:
    zone = watch()
    zone.good_scores, zone.typical = SCORES, float(np.median(SCORES))
    zone.set_threshold(record=promise_from_images(SCORES, 1.0, Pace(25.0, zone.rules.open_frames)).threshold)
    return camera(ListSource([GOOD]), zone)


def keeper(one: Camera, control: Control, *, basis: AlarmBasis = "images", wanted: float = 1.0) -> AlarmKeeper:
    return AlarmKeeper([one], control, assumed_fps=25.0, per_hour={PLACE: wanted}, basis=basis)


def show(
    consumer: AlarmKeeper,
    *,
    fps: float,
    seconds: float,
    seed: int = 0,
    begin_s: float = 0.0,
    judged_by: JudgedBy | None = None,
) -> None:
    """Good frames at a rate."""
    scores = np.random.default_rng(seed).gumbel(size=round(fps * seconds))
    picture = Prediction(np.zeros((2, 2), np.float32), 0.0, 1.0, 1.0)
    for index, score in enumerate(scores):
        frame = Frame(plain(GOOD, (2, 2)), index, 0.0, "x")
        verdict = ZoneVerdict("picture", float(score), 9.0, 1.0, False)
        consumer.accept(
            FrameResult("line", frame, picture, begin_s + index / fps, fps, fps, (verdict,), judged_by=judged_by)
        )


def told(
    one: Camera, who: str, *, place: tuple[str, str] = PLACE, alarms_per_hour: float | None = None
) -> ThresholdChanged:
    """A change that leaves the value as it is."""
    value = one.zones[0].threshold.value
    return ThresholdChanged(
        place[0], 0.0, zone=place[1], who=who, before=value, after=value, false_alarm_rate=0.01,
        alarms_per_hour=alarms_per_hour,
    )  # fmt: skip


def asked(control: Control) -> list[SetThreshold]:
    return [request for request in control.take_all() if isinstance(request, SetThreshold)]


def test_a_slower_stream_gets_the_lower_threshold_of_its_own_rate(one: Camera) -> None:
    """At 5 frames/s the same promise allows five times the rate per frame; the request says why and who."""
    control = Control()
    show(keeper(one, control), fps=5.0, seconds=RENEW_S + 1)
    (request,) = asked(control)
    expected = promise_from_images(SCORES, 1.0, Pace(5.0, one.zones[0].rules.open_frames))
    assert request.record is not None
    assert request.record.value == pytest.approx(expected.threshold.value, rel=0.02)
    assert request.record.value < one.zones[0].threshold.value
    assert request.who == OWN_NAME
    assert "At 5.0" in request.why


def test_a_request_names_the_model_whose_scores_it_is_about(one: Camera) -> None:
    """A change of the model that comes first then makes it void."""
    control, judge = Control(), JudgedBy("a", "fake-fp32")
    show(keeper(one, control), fps=5.0, seconds=RENEW_S + 1, judged_by=judge)
    (request,) = asked(control)
    assert request.judged_by == judge


def test_the_threshold_stays_where_the_rate_is_as_assumed(one: Camera) -> None:
    """Nothing is asked for at 25 frames/s, however long it runs."""
    control = Control()
    show(keeper(one, control), fps=25.0, seconds=3 * RENEW_S)
    assert asked(control) == []


def test_what_a_person_sets_is_left_alone(one: Camera) -> None:
    """After a person changes the threshold edgead requests no change; edgead's own changes do not count."""
    for who, n_requests in (("Ada", 0), (OWN_NAME, 1)):
        control = Control()
        consumer = keeper(one, control)
        consumer.accept(told(one, who))
        show(consumer, fps=5.0, seconds=RENEW_S + 1)
        assert len(asked(control)) == n_requests


def test_a_wish_at_run_time_is_answered_and_kept(one: Camera) -> None:
    """A rate set at run time gets a promise and is kept; unknown zones give None."""
    control = Control()
    consumer = keeper(one, control)
    promise = consumer.promise(*PLACE, 100.0)
    assert promise is not None
    assert "100 false alarms per hour" in promise.sentence
    assert consumer.promise("nowhere", "picture", 1.0) is None
    before = consumer.alarms(*PLACE)
    assert before is not None
    assert before.wanted_per_hour == 1.0
    consumer.accept(told(one, "Ada", alarms_per_hour=100.0))
    consumer.accept(told(one, "Ada", place=("nowhere", "picture"), alarms_per_hour=100.0))
    show(consumer, fps=25.0, seconds=RENEW_S + 1)
    (request,) = asked(control)
    assert request.record is not None
    assert request.record.value < one.zones[0].threshold.value
    assert request.alarms_per_hour == 100.0
    with pytest.raises(ValueError, match="above 0"):
        consumer.promise(*PLACE, 0.0)
    known = consumer.alarms(*PLACE)
    assert known is not None
    assert known.wanted_per_hour == 100.0
    assert known.implied is not None
    assert known.report.fps == pytest.approx(25.0, rel=0.01)
    assert consumer.alarms("nowhere", "picture") is None


def test_watched_hours_take_over_when_they_certify(one: Camera) -> None:
    """Fewer stretches than the promise needs are not used; enough of them give their own threshold."""
    control = Control()
    consumer = keeper(one, control, basis="watched", wanted=18.0)
    show(consumer, fps=25.0, seconds=RENEW_S + 1)
    early = asked(control)
    assert all("watched hours" not in request.why for request in early)
    show(consumer, fps=25.0, seconds=4 * RENEW_S, seed=1, begin_s=RENEW_S + 2)
    late = asked(control)
    assert late
    assert "watched hours" in late[-1].why
    levels = consumer._meters[PLACE].stretch_levels()
    assert late[-1].record is not None
    # the last look was up to a minute before the end
    n = late[-1].record.n_images
    assert late[-1].record == promise_from_watch(levels[:n], 10.0, 18.0).threshold


def test_a_zone_without_good_scores_has_no_promise(one: Camera) -> None:
    """Too few scores are an error of who asks; the meter keeps out of the way."""
    one.zones[0].good_scores = ()
    consumer = keeper(one, Control())
    show(consumer, fps=5.0, seconds=1.0)
    assert consumer.alarms(*PLACE) is None
    with pytest.raises(DataError, match="at least 5"):
        consumer.promise(*PLACE, 1.0)


def test_the_stream_carries_the_request_out(one: Camera) -> None:
    """From the frames' times to the notice of the change, through the pipeline."""
    control, consumer, stop = Control(), CollectingConsumer(), threading.Event()
    alarm_keeper = keeper(one, control)
    source = ListSource([GOOD] * 900, fps=5.0)
    one.source = source
    run_stream([one], scorer(), [alarm_keeper, consumer], OPTIONS, stop=stop, control=control)
    assert {notice.kind for notice in consumer.notices} == {"threshold_changed"}
    change = consumer.notices[0]
    assert isinstance(change, ThresholdChanged)
    assert change.who == OWN_NAME
    assert "At 5.0" in sentence(change)


def test_what_a_person_has_set_meanwhile_is_not_undone(one: Camera) -> None:
    """A person's threshold that the keeper has not heard of yet, before or after it asks, stays."""
    for first in (True, False):
        control, consumer, stop = Control(), CollectingConsumer(), threading.Event()
        alarm_keeper = keeper(one, control)
        of_person = SetThreshold(*PLACE, 7.0, None, "Ada")
        if first:
            control.put(of_person)
        show(alarm_keeper, fps=5.0, seconds=RENEW_S + 1)
        if not first:
            control.put(of_person)
        one.source = ListSource([GOOD] * 5, fps=5.0)
        run_stream([one], scorer(), [consumer], OPTIONS, stop=stop, control=control)
        assert one.zones[0].threshold.value == 7.0
        one.zones[0].set_threshold(value=9.0)


def test_hardly_any_alarms_are_a_promise_too() -> None:
    """A number that is all but 0 gives a very high threshold, not an error."""
    for per_hour in (1e-200, 5e-324):
        assert promise_from_images(SCORES, per_hour, Pace(25.0, 3)).threshold.value > 1e9
        assert promise_from_watch(SCORES, 10.0, per_hour).threshold.value > 1e9
