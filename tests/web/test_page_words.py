"""Wording of the page for non-programmers: missing pictures, broken promises, unexplained numbers."""

from __future__ import annotations

from typing import Any

from . import test_page
from .fake_api import FakeDevice
from .test_page import DESK, PHONE, check_view, pytest, wait_for_text

pytestmark = test_page.pytestmark
browser, device, open_page = test_page.browser, test_page.device, test_page.open_page
SIZES = pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["server", "phone"])
UNLIKE = "picture: the frames are unlike the training images: train with images from this camera"


@SIZES
def test_a_lost_camera_says_why(open_page: Any, device: FakeDevice, size: dict[str, int], scheme: str) -> None:
    """The error stands on the tile and on the camera's page; frames per second of a lost camera would say nothing."""
    device.cameras["right"].verdict = "failed"
    page = open_page(size, scheme)
    wait_for_text(page, ".tile.is-failed .tile-problem", "^No route to host.$")
    assert not page.locator(".tile.is-failed .level").is_visible(), "a score that is none"
    check_view(page, "overview")
    page.evaluate("location.hash = '#/camera/right'")
    wait_for_text(page, ".camera-warning", "^No route to host.$")
    wait_for_text(page, "section:has(> #health-title) > p", "^No route to host.$")
    check_view(page, "camera")
    device.cameras["right"].verdict = "ok"
    wait_for_text(page, "section:has(> #health-title) > p", "^Judging 24.9 frames per second")
    assert not page.locator(".camera-warning").is_visible()


@SIZES
def test_a_promise_that_does_not_hold_is_not_green(
    open_page: Any, device: FakeDevice, size: dict[str, int], scheme: str
) -> None:
    """Frames unlike the training images: the warning stands by itself, and the certified promise no longer looks fine."""
    device.cameras["right"].is_certified = True
    page = open_page(size, scheme)
    page.evaluate("location.hash = '#/camera/right'")
    wait_for_text(page, ".promise.is-certified", "^At most 1 in 500 good pictures")
    assert not page.locator(".camera-warning").is_visible()
    device.cameras["right"].unlike = UNLIKE
    wait_for_text(page, ".camera-warning", "^The frames are unlike the training images: train .* camera.$")
    assert page.locator(".promise.is-certified").count() == 0
    check_view(page, "camera")
    # the overview says so, too, and goes on to show the score
    page.evaluate("location.hash = '#/'")
    wait_for_text(page, ".tile-problem:not(:empty)", "are unlike the training images")
    assert page.locator(".tile:has(.tile-problem:not(:empty)) .level").is_visible()
    check_view(page, "overview")


def test_the_question_names_the_new_threshold_and_why_a_lower_one_raises_fewer_alerts(
    open_page: Any, device: FakeDevice
) -> None:
    """Fewer alerts at a lower threshold look like a mistake, and a rate alone does not say where the line will lie."""
    page = open_page()
    page.evaluate("location.hash = '#/camera/right'")
    wait_for_text(page, "#threshold-title", "^Threshold$")
    page.click(".change summary")
    page.select_option("#threshold-way", "value")
    page.fill("#threshold-value", "3")
    wait_for_text(
        page, ".preview", "raised 3 alerts; .* raised 5. Fewer, because alerts last longer and run into each other."
    )
    page.fill("#threshold-value", "4.5")
    wait_for_text(page, ".preview", "raised 4 alerts; .* raised 5. About")
    page.keyboard.press("Enter")
    wait_for_text(page, "dialog dl", "Threshold now.*4.00.*New threshold.*4.50")
    wait_for_text(page, "dialog", "On right: set the threshold to 4.50.")
