"""Models of the line on the page System, in a real browser: activate, roll back, install, and undo what was learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from edgead.web.model_handlers import HealthWatch

from . import test_page
from .fake_api import FakeDevice
from .fake_models import FIRST, SECOND
from .test_page import DESK, HOSTILE, PHONE, check_markup, check_view, sync_api, wait_for_text

pytestmark = test_page.pytestmark
browser, device, open_page = test_page.browser, test_page.device, test_page.open_page
SIZES = pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["server", "phone"])


@dataclass
class Place:
    """Selectors of the card."""

    status: str = ".models-status"
    problem: str = "section:has(> .models) > .problem"
    dialog: str = "dialog[open]"


AT = Place()


@SIZES
def test_a_model_is_activated_watched_and_rolled_back(
    open_page: Any, device: FakeDevice, size: dict[str, int], scheme: str
) -> None:
    """Each change asks first and says what happens to the line; the card follows the line until the model judges."""
    models = device.models
    page = open_page(size, scheme)
    page.keyboard.press("s")
    wait_for_text(page, AT.status, f"^{FIRST} judges, since Bob activated it at .*: first")
    row = page.locator(f".model[data-name={SECOND}]")
    wait_for_text(
        page,
        f".model[data-name={SECOND}]",
        "onnxruntime-int8.*trained; made .*At most 25 % of good pictures score above its shipped threshold, 4.00",
    )
    wait_for_text(page, f".model[data-name={FIRST}]", "Judges now.*At most 1 in 200 good pictures scores above")
    assert not page.locator("text=Roll back to").is_visible()
    row.locator("button").click()
    wait_for_text(
        page,
        AT.dialog,
        f"judges on with {FIRST} until {SECOND} is opened.*no frame is lost.*engine changes from .*fp32 to .*int8",
    )
    assert page.evaluate("document.querySelector('#models-question').getBoundingClientRect().top") > 0
    check_view(page, "the question")
    models.error = "Another edgead process changes the models."
    page.fill("#models-why", "finds scratches")
    page.keyboard.press("Enter")
    wait_for_text(page, f"{AT.dialog} .problem", "changes the models")
    assert models.asked == []
    models.error = ""
    page.click(f"{AT.dialog} .primary")
    wait_for_text(page, AT.status, f"{SECOND} is being opened and checked; {FIRST} judges until it takes over")
    assert models.asked == [("activate", {"model": SECOND, "why": "finds scratches"}, "Ada")]
    models.running = SECOND
    models.watch = HealthWatch(bundle=(SECOND * 6)[:64], seconds=12.0, of_s=300.0, alarms=1, most_alarms=6)
    wait_for_text(page, AT.status, f"{SECOND} judges, since Ada activated it at .*: finds scratches")
    wait_for_text(
        page, f"{AT.status} + .hint", "first 5 min: 1 alarm in 12 s so far; more than 6 bring the model before back"
    )
    check_view(page, "models")
    models.watch = None
    page.click(f"text=Roll back to {FIRST}")
    wait_for_text(page, AT.dialog, f"{FIRST} is not watched")
    page.click(f"{AT.dialog} .primary")
    wait_for_text(page, AT.status, f"{FIRST} is being opened")
    assert models.asked[-1] == ("rollback", {"active": SECOND, "why": ""}, "Ada")
    # the picture of the good images behind a threshold is one click away, where the bundle has it
    links = page.locator(".models a").evaluate_all("all => all.map(one => one.href)")
    assert [link.split("/api/")[1] for link in links] == [f"v1/models/{FIRST}/threshold-images.jpg"]
    models.running = FIRST
    wait_for_text(page, AT.status, f"{FIRST} judges, since Ada rolled back to it")
    page.click("text=Earlier changes")
    assert page.locator("[aria-label='Changes of the active model'] tbody tr").count() == 3


def test_what_edgead_and_others_did_is_said(open_page: Any, device: FakeDevice) -> None:
    """A model that did not take over, one that was left, and a roll-back from a page that was out of date."""
    models = device.models
    page = open_page()
    page.keyboard.press("s")
    models.activate(SECOND, "Ada")
    wait_for_text(page, AT.status, f"{SECOND} is being opened")
    models.bring_back("its reference pictures differ")
    wait_for_text(
        page, AT.problem, f"^{SECOND} did not take over, and {FIRST} judges on: its reference pictures differ$"
    )
    models.activate(SECOND, "Ada")
    models.running = SECOND
    wait_for_text(page, AT.status, f"{SECOND} judges, since Ada")
    assert page.inner_text(AT.problem) == ""
    page.click(f"text=Roll back to {FIRST}")
    models.bring_back("9 alarms within 5 minutes", left=SECOND)
    page.click(f"{AT.dialog} .primary")
    wait_for_text(page, f"{AT.dialog} .problem", f"{FIRST} is active now and no longer {SECOND}")
    page.keyboard.press("Escape")
    wait_for_text(page, AT.problem, f"^{SECOND} was left again, and {FIRST} is back: 9 alarms within 5 minutes$")
    assert models.asked == []


@SIZES
def test_a_bundle_is_installed(open_page: Any, device: FakeDevice, size: dict[str, int], scheme: str) -> None:
    """It says where to copy a bundle, how far the installation is, and why it failed; names stay text."""
    models = device.models
    page = open_page(size, scheme)
    page.keyboard.press("s")
    page.click("text=Install a model")
    wait_for_text(page, "section:has(> .models)", "into the folder incoming of the model store")
    assert not page.locator("#install-bundle").is_visible()
    models.installable = ["new", HOSTILE]
    page.select_option("#install-bundle", HOSTILE)
    page.fill("#install-why", "new lens")
    button = page.locator("text='Install'")
    button.click()
    wait_for_text(page, "details + [role=status]", "^Installing .* … ")
    assert models.asked == [("install", {"bundle": HOSTILE, "why": "new lens"}, "Ada")]
    assert button.is_disabled()
    assert models.installation is not None
    models.installation = models.installation.model_copy(update={"note": "engine: built"})
    wait_for_text(page, "details + [role=status]", "engine: built$")
    check_view(page, "an installation")
    models.installation = models.installation.model_copy(
        update={"state": "failed", "error": "A digest is wrong.", "hint": "Copy it again."}
    )
    wait_for_text(page, "details + [role=status] + .problem", "was not installed: A digest is wrong. Copy it again.$")
    check_markup(page)
    models.installation = models.installation.model_copy(update={"state": "done", "model": "c" * 12, "error": ""})
    wait_for_text(page, "details + [role=status]", "as model cccccccccccc.$")
    assert button.is_enabled()


def test_a_line_without_a_store_shows_no_models(open_page: Any, device: FakeDevice) -> None:
    """There is nothing to choose from."""
    device.can_learn = False
    page = open_page()
    page.keyboard.press("s")
    page.wait_for_selector("text=Model and engine")
    page.wait_for_timeout(300)
    assert not page.locator("text=Models of the line").is_visible()


@SIZES
def test_what_was_learned_is_undone(open_page: Any, device: FakeDevice, size: dict[str, int], scheme: str) -> None:
    """Beside the button that learned it, also after the page was left; never another person's change."""
    alert = device.open_alert("left")
    page = open_page(size, scheme)
    page.goto(f"{device.url}#/alerts/{alert['id']}")
    page.click(".detail [data-judgement=false-alarm]")
    learn, undo = page.locator("text=Stop alarms like this"), page.locator("text=Undo: bring the model before back")
    learn.click()
    assert not undo.is_visible()
    page.click("text=It is a good part: learn it")
    undo.wait_for()
    assert not learn.is_visible()
    page.reload()
    wait_for_text(page, ".learn [role=status]", "^Learned: model 3f9a2c3f9a2c is active.$")
    undo.click()
    wait_for_text(page, ".learn [role=status]", f"^Undone: model {FIRST} is active again")
    assert not undo.is_visible()
    assert learn.is_visible()
    what, body, who = device.models.asked[-1]
    assert (what, body["active"], who) == ("rollback", "3f9a2c3f9a2c", "Ada")
    assert alert["id"] in body["why"]
    learn.click()
    page.click("text=It is a good part: learn it")
    undo.wait_for()
    device.models.activate(SECOND, "Bob")
    undo.click()
    wait_for_text(page, ".learn .problem", f"{SECOND} is active now and no longer 3f9a2c3f9a2c")
    assert len(device.models.asked) == 1
    check_view(page, "an alert that was learned")
    sync_api.expect(undo).to_be_visible()
