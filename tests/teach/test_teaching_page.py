"""The page that teaches, in a real browser on a real stream: from parts in front of a camera to the model that judges, and back."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.commands.model import InstallOptions, install
from edgead.commands.stream import StreamOutputs, stream
from edgead.commands.teach import TeachResult
from edgead.config.file import load_config
from edgead.config.stream import CameraConfig
from edgead.errors import BundleError, ConfigError
from edgead.line.model_changer import LineModels
from edgead.line.model_store import ModelStore
from edgead.model import load
from edgead.progress import Silent
from edgead.runner import FakeRunner
from edgead.stream.frame import Frame
from edgead.stream.monitoring.meter import StreamSummary
from edgead.stream.sources.source import SourceReport
from edgead.stream.teaching import TeachingStatus
from edgead.teach.base import Base

from ..web.parts import LINE, TOKEN, FakeTeaching, judged, make_stream, serving, tell

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CAMERA = CameraConfig(name="camera", source="camera:0")
PHONE = {"width": 360, "height": 740}


class Fixture:
    """A live camera above a place where parts are laid; sensor noise, so that it is not frozen."""

    name, live, paced, fps = "camera:0", True, True, 10.0

    def __init__(self, first: NDArray[np.uint8]) -> None:
        self.report = SourceReport()
        self.part = first

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        random = np.random.default_rng(0)
        index = 0
        while not stop.wait(1 / self.fps):
            noise = random.integers(-1, 2, self.part.shape)
            image = np.clip(self.part.astype(np.int16) + noise, 0, 255).astype(np.uint8)
            yield Frame(image, index, index / self.fps, self.name)
            index += 1

    def __enter__(self) -> Fixture:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@contextmanager
def line(folder: Path, base: Path, source: Fixture) -> Iterator[tuple[str, list[StreamSummary]]]:
    """A stream with the active model of `folder/models`, on a thread; the address of its dashboard, and its end."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    config = load_config(None, {"web.address": address, "web.teach_base": str(base), "stream.check_pictures": False})
    store, stop, ended = ModelStore(folder / "models"), threading.Event(), list[StreamSummary]()
    active, _ = store.active()

    def run() -> None:
        with load(store.path(active), engine=active.engine, threads=1) as model:
            models = LineModels(store, active, lambda path, name: load(path, engine=name, threads=1), model)
            outputs = StreamOutputs(folder / "alerts")
            ended.append(
                stream(model.bundle, model.runner, [CAMERA], outputs, config=config, stop=stop, models=models,
                       sources={"camera": source})
            )  # fmt: skip

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://{address}/", ended
    finally:
        stop.set()
        thread.join(60.0)


@contextmanager
def page_of(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """A page that is logged in; an error in its scripts fails the test."""
    context = browser.new_context(reduced_motion="reduce", **options)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security" in said.text else None)
    for _ in range(300):
        try:
            page.goto(url)
            break
        except Exception:  # the stream is not there yet
            page.wait_for_timeout(200)
    page.fill("#login-name", "Ada")
    page.fill("#login-token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(".tile")
    try:
        yield page
    finally:
        context.close()
    assert errors == []


def says(page: Any, selector: str, pattern: str) -> None:
    sync_api.expect(page.locator(selector).first).to_contain_text(re.compile(pattern), timeout=60_000)


def shoot(page: Any, name: str) -> None:
    """Keep what is seen where EDGEAD_SHOTS says so, for people."""
    if folder := os.environ.get("EDGEAD_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (tools/system_packages.sh)")
def test_from_parts_to_the_model_that_judges_and_back(
    base: Base, taught: TeachResult, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are counted and scored, one is left out, the page is closed and opened on a phone, and the stream changes twice."""
    monkeypatch.setenv("EDGEAD_WEB_TOKEN", TOKEN)
    store = ModelStore(tmp_path / "models")
    first = install(store, taught.bundle.path, Silent(), InstallOptions(who="ann", threads=1))
    camera = Fixture(pictures[15])
    with sync_api.sync_playwright() as playwright, line(tmp_path, base.path, camera) as (url, ended):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        with page_of(browser, url, viewport={"width": 1440, "height": 900}) as page:
            page.goto(f"{url}#/camera/camera")
            page.click("a:has-text('Teach')")
            says(page, "h1", "Teach a new part on camera")
            shoot(page, "teach-1-start")
            page.click("button:has-text('Teach a new part')")
            says(page, ".taught-number", "^1 good part$")
            says(page, ".wide", "4 more parts for a first promise: at most 17 %")
            for number in range(2):
                camera.part = pictures[number]
                says(page, ".taught-number", f"^{number + 2} good parts$")
            says(page, ".narrow", "In motion")
            # what lies there between two parts
            shoot(page, "teach-2-desk")
            page.click("[aria-label='Leave out picture 1']")
            says(page, ".taught-number", "^2 good parts$")
            camera.part = pictures[15]
            says(page, ".taught-last", "left out by hand")
        with page_of(browser, url, viewport=PHONE, color_scheme="dark") as page:
            page.goto(f"{url}#/teach/camera")
            says(page, ".taught-number", "^2 good parts$")
            assert not page.is_visible("button:has-text('Teach a new part')")
            assert page.is_disabled("button:has-text('Finish')")
            for number in range(2, 5):
                camera.part = pictures[number]
                says(page, ".taught-number", f"^{number + 1} good parts$")
            sync_api.expect(page.locator(".left-out circle")).to_have_count(5, timeout=60_000)
            says(page, ".narrow", r"5 pictures, each judged by a model without it: .* would set the threshold")
            shoot(page, "teach-3-phone-collecting")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            page.click("button:has-text('Finish')")
            says(page, ".promise", "With 5 pictures at most 16.7% of good parts")
            shoot(page, "teach-4-phone-verdict")
            found = axe.Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            assert store.active()[0].name == first.name
            page.click("text=Install and activate")
            says(page, ".wide", "The taught model .* judges now")
            second, why = store.active()
            assert second.name != first.name
            assert (why.who, why.why) == ("Ada", "taught on camera with 5 pictures")
            shoot(page, "teach-5-phone-installed")
            page.click("text=Undo")
            says(page, ".wide", f"the active model is {first.name}")
            assert store.active()[0].name == first.name
            assert page.is_visible("text=Show more parts (5 so far)")
        browser.close()
    assert ended[0].ended_by == "stop"
    run = tmp_path / "alerts" / "taught" / "camera" / "0001"
    assert len(list((run / "pictures").glob("*.png"))) == 6


def test_teaching_needs_a_dashboard_a_store_and_a_whole_base(taught: TeachResult, base: Base, tmp_path: Path) -> None:
    """A stream that could not teach says so at its start."""
    config = load_config(None, {"web.teach_base": str(base.path)})
    outputs = StreamOutputs(tmp_path / "alerts")
    with pytest.raises(ConfigError, match="needs a dashboard, a folder for alerts and a model store"):
        stream(taught.bundle, FakeRunner((64, 64)), [CAMERA], outputs, config=config)
    config = load_config(None, {"web.teach_base": str(tmp_path), "web.address": "127.0.0.1:0"})
    models: Any = object()
    with pytest.raises(BundleError, match="is not a base bundle"):
        stream(taught.bundle, FakeRunner((64, 64)), [CAMERA], outputs, config=config, models=models)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (tools/system_packages.sh)")
def test_what_goes_wrong_has_words(tmp_path: Path) -> None:
    """A lost camera, another person's teaching, a refused request, and a full disk, on a phone; the camera's page leads there."""
    running = make_stream(tmp_path)
    teaching = running.teaching = FakeTeaching()
    tell(running.monitor)
    running.monitor.accept(judged())
    with sync_api.sync_playwright() as playwright, serving(running) as server:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        url = f"http://127.0.0.1:{server.port}/"
        with page_of(browser, url, viewport=PHONE) as page:
            page.goto(f"{url}#/camera/{LINE}")
            says(page, ".controls a", r"^Teaching \(1 part\)$")
            shoot(page, "teach-6-phone-camera")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            page.click(".controls a")
            says(page, ".taught-last", "^Moving.$")
            teaching.now = replace(teaching.now, silent_s=12.0)
            says(page, ".taught-last", "no picture for 12 s. The accepted pictures are kept")
            teaching.error = ConfigError("The model is being installed.", hint="Roll back afterwards.")
            page.click("text=Cancel")
            says(page, ".problem", "^The model is being installed. Roll back afterwards.$")
            teaching.now = replace(teaching.now, state="failed", problem="The disk is full. Free some space.")
            says(page, ".problem", "^The disk is full. Free some space.$")
            says(page, ".wide", "It ended with an error. The picture is kept")
            assert page.is_enabled("text=Show more parts (3 so far)")
            teaching.now = TeachingStatus(busy="ana teaches on side.")
            says(page, ".wide", "ana teaches on side.")
            assert page.is_disabled("button:has-text('Teach a new part')")
        browser.close()
