"""Cameras over REST: state, frames, scores and thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from edgead.errors import DataError
from edgead.manifest import ThresholdRecord
from edgead.stream.alerts import Alert
from edgead.stream.control import SetThreshold
from edgead.stream.notices import sentence
from edgead.stream.zone_monitor import RuleOptions, ZoneMonitor
from edgead.stream.zones import ZoneShape
from edgead.web.camera_answers import threshold_now
from edgead.web.camera_models import ThresholdRequest
from edgead.web.running_stream import AlarmForecast, RunningStream, ZoneFacts

from ..stream.fakes import BAD, GOOD, THRESHOLD
from .parts import (
    ALERT_ID,
    GOOD_SCORES,
    LEFT,
    LINE,
    SIDE,
    STARTED_WITH,
    Browser,
    carry_out,
    judged,
    make_stream,
    serving,
    tell,
    threshold_changed,
    unjudged,
)

CAMERA = f"/api/v1/cameras/{LINE}"


def test_info_and_page(stream: RunningStream, browser: Browser) -> None:
    """The facts of the stream, and the page without login."""
    tell(stream.monitor)
    info = browser.get("/api/v1/info").json
    assert info["bundle"] == {"digest": "sha256:ab", "model": "usf", "classes": ["disc"], "changed": None}
    assert info["engine"] == {"name": "onnxruntime-fp32", "device": "cpu", "ms": 7.5}
    assert info["cameras"] == [LINE, SIDE]
    assert info["spool"]["free_mb"] == 1234.5
    assert info["sinks"] == [{"name": "mqtt", "depth": 3, "state": "ok", "detail": ""}]
    assert info["can"] == {"clips": False, "shadow": False, "learning": False}
    assert info["started_at"].endswith("Z")
    page = browser.ask("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")


def test_a_threshold_that_is_asked_about_counts_alerts(stream: RunningStream, browser: Browser) -> None:
    """Three of five frames raise an alert, single ones above the threshold none; a change and a stream without frames count nothing."""
    url = f"{CAMERA}/zones/picture/threshold"
    assert browser.get(f"{url}?value=0.25").json["past"] is None
    for index, value in enumerate([BAD, GOOD, GOOD] * 4 + [BAD] * 3 + [GOOD] * 6 + [BAD] * 3):
        stream.monitor.accept(judged(value=value, index=index))
    bad_score = BAD / 255 - 0.5
    past = browser.get(f"{url}?value={bad_score + 0.1}&seconds=60").json["past"]
    assert (past["alerts"], past["alerts_now"], past["at_most"]) == (0, 2, False)
    assert past["seconds"] < 60
    found = browser.get(f"{url}?value={bad_score - 0.05}").json
    assert (found["past"]["alerts"], found["warning"]) == (2, "")
    assert browser.send("PUT", url, {"value": bad_score - 0.05}).json["past"] is None
    facts = stream.facts.cameras[0]
    zones = tuple(replace(zone, rules=RuleOptions(open_frames=1, close_frames=2, min_area=0.1)) for zone in facts.zones)
    stream.facts = replace(stream.facts, cameras=(replace(facts, zones=zones), *stream.facts.cameras[1:]))
    past = browser.get(f"{url}?value={bad_score - 0.05}").json["past"]
    assert (past["alerts"], past["at_most"]) == (6, True)


def test_before_the_first_frame(browser: Browser) -> None:
    """Before the first frame every endpoint answers without data and without failure."""
    camera = browser.get(CAMERA).json
    assert (camera["state"], camera["verdict"], camera["size"], camera["delay_ms"]) == (
        "waiting",
        "waiting",
        None,
        None,
    )
    assert [(zone["name"], zone["score"], zone["threshold"]) for zone in camera["zones"]] == [
        ("picture", None, THRESHOLD),
        (LEFT, None, THRESHOLD),
    ]
    reply = browser.get(f"{CAMERA}/picture.jpg")
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert browser.get(f"{CAMERA}/scores").json["points"] == []
    assert browser.get("/api/v1/info").json["engine"]["ms"] is None


def test_a_camera_as_it_is(stream: RunningStream, browser: Browser) -> None:
    """Counters come from the stream, scores and alerts from the last frame, polygons and rates from the set-up."""
    tell(stream.monitor, is_alert_open=True, is_anomalous=True)
    stream.monitor.accept(judged(value=BAD, alert=Alert(1, 0.0, 0, 0.5, 0, severity="major")))
    cameras = browser.get("/api/v1/cameras").json
    assert [camera["name"] for camera in cameras] == [LINE, SIDE]
    camera = browser.get(CAMERA).json
    assert camera == cameras[0]
    assert (camera["class"], camera["verdict"], camera["size"], camera["fps"]) == ("disc", "alert", [48, 64], 9.87)
    assert (camera["n_captured"], camera["n_judged"], camera["n_dropped"], camera["restarts"]) == (5, 4, 1, 2)
    assert camera["delay_ms"]["p95"] >= camera["delay_ms"]["p50"] >= 0
    picture, left = camera["zones"]
    assert picture["alert"] == {"id": ALERT_ID, "state": "open", "severity": "major", "peak_score": 0.5}
    assert picture["is_anomalous"]
    assert picture["rate"] == {"false_alarm_rate": 0.01, "certified": True, "interval": None, "n_images": 99}
    assert picture["alarms_per_hour"] is None
    assert (picture["include"], left["include"]) == ([], [[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]]])
    assert left["alert"] is None


@pytest.mark.parametrize(
    ("changes", "fault", "verdict"),
    [
        ({}, None, "ok"),
        ({"is_anomalous": True}, None, "anomaly"),
        ({"is_held": True}, None, "held"),
        ({"is_held": True, "is_anomalous": True}, None, "anomaly"),
        ({"is_held": True}, "black", "fault"),
        ({"state": "resting"}, "black", "lost"),
        ({"state": "lost"}, None, "lost"),
        ({"state": "hung"}, None, "failed"),
        ({"state": "failed", "is_alert_open": True}, None, "alert"),
        ({"state": "something new"}, None, "ok"),
    ],
)
def test_the_most_urgent_verdict(tmp_path: Path, changes: dict[str, Any], fault: str | None, verdict: str) -> None:
    """The most urgent of several verdicts is shown."""
    from edgead.web.camera_answers import camera_answer

    stream = make_stream(tmp_path)
    stream.monitor.accept(judged())
    if fault is not None:
        stream.monitor.accept(unjudged(fault, value=3))
    tell(stream.monitor, **changes)
    assert camera_answer(stream, stream.facts.cameras[0]).verdict == verdict


def test_pictures(stream: RunningStream, browser: Browser) -> None:
    """A JPEG of the newest frame, as wide as asked, with its index; with and without the heatmap."""
    stream.monitor.accept(judged(value=BAD, index=12, size=(120, 160)))
    plain = browser.get(f"{CAMERA}/picture.jpg?width=80")
    assert plain.headers["content-type"] == "image/jpeg"
    assert plain.headers["x-frame"] == "12"
    assert plain.headers["cache-control"] == "no-store"
    decoded = cv2.imdecode(np.frombuffer(plain.body, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (60, 80, 3)
    assert browser.get(f"{CAMERA}/picture.jpg?width=80&heatmap=1").body != plain.body


def test_bad_queries(stream: RunningStream, browser: Browser) -> None:
    """Invalid values are refused; the message names the key and does not repeat the value."""
    stream.monitor.accept(judged())
    bad = ("picture.jpg?width=63", "picture.jpg?width=1921", "picture.jpg?width=x", "picture.jpg?heatmap=perhaps",
           "picture.jpg?hidden=1", "scores?seconds=0", "scores?seconds=nan", "scores?seconds=1e9")  # fmt: skip
    for query in bad:
        reply = browser.get(f"{CAMERA}/{query}")
        assert reply.status == 422, query
        assert reply.message.startswith(query.partition("?")[2].partition("=")[0])
        assert "perhaps" not in reply.message
    assert browser.get(f"{CAMERA}/scores?zone=nowhere").status == 404


def test_scores(stream: RunningStream, browser: Browser) -> None:
    """Points oldest first, with the alerts of that time."""
    for index in range(20):
        alert = Alert(1, 0.0, 0, 0.4, 0) if index >= 10 else None
        stream.monitor.accept(judged(value=BAD if index == 10 else 100, index=index, alert=alert))
    scores = browser.get(f"{CAMERA}/scores?zone=picture&seconds=60").json
    assert (scores["zone"], scores["threshold"], len(scores["points"])) == ("picture", THRESHOLD, 20)
    ages = [age for age, _, _ in scores["points"]]
    assert ages == sorted(ages, reverse=True)
    assert scores["points"][10][2] == pytest.approx(BAD / 255 - 0.5)
    ((opened, closed, alert_id),) = scores["alerts"]
    assert (closed, alert_id) == (None, ALERT_ID)
    assert 0 <= opened < 5
    assert browser.get(f"{CAMERA}/scores?zone={LEFT}").json["alerts"] == []


def test_scores_that_are_no_numbers(stream: RunningStream, browser: Browser) -> None:
    """JSON has no infinity: an engine's odd score becomes null and does not break the page."""
    odd = judged()
    object.__setattr__(odd.zones[0], "score", float("inf"))
    stream.monitor.accept(odd)
    reply = browser.get(CAMERA)
    assert reply.status == 200
    assert reply.json["zones"][0]["score"] is None


def test_unknown_cameras(browser: Browser) -> None:
    """Unknown names are refused, and the answer does not repeat them."""
    for name in ("nobody", "..", "%2e%2e", "line%00", "line%0d%0aX:y", "%F0%9F%98%80", "a" * 5000, "<b>"):
        reply = browser.get(f"/api/v1/cameras/{name}/scores")
        assert reply.status == 404, name
        assert name.encode() not in reply.body


def test_thresholds_are_asked_for(stream: RunningStream, browser: Browser) -> None:
    """The answer is what the zone's own watch will do, and the stream is asked to do it in that person's name."""
    path = f"{CAMERA}/zones/{LEFT}/threshold"
    for body in ({"value": 0.15}, {"false_alarm_rate": 0.05}):
        reply = browser.send("PUT", path, body)
        assert reply.status == 200
        (request,) = stream.control.take_all()
        value, rate = body.get("value"), body.get("false_alarm_rate")
        assert request == SetThreshold(LINE, LEFT, value, rate, "script")
        watch = ZoneMonitor(ZoneShape(), (2, 2), GOOD_SCORES, STARTED_WITH, RuleOptions())
        change = watch.set_threshold(value=value, false_alarm_rate=rate)
        answer = reply.json
        assert (answer["from"], answer["to"]) == (THRESHOLD, change.after.value)
        assert answer["rate"]["false_alarm_rate"] == change.after.false_alarm_rate
        assert answer["rate"]["certified"] == (rate is not None)
        assert ("certify" in answer["text"]) == (rate is not None)


def test_a_changed_threshold_is_told(stream: RunningStream, browser: Browser) -> None:
    """After the change the zone has the new threshold and the rate that was asked for, before any frame."""
    stream.monitor.accept(judged())
    to = browser.send("PUT", f"{CAMERA}/zones/picture/threshold", {"false_alarm_rate": 0.05}).json["to"]
    stream.monitor.accept(threshold_changed(THRESHOLD, to, rate=0.05))
    zone = browser.get(CAMERA).json["zones"][0]
    assert zone["threshold"] == to
    assert zone["rate"]["certified"]
    assert zone["rate"]["false_alarm_rate"] == 0.05


@pytest.mark.parametrize(
    ("body", "said"),
    [({"value": -5}, "every good picture would alarm"), ({"value": -1e-6}, "every good picture would alarm"),
     ({"value": 1e300}, "nothing could alarm"), ({"value": 20}, "nothing could alarm"),
     ({"false_alarm_rate": 1e-300}, "nothing could alarm")],
)  # fmt: skip
def test_a_threshold_that_cannot_be_meant_is_refused(
    stream: RunningStream, browser: Browser, body: dict[str, float], said: str
) -> None:
    """The answer gives the allowed range, its ends are accepted, and refused values do not reach the stream."""
    path = f"{CAMERA}/zones/picture/threshold"
    reply = browser.send("PUT", path, body)
    assert (reply.status, stream.control.take_all()) == (422, [])
    assert said in reply.message
    assert "It may be 0 (the smallest score of the good images) to 4.145 (" in reply.message
    for end in (0, 4.145):
        assert browser.send("PUT", path, {"value": end}).status == 200


def test_an_unusual_threshold_is_granted_loudly(stream: RunningStream, browser: Browser) -> None:
    """Answer and event warn about its effect; all endpoints still answer, and it can be reverted."""
    path = f"{CAMERA}/zones/picture/threshold"
    for body, said in (
        ({"value": 0.0}, "half of the good pictures or more"),
        ({"false_alarm_rate": 0.7}, "half of the good pictures or more"),
        ({"value": 3.0}, "only very strong anomalies"),
    ):
        answer = browser.send("PUT", path, body).json
        assert said in answer["text"]
        (notice_of_it,) = carry_out(stream)
        assert said in sentence(notice_of_it)
        for address in (CAMERA, "/api/v1/cameras", f"{CAMERA}/scores", "/metrics"):
            assert browser.get(address).status == 200, (body, address)
        assert browser.get(CAMERA).json["zones"][0]["threshold"] == answer["to"]
    assert browser.send("PUT", path, {"value": THRESHOLD}).json["to"] == THRESHOLD
    assert "Careful" not in sentence(carry_out(stream)[0])


@pytest.mark.parametrize("rate", [0.0, 1.0, 0.5])
def test_a_share_that_makes_no_threshold(tmp_path: Path, rate: float) -> None:
    """A value above or below all good scores, and a guess where there are too few, are told without an error."""
    stream = make_stream(tmp_path)
    facts = stream.facts.cameras[0]
    few = ZoneFacts(ZoneShape("picture"), STARTED_WITH, (0.1, 0.2))
    stream.monitor.accept(threshold_changed(THRESHOLD, -5.0, rate=rate))
    for zone in (facts.zones[0], few):
        assert threshold_now(stream, LINE, zone).value == -5.0


@pytest.mark.parametrize(
    "body",
    [{}, {"value": 1, "false_alarm_rate": 0.1}, {"value": "x"}, {"false_alarm_rate": 0}, {"false_alarm_rate": 1},
     {"alarms_per_hour": -1}, {"value": None}, {"value": 1, "extra": 2}, [], 3, "text", None],
)  # fmt: skip
def test_bad_thresholds(body: Any) -> None:
    """Exactly one of the three keys, in its range; other requests do not reach the stream."""
    with pytest.raises(ValidationError):
        ThresholdRequest.model_validate(body)
    assert not Draft202012Validator(ThresholdRequest.model_json_schema()).is_valid(body)


def test_the_schema_knows_good_thresholds() -> None:
    """The schema and the model accept each way of setting a threshold, with the unused ones left out or null."""
    for body in ({"value": 1.5}, {"false_alarm_rate": 0.1, "value": None}, {"alarms_per_hour": 2}):
        ThresholdRequest.model_validate(body)
        assert Draft202012Validator(ThresholdRequest.model_json_schema()).is_valid(body)


def test_bad_bodies(stream: RunningStream, browser: Browser) -> None:
    """No JSON, infinite numbers and other kinds of bodies are refused before the stream hears of them."""
    path = f"{CAMERA}/zones/picture/threshold"
    for content in (b"", b"{", b'{"value": NaN}', b'{"value": 1e999}', b"\xff\xfe", b"[" * 50_000):
        assert browser.send("PUT", path, content).status == 422, content[:20]
    headers = {**browser.bearer, "X-Edgead": "1", "Content-Type": "text/plain"}
    assert browser.ask("PUT", path, headers=headers, body=b'{"value": 1}').status == 415
    assert browser.send("PUT", f"{CAMERA}/zones/nowhere/threshold", {"value": 1}).status == 404
    assert browser.send("PUT", path, {"alarms_per_hour": 1}).status == 409
    assert stream.control.take_all() == []


def test_alarms_per_hour(tmp_path: Path, no_trace: None) -> None:
    """Where the stream can say what a threshold means per hour, zones and changes do; a refusal is an answer too."""
    wanted = ThresholdRecord(value=0.18, false_alarm_rate=0.002, certified=False, interval=(0.17, 0.2), n_images=99)

    def promise(camera: str, zone: str, per_hour: float) -> tuple[ThresholdRecord, str]:
        if per_hour < 1:
            raise DataError("99 good images do not tell.", hint="Watch longer.")
        return wanted, f"{camera}/{zone}: {per_hour:g} an hour"

    stream = make_stream(
        tmp_path,
        alarms_per_hour=lambda camera, zone, threshold: AlarmForecast(2.5, (1.0, 4.0), True, "At most 2.5 an hour."),
        promise=promise,
    )
    with serving(stream) as browser:
        zone = browser.get(CAMERA).json["zones"][0]
        assert zone["alarms_per_hour"] == {
            "per_hour": 2.5, "interval": [1.0, 4.0], "certified": True, "text": "At most 2.5 an hour.",
        }  # fmt: skip
        path = f"{CAMERA}/zones/picture/threshold"
        answer = browser.send("PUT", path, {"alarms_per_hour": 2}).json
        assert (answer["to"], answer["text"], answer["rate"]["interval"]) == (
            0.18,
            "line/picture: 2 an hour",
            [0.17, 0.2],
        )
        (request,) = stream.control.take_all()
        assert request == SetThreshold(
            LINE, "picture", None, None, "script", record=wanted, why="line/picture: 2 an hour", alarms_per_hour=2.0
        )  # fmt: skip
        reply = browser.send("PUT", path, {"alarms_per_hour": 0.1})
        assert (reply.status, reply.message, reply.json["error"]["hint"]) == (
            409, "99 good images do not tell.", "Watch longer.",
        )  # fmt: skip
        assert browser.send("PUT", path, {"value": 0.1}).json["text"].endswith("At most 2.5 an hour.")


def test_a_full_mailbox(stream: RunningStream, browser: Browser) -> None:
    """A full request mailbox is answered with 503."""
    while stream.control.put(SetThreshold(LINE, "picture", 1.0, None, "flood")):
        pass
    assert browser.send("PUT", f"{CAMERA}/zones/picture/threshold", {"value": 1}).status == 503
