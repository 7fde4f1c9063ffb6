"""Teaching a new part over REST."""

from __future__ import annotations

import pytest

from edgead.errors import ConfigError, StorageError
from edgead.web.running_stream import RunningStream

from .parts import LINE, PICTURE, Browser, FakeTeaching

TEACHING = f"/api/v1/cameras/{LINE}/teaching"


@pytest.fixture
def teaching(stream: RunningStream) -> FakeTeaching:
    stream.teaching = FakeTeaching()
    return stream.teaching


def test_the_state_is_told_in_full(browser: Browser, teaching: FakeTeaching) -> None:
    """While parts are shown, and with the verdict, whose scores count in the end."""
    found = browser.get(TEACHING).json
    assert (found["state"], found["who"], found["pictures"], found["left_out"]) == (
        "collecting",
        "ana",
        [PICTURE],
        {"moving": 5},
    )
    assert (found["scores"], found["scoring"]) == ([{"picture": PICTURE, "score": 3.25}], [2, 5])
    assert (found["next"], found["verdict"]) == ({"pictures": 9, "rate": 0.1}, None)
    assert (found["silent_s"], found["earlier"]) == (1.2, {"pictures": 3, "version": 1})
    teaching.now = teaching.ended
    found = browser.get(TEACHING).json
    assert (found["state"], found["next"], found["scores"][0]["score"]) == ("taught", None, 3.5)
    assert found["verdict"]["sentences"] == ["It promises.", "Warning: few."]


def test_what_people_do_reaches_the_teaching(browser: Browser, teaching: FakeTeaching) -> None:
    """With the name of the person, and with defaults for a person who stands at the camera."""
    for method, path, body in (
        ("POST", "", {}), ("POST", "", {"needs_rest": False, "every_s": 2, "refine": True}), ("POST", "/finish", None),
        ("POST", "/install", None), ("DELETE", f"/pictures/{PICTURE}", None), ("DELETE", "", None),
    ):  # fmt: skip
        reply = browser.send(method, TEACHING + path, body)
        assert (reply.status, reply.json["state"]) == (200, "collecting"), path
    assert teaching.asked == [
        ("start", LINE, "script", True, 1.0, False), ("start", LINE, "script", False, 2.0, True), ("finish", LINE),
        ("install", LINE, "script"), ("drop", LINE, PICTURE), ("cancel", LINE),
    ]  # fmt: skip
    picture = browser.get(f"{TEACHING}/pictures/{PICTURE}?width=64")
    assert (picture.status, picture.headers["content-type"], picture.body[:2]) == (200, "image/jpeg", b"\xff\xd8")


def test_refusals_say_why(browser: Browser, teaching: FakeTeaching) -> None:
    """An unknown camera or picture, values that make no sense, another person's teaching, a full disk, another site."""
    assert browser.get(TEACHING.replace(LINE, "none")).status == 404
    assert browser.get(f"{TEACHING}/pictures/other.png").status == 404
    assert browser.send("DELETE", f"{TEACHING}/pictures/other.png").status == 404
    assert browser.send("POST", TEACHING, {"every_s": -1}).status == 422
    assert browser.send("POST", TEACHING, {"base": "other"}).status == 422
    teaching.error = ConfigError("ana teaches on line.", hint="Wait.")
    reply = browser.send("POST", TEACHING, {})
    assert (reply.status, reply.message) == (409, "ana teaches on line.")
    teaching.error = StorageError("The disk is full.")
    assert browser.send("POST", TEACHING, {}).status == 503
    n_asked = len(teaching.asked)
    for method, path in (("POST", ""), ("POST", "/finish"), ("POST", "/install"), ("DELETE", "")):
        assert browser.ask(method, TEACHING + path, headers=browser.bearer, body={}).status == 403, "without X-Edgead"
        assert browser.ask(method, TEACHING + path, headers={"X-Edgead": "1"}, body={}).status == 401
    assert len(teaching.asked) == n_asked


def test_a_stream_without_a_base_says_so(browser: Browser) -> None:
    for reply in (browser.get(TEACHING), browser.send("POST", TEACHING, {})):
        assert (reply.status, reply.message) == (409, "This stream does not teach.")
