"""`edgead stream --web` as a process, and a browser on it: page, REST interface, spool and inference together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgead.bundle_writer import write_bundle
from edgead.imaging import Image
from edgead.manifest import ClassThresholds, ThresholdRecord
from tests.tiny import make_files, make_manifest

from ..stream.servers import MjpegRequest, at_pace, jpeg, mjpeg_camera, part

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "a token of more than sixteen characters"
HOSTILE = "<img src=x onerror=alert(1)> Ada"
SIDE = 256
FPS = 10.0
THRESHOLD, INTERVAL = 0.2, (0.11, 0.44)

SCRIPT = """
import os, sys
from pathlib import Path
from edgead.bundle import open_bundle
from edgead.commands.stream import StreamOutputs, stream
from edgead.config.file import load_config
from edgead.runner import FakeRunner

class Notes:
    def note(self, text):
        print(text, flush=True)
    def update(self, task, done, total, detail=""):
        pass

folder, address, *places = sys.argv[1:]
cameras = [{"name": name, "source": f"http://{place}/"} for name, place in zip(("press", "mill"), places)]
config = load_config(None, {
    "web.address": address, "cameras": cameras, "alerts.latch": True, "stream.check_pictures": False,
    "clips.seconds_before": 1.0, "clips.seconds_after": 1.0, "stream.read_timeout_s": 1.0,
})
outputs = StreamOutputs(Path(folder) / "alerts")
stream(open_bundle(Path(folder) / "bundle"), FakeRunner((256, 256)), config.cameras, outputs, config=config,
       progress=Notes())
"""


class Line:
    """A camera over a conveyor; `is_bad` puts a bright spot on what it sees, `is_gone` hangs up."""

    def __init__(self) -> None:
        self.is_bad = False
        self.is_gone = False
        self.ended = threading.Event()

    def __call__(self, request: MjpegRequest, connection: int) -> None:
        if self.is_gone:
            request.send_error(503)
            return
        request.begin()
        for number in at_pace(FPS, 10_000):
            if self.is_gone or self.ended.is_set():
                return
            request.send(part(jpeg(self.picture(number))))

    def picture(self, number: int) -> Image:
        image = np.full((SIDE, SIDE, 3), 100, np.uint8)
        left = number * 8 % SIDE
        image[:, left : left + 16] = 115
        if self.is_bad:
            cv2.circle(image, (90, 120), 45, (250, 250, 250), cv2.FILLED)
        return image


class Device:
    """The running process."""

    def __init__(self, folder: Path, lines: tuple[Line, Line], places: tuple[str, str]) -> None:
        self.folder = folder
        self.press, self.mill = lines
        self._places = places
        self.port = _free_port()
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(self.folder), f"127.0.0.1:{self.port}", *self._places],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"EDGEAD_WEB_TOKEN": TOKEN},
        )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Dashboard: "):
                self.url = line.split()[1]
                return
        raise AssertionError(self._process.communicate()[1][-2000:])

    def stop(self) -> str:
        """Stop the process with SIGTERM, as a service manager does; returns its stderr."""
        self._process.send_signal(signal.SIGTERM)
        try:
            errors = self._process.communicate(timeout=60)[1]
        finally:
            self._process.kill()
            self._process.communicate()
        assert self._process.returncode == 0, errors[-2000:]
        return errors

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted((self.folder / "alerts").glob("2*.json"))]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def lines() -> Iterator[tuple[tuple[Line, Line], tuple[str, str]]]:
    press, mill = Line(), Line()
    with mjpeg_camera(press) as (first, _), mjpeg_camera(mill) as (second, _):
        try:
            yield (press, mill), (first, second)
        finally:
            press.ended.set()
            mill.ended.set()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """Two cameras; the threshold is an extrapolated one."""
    record = ThresholdRecord(value=THRESHOLD, false_alarm_rate=0.005, certified=False, interval=INTERVAL, n_images=60)
    scores = tuple(float(score) for score in np.linspace(0.0, 0.02, 60))
    thresholds = ClassThresholds(
        scores=scores, map_maxima=scores,
        threshold=record, pixel_threshold=record, heatmap_low=0.02, heatmap_high=0.5,
    )  # fmt: skip
    manifest = make_manifest((16, 16))
    manifest = manifest.model_copy(
        update={
            "thresholds": dict.fromkeys(manifest.thresholds, thresholds),
            "preprocessing": manifest.preprocessing.model_copy(update={"image_size": (SIDE, SIDE)}),
        }
    )
    write_bundle(tmp_path / "bundle", manifest, make_files(tmp_path / "sources"))
    with lines() as (both, places):
        made = Device(tmp_path, both, places)
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (tools/system_packages.sh)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@contextmanager
def page_of(browser: Browser, device: Device, **options: Any) -> Iterator[Page]:
    """A page, logged out; an error in its scripts fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    # what the content security policy refuses is told there alone
    page.on("console", lambda said: errors.append(said.text) if "Content Security" in said.text else None)
    page.on("dialog", lambda dialog: errors.append(f"a script of somebody else ran: {dialog.message}"))
    page.goto(device.url)
    page.wait_for_selector("#login-token")
    try:
        yield page
    finally:
        context.close()
    assert errors == []


def log_in(page: Page, name: str = "Ada") -> None:
    page.fill("#login-name", name)
    page.fill("#login-token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(".tile img[src]")


def shoot(page: Page, name: str) -> None:
    """Keep what is seen where EDGEAD_SHOTS says so, for people."""
    folder = os.environ.get("EDGEAD_SHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def pixels(page: Page) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The large live picture, `(64, 64, 3)`, RGB."""
    script = """async (image) => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [64, 64];
        const context = canvas.getContext("2d");
        await image.decode();
        context.drawImage(image, 0, 0, 64, 64);
        return [...context.getImageData(0, 0, 64, 64).data];
    }"""
    for _ in range(20):
        try:
            values = page.eval_on_selector(".picture.is-large img", script)
            return np.asarray(values, np.uint8).reshape(64, 64, 4)[..., :3]
        except Exception as error:  # the next picture came while this one was decoded
            caught = error
    raise caught


def until(condition: Callable[[], Any], timeout_s: float = 60.0) -> bool:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.1)
    return False


def wait_for(page: Page, expression: str, timeout_s: float = 60.0) -> None:
    """Replacement for `wait_for_function`, which the content security policy blocks."""
    safe = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
    assert until(lambda: page.evaluate(safe), timeout_s), f"not within {timeout_s:g} s: {expression}"


def test_a_shift(browser: Browser, device: Device) -> None:
    """Login, live picture, heatmap, an alert that comes by itself, acknowledged and its clip seen, all by keyboard."""
    with page_of(browser, device) as page:
        page.fill("#login-name", HOSTILE)
        page.fill("#login-token", "wrong, and long enough")
        page.keyboard.press("Enter")
        wait_for(page, "document.querySelector('#login-error').textContent.includes('Wrong token')")
        log_in(page, HOSTILE)
        page.evaluate("window.isTheSamePage = true")
        page.keyboard.press("2")
        page.wait_for_selector(".picture.is-large img[src]")
        first = pixels(page)
        assert until(lambda: int(np.abs(pixels(page).astype(int) - first).max()) > 5), "the picture stands still"

        device.press.is_bad = True
        page.wait_for_selector("#toast a", timeout=60_000)
        assert "press" in page.inner_text("#toast")
        wait_for(page, "document.title.startsWith('(1)')")
        shoot(page, "alert-comes")

        page.keyboard.press("1")
        page.wait_for_selector(".picture.is-large img[src]")
        wait_for(page, "document.querySelector('.legend-values').textContent.includes('0.5')")
        assert until(lambda: colourfulness(pixels(page)) > 60), "the heatmap has no colours"
        shoot(page, "heatmap")
        page.keyboard.press("h")
        assert until(lambda: colourfulness(pixels(page)) < 12)
        device.press.is_bad = False

        page.keyboard.press("l")
        page.wait_for_selector(".alert-row")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_selector("#alert-note")
        page.keyboard.press("a")
        page.keyboard.type("Oil on the lens </textarea><b>wiped</b>")
        page.keyboard.press("Enter")
        wait_for(page, "document.querySelector('.acknowledged').textContent.includes('Oil on the lens')")
        assert until(lambda: device.records()[0]["acknowledged_by"] == HOSTILE)
        assert until(lambda: device.records()[0]["state"] == "closed")
        assert until(lambda: page.query_selector("[data-kind=clip]") is not None)
        page.click("[data-kind=clip]")
        wait_for(page, "document.querySelector('video')?.readyState >= 2")
        assert 0.5 < page.evaluate("document.querySelector('video').duration") < 10
        shoot(page, "acknowledged")
        assert page.evaluate("window.isTheSamePage") is True


def colourfulness(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """Largest difference between the channels of a pixel; a grey picture has a small one."""
    values = picture.astype(int)
    return int((values.max(axis=2) - values.min(axis=2)).max())


def test_a_threshold_is_changed(browser: Browser, device: Device) -> None:
    """The promise is one sentence, with its figures in their own units behind it; the change applies to the next frames and is recorded."""
    with page_of(browser, device) as page:
        log_in(page, "Grace")
        page.keyboard.press("1")
        page.wait_for_selector(".promise")
        assert page.inner_text(".promise") == "About 1 in 200 good pictures scores above this threshold."
        page.click("text=Details and earlier changes")
        figures = page.inner_text("details[open] .facts")
        assert "60 good pictures, too few to certify it; extrapolated" in figures
        assert "0.5 %" in figures
        # the interval of a record is one of scores, not of shares
        assert "0.110 to 0.440" in figures
        assert "11 %" not in figures

        device.press.is_bad = True
        page.wait_for_selector("#toast a", timeout=60_000)
        page.click("text=Change the threshold")
        page.select_option("#threshold-way", "value")
        page.fill("#threshold-value", "0.49")
        page.click("text=Review")
        page.wait_for_selector("dialog[open]")
        shoot(page, "review")
        page.keyboard.press("Tab")
        page.click("text=Change threshold")
        wait_for(page, "document.querySelector('.result').textContent.includes('0.490')")
        wait_for(page, "document.querySelector('table').textContent.includes('Grace')")
        wait_for(page, "document.querySelector('.zone-score').textContent.endsWith('threshold 0.490')")
        wait_for(page, "!document.querySelector('.zone-row').classList.contains('is-above')")
        shoot(page, "threshold")


def test_cut_off(browser: Browser, device: Device) -> None:
    """A lost camera, a device that is gone and one that is back again are seen without a reload."""
    with page_of(browser, device) as page:
        log_in(page)
        device.mill.is_gone = True
        page.wait_for_selector(".tile.is-lost", timeout=60_000)
        assert "mill" in page.inner_text("#overall")
        shoot(page, "lost")
        device.mill.is_gone = False
        page.wait_for_selector(".tile.is-lost", state="detached", timeout=60_000)
        assert "Traceback" not in device.stop()
        page.wait_for_selector("#banner:not([hidden])", timeout=60_000)
        shoot(page, "cut-off")
        device.start()
        page.wait_for_selector("#login-token", timeout=60_000)
        log_in(page)


def test_the_token_is_asked_for_once(browser: Browser, device: Device) -> None:
    """However many requests are refused at once when a login has ended: what is being typed stays."""
    with page_of(browser, device) as page:
        log_in(page)
        page.context.clear_cookies()
        forms = page.evaluate(
            """async () => {
                const { link } = await import("/static/api.js");
                let forms = 0;
                const count = (changes) => changes.forEach((one) => one.addedNodes.forEach((node) => {
                    forms += node.matches?.("form.login") ? 1 : 0;
                }));
                new MutationObserver(count).observe(document.getElementById("main"), { childList: true });
                for (let number = 0; number < 5; number += 1) link.dispatchEvent(new Event("login"));
                await new Promise((done) => setTimeout(done, 2000));
                return forms;
            }"""
        )
        assert forms == 1
        log_in(page)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)])
def test_for_everybody(browser: Browser, device: Device, scheme: str, width: int) -> None:
    """No view breaks a rule of axe, contrast included, and none is wider than the screen."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with page_of(browser, device, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        found = {"login": axe.run(page).response["violations"]}
        log_in(page)
        device.press.is_bad = True
        page.wait_for_selector(".tile.is-alert", timeout=60_000)
        for view, keys in {
            "overview": (),
            "camera": ("1", "h"),
            "alerts": ("l",),
            "alert": ("j", "Enter"),
            "system": ("s",),
        }.items():
            for key in keys:
                page.keyboard.press(key)
                page.wait_for_timeout(500)
            page.wait_for_timeout(500)
            found[view] = axe.run(page).response["violations"]
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, view
            shoot(page, f"{view}-{width}-{scheme}")
    assert {view: [one["id"] for one in violations] for view, violations in found.items() if violations} == {}
