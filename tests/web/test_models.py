"""Models of the line over REST: list, activate, roll back, and streams without a store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgead.line import model_control
from edgead.line.model_control import StoreControl
from edgead.line.model_health import HealthWatch
from edgead.line.model_store import ModelStore
from edgead.web.running_stream import RunningStream

from ..line.test_model_store import add
from .parts import ALERT_ID, Browser, MemoryStore, until

ROOT = "/api/v1/models"


@pytest.fixture
def models(stream: RunningStream, tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    add(store, "a")
    add(store, "b")
    stream.models = StoreControl(store)
    return store


def test_models_are_listed_activated_and_rolled_back(browser: Browser, models: ModelStore) -> None:
    """Who asks and the reason are recorded; the answer has what is active and what runs."""
    listed = browser.get(ROOT).json
    assert (listed["active"], listed["previous"], listed["running"]) == ("a" * 12, None, "sha256:ab")
    assert [one["name"] for one in listed["installed"]] == ["a" * 12, "b" * 12]
    reply = browser.send("POST", f"{ROOT}/activate", {"model": "b" * 12, "why": "finds scratches"})
    assert (reply.status, reply.json["active"], reply.json["previous"]) == (200, "b" * 12, "a" * 12)
    _, why = models.active()
    assert (why.who, why.why) == ("script", "finds scratches")
    reply = browser.send("POST", f"{ROOT}/rollback", {"why": "false alarms"})
    assert (reply.status, reply.json["active"]) == (200, "a" * 12)
    assert models.active()[1].kind == "rollback"


def test_a_roll_back_by_itself_is_said_and_counted(browser: Browser, models: ModelStore) -> None:
    """Info has the reason in words, the list has the model that was left, and a metric is 1 until the next change."""
    assert "edgead_model_rolled_back 0" in browser.get("/metrics").body.decode()
    models.activate("b" * 12, who="ann")
    first = models.read().installed[0]
    models.return_to(first, who="edgead", why="9 alarms within 5 minutes", only_from="b" * 12, is_unhealthy=True)
    assert browser.get("/api/v1/info").json["bundle"]["changed"].endswith(": 9 alarms within 5 minutes")
    assert browser.get(ROOT).json["activations"][-1]["left"] == "b" * 12
    assert "edgead_model_rolled_back 1" in browser.get("/metrics").body.decode()
    models.activate("b" * 12, who="ann")
    assert "edgead_model_rolled_back 0" in browser.get("/metrics").body.decode()


def test_a_roll_back_of_a_model_that_is_not_active_any_more(browser: Browser, models: ModelStore) -> None:
    """A page that is out of date does not roll back what another person has activated meanwhile."""
    models.activate("b" * 12, who="ann")
    reply = browser.send("POST", f"{ROOT}/rollback", {"active": "a" * 12})
    assert (reply.status, models.active()[0].name) == (409, "b" * 12)
    assert "b" * 12 in reply.message
    assert browser.send("POST", f"{ROOT}/rollback", {"active": "b" * 12}).json["active"] == "a" * 12


def test_the_watch_of_the_first_minutes_is_told(browser: Browser, stream: RunningStream, models: ModelStore) -> None:
    """The seconds and alarms so far and the most that are allowed; nothing once the model is settled."""
    watch = HealthWatch("sha256:ab", 12.0, 300.0, 1, 6)
    stream.models = StoreControl(models, watch=lambda: watch)
    assert browser.get(ROOT).json["watch"] == {
        "bundle": "sha256:ab", "seconds": 12.0, "of_s": 300.0, "alarms": 1, "most_alarms": 6,
    }  # fmt: skip
    stream.models = StoreControl(models)
    assert browser.get(ROOT).json["watch"] is None


def test_a_bundle_of_the_device_is_installed(
    browser: Browser, stream: RunningStream, models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers at once, the list says how far it is, and a second one has to wait; only people who are logged in may."""
    go = tmp_path / "go"
    program(
        tmp_path, monkeypatch, f'echo "verified" >&2; until [ -e {go} ]; do sleep 0.02; done; echo \'{{"name": "c"}}\''
    )
    (models.folder / "incoming" / "new" / "bundle").mkdir(parents=True)
    (models.folder / "incoming" / "new" / "bundle" / "bundle.json").touch()
    (models.folder / "incoming" / "empty").mkdir()
    assert browser.get(ROOT).json["installable"] == ["new"]
    asked = {"bundle": "new", "why": "new lens", "precision": "int8", "activate": True}
    assert browser.ask("POST", f"{ROOT}/install", body=asked).status == 403
    assert browser.ask("POST", f"{ROOT}/install", headers={"X-Edgead": "1"}, body=asked).status == 401
    reply = browser.send("POST", f"{ROOT}/install", asked)
    assert (reply.status, reply.json["installation"]["state"]) == (202, "running")
    assert until(lambda: browser.get(ROOT).json["installation"]["note"] == "verified")
    assert browser.send("POST", f"{ROOT}/install", asked).status == 503
    go.touch()
    assert until(lambda: browser.get(ROOT).json["installation"]["state"] == "done")
    assert browser.get(ROOT).json["installation"]["model"] == "c"
    words = (tmp_path / "words").read_text().splitlines()
    assert words[1:4] == ["edgead", "model", "install"]
    assert {"--who=script", "--why=new lens", "--int8", "--activate"} <= set(words)
    assert words[-2:] == ["--", str(models.folder / "incoming" / "new")]


@pytest.mark.parametrize("name", ["..", "../a", "empty", "link", "linked", ".hidden", "/etc", "gone", "a\x00b"])
def test_only_bundles_of_the_folder_are_installed(
    browser: Browser, models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No path, no link and no folder without a bundle; no process is started."""
    program(tmp_path, monkeypatch, "exit 0")
    incoming, elsewhere = models.folder / "incoming", tmp_path / "elsewhere"
    for folder in (elsewhere, incoming / ".hidden", incoming / "empty", incoming / "linked"):
        folder.mkdir(parents=True)
    for folder in (elsewhere, incoming / ".hidden"):
        (folder / "bundle.json").touch()
    (incoming / "link").symlink_to(elsewhere)
    (incoming / "linked" / "bundle").symlink_to(elsewhere)
    assert browser.get(ROOT).json["installable"] == []
    reply = browser.send("POST", f"{ROOT}/install", {"bundle": name})
    assert (reply.status, browser.get(ROOT).json["installation"]) == (404, None)
    assert not (tmp_path / "words").exists()


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A shell script in place of Python; it writes its arguments into the file `words`."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {folder / 'words'}\n{script}\n")
    path.chmod(0o700)
    monkeypatch.setattr(model_control.sys, "executable", str(path))


def test_what_cannot_be_done_is_said(browser: Browser, models: ModelStore) -> None:
    """An unknown model, no way back, a store that is being changed, and a request without a login."""
    assert browser.send("POST", f"{ROOT}/activate", {"model": "c"}).status == 404
    assert browser.send("POST", f"{ROOT}/rollback", {}).status == 409
    with models.changing():
        busy = browser.send("POST", f"{ROOT}/activate", {"model": "b" * 12})
    assert busy.status == 503
    assert "changes the models" in busy.message
    assert browser.ask("POST", f"{ROOT}/activate", body={"model": "b" * 12}).status in (401, 403)
    assert models.active()[0].name == "a" * 12


def test_what_cannot_be_learned_is_said(
    browser: Browser, stream: RunningStream, models: ModelStore, tmp_path: Path
) -> None:
    """An alert that is gone, a stream without alerts, and the words of `edgead learn` where it fails."""
    store = stream.store
    assert isinstance(store, MemoryStore)
    store.add(ALERT_ID)
    url = f"/api/v1/alerts/{ALERT_ID}/learn"
    assert browser.send("POST", "/api/v1/alerts/gone/learn", {}).status == 404
    reply = browser.send("POST", url, {})
    assert (reply.status, reply.message) == (409, "This stream keeps no alerts.")
    stream.models = StoreControl(models, tmp_path / "alerts")
    reply = browser.send("POST", url, {"sure": True})
    assert reply.status == 409
    assert "is not a bundle" in reply.message
    assert models.active()[0].name == "a" * 12


def test_one_false_alarm_is_learned_at_a_time(
    browser: Browser, stream: RunningStream, models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one has to wait, without a process of its own; one that is killed says so, and the next one may begin."""
    store = stream.store
    assert isinstance(store, MemoryStore)
    store.add(ALERT_ID)
    url, started, go = f"/api/v1/alerts/{ALERT_ID}/learn", tmp_path / "started", tmp_path / "go"
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho >> {started}\nuntil [ -e {go} ]; do sleep 0.02; done\nkill -9 $$\n")
    program.chmod(0o700)
    monkeypatch.setattr(model_control.sys, "executable", str(program))
    stream.models = StoreControl(models, tmp_path / "alerts")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(browser.send, "POST", url, {})
        assert until(started.exists)
        second = browser.send("POST", url, {})
        assert (second.status, second.message) == (503, "Another false alarm is being learned.")
        go.touch()
        killed = first.result()
    assert (killed.status, killed.message) == (503, f"The process that learned {ALERT_ID} was killed by signal 9.")
    assert started.read_text() == "\n"
    assert browser.send("POST", url, {}).message == killed.message


def test_a_stream_without_a_store(browser: Browser, stream: RunningStream) -> None:
    """The answer names the option."""
    stream.models = None
    reply = browser.get(ROOT)
    assert (reply.status, reply.message) == (404, "This stream has no model store.")
