"""The report in a browser: the slider moves threshold, counts and pictures; nothing sticks out on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgead.evaluation.report import write_report

from .test_report import _mixed, _report

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which cannot be installed with pip"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The report of two classes, in a page that collects what the browser complains about."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, _report([*_mixed("bolt"), *_mixed("nut")]))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        shown = browser.new_page(viewport={"width": 1400, "height": 900})
        shown.complaints = []
        shown.on("console", lambda message: shown.complaints.append(message.text))
        shown.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.goto(Path(path).as_uri())
        yield shown
        browser.close()


def _move(page: Any, section: int, places: int) -> None:
    control = page.locator("section:has(.slider)").nth(section).locator("input[type=range]")
    control.focus()
    for _ in range(abs(places)):
        page.keyboard.press("ArrowRight" if places > 0 else "ArrowLeft")


def _cards(page: Any, section: int, group: str) -> list[float]:
    cards = page.locator("section:has(.slider)").nth(section).locator(f'[data-group="{group}"] .card')
    return [float(card.get_attribute("data-score")) for card in cards.all()]


def test_the_slider_moves_everything(page: Any) -> None:
    """Above the threshold 1.0 lie 7 of 9 defects and 2 of 13 good images; two steps higher there is one find less."""
    section = page.locator("section:has(.slider)").nth(0)
    assert "7 of 9 defective images found" in section.locator(".counts").inner_text()
    assert "2 of 13 good images" in section.locator(".counts").inner_text()
    before = section.locator(".threshold").get_attribute("x1")
    lowest_find = min(_cards(page, 0, "found"))
    _move(page, 0, 2)
    text = section.locator(".counts").inner_text()
    assert "6 of 9 defective images found" in text or "1 of 13 good images" in text
    assert float(section.locator(".threshold").get_attribute("x1")) > float(before)
    page.keyboard.press("End")
    assert "0 of 9 defective images found" in section.locator(".counts").inner_text()
    assert _cards(page, 0, "found") == []
    assert lowest_find in _cards(page, 0, "missed")
    assert _cards(page, 0, "missed") == sorted(_cards(page, 0, "missed"))
    assert section.locator('[data-group="found"] + .empty').is_visible()
    moved = section.locator(f'.card[data-score="{lowest_find}"]').first
    assert "missed" in moved.locator("figcaption b").inner_text()
    assert moved.locator(".own").is_visible()
    tile = page.locator('.tile[data-tile="found"]').inner_text()
    assert "7 of 18 defective images" in tile, "the other class is as it was"
    section.get_by_role("button").click()
    assert "7 of 9 defective images found" in section.locator(".counts").inner_text()
    assert lowest_find in _cards(page, 0, "found")
    assert page.complaints == []


def test_the_slider_says_how_many_pictures_are_not_here(page: Any) -> None:
    """The file has a few pictures of each group; at the lowest threshold all 13 good images are false alarms, and 5 are here."""
    section = page.locator("section:has(.slider)").nth(0)
    shown = section.locator('p.shown:has(+ [data-group="alarm"])')
    assert not shown.is_visible()
    _move(page, 0, -1)
    page.keyboard.press("Home")
    n = len(_cards(page, 0, "alarm"))
    assert 0 < n < 13
    assert shown.inner_text() == f"{n} of 13 shown."
    assert section.locator('p.shown:has(+ [data-group="fine"])').inner_text() == ""
    section.get_by_role("button").click()
    assert not shown.is_visible()
    assert section.locator('p.shown:has(+ [data-group="fine"])').inner_text() == "3 of 11 shown."


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1800, "light")])
def test_it_fits_and_is_accessible(page: Any, width: int, scheme: str) -> None:
    """Nothing but tables scrolls sideways, the page uses the width, and axe finds nothing in either colour scheme."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.body.clientWidth >= 0.95 * Math.min(innerWidth, 1900)")
    found = axe.Axe().run(page).response["violations"]
    assert [violation["id"] for violation in found] == []
    assert page.complaints == []


def test_it_prints_without_controls(page: Any) -> None:
    """On paper there is no slider, and no table is cut off by a scroll area."""
    page.emulate_media(media="print", color_scheme="light")
    assert not page.locator(".slider").first.is_visible()
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((e) => getComputedStyle(e).overflowX === 'visible')"
    )
    page.emulate_media(media="screen")
