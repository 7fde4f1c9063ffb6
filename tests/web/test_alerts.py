"""Alerts over REST: pages, images and clips, acknowledgements, threshold changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgead.stream.consumers.clip_file import FORMATS
from edgead.stream.control import Acknowledge
from edgead.web.event_feed import EventFeed
from edgead.web.running_stream import RunningStream

from .parts import ALERT_ID, SIDE, Browser, MemoryStore, make_stream, serving


def test_alerts_come_in_pages(browser: Browser, store: MemoryStore) -> None:
    """Newest first, page by page, each once; by state and camera."""
    for second in range(7):
        store.add(f"20261123T02150{second}Z-aaaaaa", state="closed" if second % 2 else "open", new_key=[1])
    seen, before = [], ""
    while True:
        page = browser.get(f"/api/v1/alerts?limit=3{before}").json
        seen += [record["id"] for record in page["alerts"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seen == sorted(store.records, reverse=True)
    assert page["alerts"][0]["new_key"] == [1]
    closed = browser.get("/api/v1/alerts?state=closed").json["alerts"]
    assert [record["state"] for record in closed] == ["closed"] * 3
    assert browser.get(f"/api/v1/alerts?camera={SIDE}").json == {"alerts": [], "next": None}
    for query in ("state=gone", "limit=0", "limit=201", "before=" + "x" * 65):
        assert browser.get(f"/api/v1/alerts?{query}").status == 422, query


def test_images_and_clips(browser: Browser, store: MemoryStore) -> None:
    """Images and clips are served, clips also in ranges; a missing file is reported with its reason."""
    names = {"snapshot": f"{ALERT_ID}-snapshot.jpg", "clip": f"{ALERT_ID}-clip.webm", "peak": "gone.jpg"}
    store.add(ALERT_ID, pictures=names, pictures_missing={"heatmap": "disk_full"})
    (store.folder / names["snapshot"]).write_bytes(b"snapshot")
    (store.folder / names["clip"]).write_bytes(bytes(range(100)))
    snapshot = browser.get(f"/api/v1/alerts/{ALERT_ID}/snapshot")
    assert (snapshot.body, snapshot.headers["content-type"]) == (b"snapshot", "image/jpeg")
    path = f"/api/v1/alerts/{ALERT_ID}/clip"
    part = browser.ask("GET", path, headers={**browser.bearer, "Range": "bytes=10-19"})
    assert (part.status, part.body, part.headers["content-type"]) == (206, bytes(range(10, 20)), "video/webm")
    assert part.headers["content-range"] == "bytes 10-19/100"
    assert browser.ask("GET", path, headers={**browser.bearer, "Range": "bytes=200-"}).status == 416
    assert browser.get(f"/api/v1/alerts/{ALERT_ID}/peak").status == 404
    heatmap = browser.get(f"/api/v1/alerts/{ALERT_ID}/heatmap")
    assert (heatmap.status, heatmap.json["error"]["hint"]) == (404, "disk_full")


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_clip_is_said_to_be_a_video(browser: Browser, store: MemoryStore, suffix: str) -> None:
    """Every clip format has a video media type, because browsers must not guess."""
    name = f"{ALERT_ID}-clip{suffix}"
    store.add(ALERT_ID, pictures={"clip": name})
    (store.folder / name).write_bytes(b"clip")
    reply = browser.get(f"/api/v1/alerts/{ALERT_ID}/clip")
    assert reply.headers["content-type"].startswith("video/")


def test_links_are_not_served(browser: Browser, store: MemoryStore, tmp_path: Path) -> None:
    """A symbolic link in the folder does not expose other files."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    store.add(ALERT_ID, pictures={"snapshot": "link.jpg"})
    (store.folder / "link.jpg").symlink_to(secret)
    assert browser.get(f"/api/v1/alerts/{ALERT_ID}/snapshot").status == 404


def test_paths_lead_nowhere(browser: Browser, store: MemoryStore) -> None:
    """Ids and names of files are looked up, never used as paths."""
    store.add(ALERT_ID)
    bad = (
        "/api/v1/alerts/../../etc/passwd", "/api/v1/alerts/..%2f..%2fetc%2fpasswd/snapshot", f"/api/v1/alerts/{ALERT_ID}/..",
        f"/api/v1/alerts/{ALERT_ID}/record", f"/api/v1/alerts/{ALERT_ID}%00/snapshot", "/api/v1/alerts/%00",
        "/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/static/",
        "/static/index.html/", "//etc/passwd", "/..", "/static/" + "../" * 20 + "etc/passwd",
    )  # fmt: skip
    for path in bad:
        reply = browser.get(path)
        assert reply.status == 404, path
        assert b"root:" not in reply.body
        assert b"import" not in reply.body
    assert browser.raw(b"GET ../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").split(b" ", 2)[
        1
    ] in (b"400", b"404")


def test_an_alert_is_acknowledged_once(stream: RunningStream, browser: Browser, store: MemoryStore) -> None:
    """User and note are stored, the state machine is informed, and a second attempt is refused with the first user's name."""
    store.add(ALERT_ID)
    path = f"/api/v1/alerts/{ALERT_ID}/acknowledge"
    reply = browser.send("POST", path, {"note": " a scratch \u00fc\u2028 "})
    assert reply.status == 200
    assert (reply.json["acknowledged_by"], reply.json["note"]) == ("script", "a scratch \u00fc")
    assert stream.control.take_all() == [Acknowledge(ALERT_ID, "script")]
    again = browser.send("POST", path, {})
    assert again.status == 409
    assert again.message.startswith("The alert was already acknowledged by script at ")
    assert browser.send("POST", "/api/v1/alerts/unknown/acknowledge", {}).status == 404
    assert browser.send("POST", path, {"note": "x" * 501}).status == 422
    assert browser.send("POST", path, {"who": "somebody else"}).status == 422
    assert stream.control.take_all() == []


def test_an_alert_is_judged_under_the_name_of_the_user(browser: Browser, store: MemoryStore) -> None:
    """Kind and note are stored; an earlier judgement of another person is shown instead of overwritten; alerts are found by it."""
    store.add(ALERT_ID)
    store.add("20261123T021501Z-3f9a2c", camera=SIDE)
    path = f"/api/v1/alerts/{ALERT_ID}/judge"
    reply = browser.send("POST", path, {"judgement": "false-alarm", "kind": " dust ", "note": "n"})
    assert reply.status == 200
    assert (reply.json["judgement"], reply.json["judged_by"], reply.json["judgement_kind"]) == (
        "false-alarm", "script", "dust",
    )  # fmt: skip
    late = browser.send("POST", path, {"judgement": "defect"})
    assert late.status == 409
    assert late.message.startswith("The alert was already judged false-alarm (dust) by script at ")
    assert browser.send("POST", path, {"judgement": "defect", "instead_of": 1}).json["judgement"] == "defect"
    assert browser.send("POST", "/api/v1/alerts/unknown/judge", {"judgement": "defect"}).status == 404
    assert browser.send("POST", path, {"judgement": "dust"}).status == 422
    for judgement, n in (("defect", 1), ("false-alarm", 0), ("judged", 1), ("unjudged", 1)):
        assert len(browser.get(f"/api/v1/alerts?judgement={judgement}").json["alerts"]) == n, judgement
    assert browser.get("/api/v1/info").json["judged"] == {"defect": 1, "false_alarm": 0, "unsure": 0, "unjudged": 1}
    metrics = browser.get("/metrics").body.decode()
    assert 'edgead_alerts_by_judgement{camera="line",judgement="defect"} 1\n' in metrics
    assert 'edgead_alerts_by_judgement{camera="side",judgement="unjudged"} 1\n' in metrics


def test_changes_are_told_newest_first(tmp_path: Path, no_trace: None) -> None:
    """Threshold changes of the stored history and new ones, without other events."""
    stream = make_stream(tmp_path)
    store = stream.store
    assert isinstance(store, MemoryStore)
    for number in range(3):
        values = {"who": "Ada", "from": float(number), "to": number + 1.0}
        store.happen("threshold_changed", zone="left", values=values, detail="text")
        store.happen("camera_lost")
    with serving(stream) as browser:
        changes = browser.get("/api/v1/changes").json
        assert [(change["from"], change["to"]) for change in changes] == [(2.0, 3.0), (1.0, 2.0), (0.0, 1.0)]
        assert {key: changes[0][key] for key in ("zone", "who", "detail")} == {
            "zone": "left", "who": "Ada", "detail": "text",
        }  # fmt: skip


def test_a_feed_begins_at_the_end_of_the_history(tmp_path: Path) -> None:
    """A history of any length is followed from its end, including earlier threshold changes."""
    for n in (0, 1, 4, 1000):
        store = MemoryStore(tmp_path)
        for number in range(n):
            store.happen("threshold_changed", values={"to": number})
        for kept in (n, min(n, 3)):
            del store.history[: n - kept]
            feed = EventFeed(store)
            feed.open()
            assert feed.sequence == n
            assert len(feed.changes) == min(kept, 200)


def test_a_feed_goes_on_where_a_listener_was(tmp_path: Path) -> None:
    """Events older than the memory come from the store, without gaps or duplicates."""
    store = MemoryStore(tmp_path)
    for _ in range(5):
        store.happen("camera_lost")
    feed = EventFeed(store)
    feed.open()
    assert feed.since(5) == []
    for _ in range(700):
        store.happen("camera_back")
        feed.poll()
    for start in (0, 3, 5, 6, 204, 205, 206, 704):
        after, told = start, []
        while news := feed.since(after):
            told += [payload["sequence"] for payload in news]
            after = told[-1]
        assert told == list(range(start + 1, 706)), start


def test_a_store_that_fails_is_asked_again(tmp_path: Path) -> None:
    """A history that cannot be read for a while loses no event."""

    class Failing(MemoryStore):
        is_broken = False

        def events(self, after: int = 0, limit: int = 100) -> list:  # type: ignore[type-arg]
            if self.is_broken:
                raise OSError("disk")
            return super().events(after, limit)

    store = Failing(tmp_path)
    feed = EventFeed(store)
    feed.open()
    store.happen("camera_lost")
    store.is_broken = True
    feed.poll()
    store.is_broken = False
    assert feed.sequence == 0
    feed.poll()
    assert feed.sequence == 1
