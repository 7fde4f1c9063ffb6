"""The dashboard in a real browser."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.web.fake_api import TOKEN, FakeCamera, FakeDevice
from tests.web.parts import shadow_report

sync_api = pytest.importorskip("playwright.sync_api")
sync_api.expect.set_options(timeout=60_000)
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (tools/system_packages.sh)"),
]
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}
HOSTILE = '"><img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>/&?#é'
ZONES = {"bore": [[[0.02, 0.1], [0.5, 0.1], [0.5, 0.9]]], "rim": [[[0.52, 0.1], [0.98, 0.1], [0.98, 0.9]]]}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    with FakeDevice(FakeCamera("left", zones=ZONES), FakeCamera("right")) as device:
        yield device


@pytest.fixture
def open_page(browser: Any, device: FakeDevice) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end there must be nothing in its console and no request to another host."""
    contexts: list[Any] = []
    problems: list[str] = []

    def opened(size: dict[str, int] = DESK, scheme: str = "light", *, log_in: bool = True) -> Any:
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("console", lambda message: is_problem(message) and problems.append(f"console: {message.text}"))
        page.on("request", lambda request: is_ours(request.url) or problems.append(f"request: {request.url}"))
        page.goto(device.url)
        if log_in:
            enter(page)
            page.wait_for_selector(".tile")
        return page

    def is_problem(message: Any) -> bool:
        # browsers log every answer that is not 2xx, also the 401 that leads to the login page
        return message.type == "error" and "Failed to load resource" not in message.text

    def is_ours(url: str) -> bool:
        return url.startswith("blob:") or urlsplit(url).netloc == urlsplit(device.url).netloc

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def enter(page: Any, token: str = TOKEN, name: str = "Ada") -> None:
    page.fill("#login-name", name)
    page.fill("#login-token", token)
    page.keyboard.press("Enter")


def until(page: Any, expression: str) -> None:
    """Wait for an expression; the browser's own way of waiting would need `eval`, which the page forbids."""
    assert any(page.evaluate(expression) for _ in pauses(page)), f"never came: {expression}"


def pauses(page: Any) -> Iterator[None]:
    """Pause 0.1 s between tries, for a minute at most."""
    for _ in range(600):
        yield
        page.wait_for_timeout(100)


def wait_for_text(page: Any, selector: str, pattern: str) -> None:
    sync_api.expect(page.locator(selector).first).to_have_text(re.compile(pattern), timeout=60_000)


def test_a_wrong_token_is_refused_and_the_right_one_lets_in(open_page: Any, device: FakeDevice) -> None:
    page = open_page(log_in=False)
    enter(page, token="wrong")
    wait_for_text(page, "#login-error", "token is wrong")
    assert page.locator(".tile").count() == 0
    enter(page)
    wait_for_text(page, "#overall", "All 2 cameras OK")
    assert list(device.sessions.values()) == ["Ada"]
    page.reload()
    page.wait_for_selector(".tile")
    page.keyboard.press("s")
    page.click("text=Log out")
    page.wait_for_selector("#login-token")


def test_the_live_picture_moves_and_shows_the_heatmap(open_page: Any, device: FakeDevice) -> None:
    page = open_page()
    page.keyboard.press("1")
    picture = page.locator(".picture.is-large img")
    until(page, "document.querySelector('.picture.is-large img')?.naturalWidth > 0")
    first = picture.screenshot()
    assert any(picture.screenshot() != first for _ in pauses(page)), "the picture stands still"
    before = warm_share(page)
    assert page.get_attribute("text=Heatmap >> nth=0", "aria-pressed") == "true"
    device.cameras["left"].is_bad = True
    until(page, f"({WARM}) > {before} + 0.003")
    page.keyboard.press("h")
    assert page.get_attribute("text=Heatmap >> nth=0", "aria-pressed") == "false"
    until(page, f"({WARM}) < {before} + 0.003")


# the share of pixels of the live picture that are clearly red
WARM = """(() => { const image = document.querySelector('.picture.is-large img');
  const canvas = document.createElement('canvas'); canvas.width = 160; canvas.height = 120;
  const context = canvas.getContext('2d'); context.drawImage(image, 0, 0, 160, 120);
  const data = context.getImageData(0, 0, 160, 120).data; let warm = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i] > 150 && data[i] > data[i + 2] + 60) warm += 1;
  return warm / (160 * 120); })()"""


def warm_share(page: Any) -> float:
    return float(page.evaluate(WARM))


def test_pictures_stop_while_hidden(open_page: Any, device: FakeDevice) -> None:
    page = open_page()
    page.keyboard.press("s")
    page.wait_for_selector("text=Model and engine")
    asked: list[str] = []
    page.on("request", lambda request: "picture.jpg" in request.url and asked.append(request.url))
    page.wait_for_timeout(600)
    assert asked == []
    page.keyboard.press("o")
    assert any(len(asked) >= 2 for _ in pauses(page)), "no pictures"
    before, before_s = len(asked), time.monotonic()
    page.wait_for_timeout(600)
    # a machine that pauses makes the wait longer, not the rate higher
    assert len(asked) - before <= 10 * max(1.0, (time.monotonic() - before_s) / 0.6)


def set_hidden(page: Any, is_hidden: bool) -> None:
    page.evaluate(
        """(is) => {
        Object.defineProperty(document, 'hidden', { value: is, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }""",
        is_hidden,
    )


def test_a_hidden_tab_holds_no_connection(open_page: Any, device: FakeDevice) -> None:
    """A hidden tab stops listening and resumes when shown; a resumed alert is announced."""
    page = open_page()

    def is_heard(number: int) -> bool:
        return any(len(device.listeners) == number for _ in pauses(page))

    assert is_heard(1)
    set_hidden(page, True)
    assert is_heard(0)
    set_hidden(page, False)
    assert is_heard(1)
    alert = device.open_alert("left")
    wait_for_text(page, "#toast", "New alert on left, bore")
    device.tell("alert", "alert_resumed", "left", alert)
    wait_for_text(page, "#toast", "The held alert on left, bore is active again")


def test_alerts_opened_while_hidden_are_shown(open_page: Any, device: FakeDevice) -> None:
    """A hidden tab receives no events; the list is reloaded when it is shown."""
    page = open_page()
    page.keyboard.press("l")
    wait_for_text(page, ".empty", "No alerts")
    set_hidden(page, True)
    assert any(not device.listeners for _ in pauses(page))
    device.open_alert("left")
    set_hidden(page, False)
    sync_api.expect(page.locator(".alert-row")).to_have_count(1)


def test_an_alert_of_a_wrong_clock_says_so(open_page: Any, device: FakeDevice) -> None:
    """One dated years ahead is not shown as if it were new."""
    device.open_alert("left")["opened_at"] = "2039-01-01T00:00:00.000Z"
    page = open_page()
    page.keyboard.press("l")
    wait_for_text(page, ".alert-row time", "dated in the future")


@pytest.mark.parametrize("entry", ["list", "link"])
def test_a_clip_that_is_made_later_appears(open_page: Any, device: FakeDevice, entry: str) -> None:
    """A clip has no event. Typed text, focus and the displayed picture are kept."""
    alert = device.open_alert("left")
    page = open_page()
    if entry == "list":
        page.keyboard.press("l")
        page.click(".alert-row")
    else:
        page.goto(f"{device.url}/#/alerts/{alert['id']}")
    page.wait_for_selector("[data-kind=snapshot]")
    page.keyboard.press("a")
    page.keyboard.type("Oil")
    alert["pictures"] = {**alert["pictures"], "clip": "c.webm"}
    page.wait_for_selector("[data-kind=clip]")
    assert page.input_value("#alert-note") == "Oil"
    assert page.evaluate("document.activeElement.id") == "alert-note"
    assert page.get_attribute("[data-kind=heatmap]", "aria-pressed") == "true"
    asked: list[str] = []
    page.on("request", lambda request: f"/alerts/{alert['id']}" in request.url and asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked == [], "it asks on"


def test_an_alert_appears_by_itself_and_is_acknowledged_by_keyboard(open_page: Any, device: FakeDevice) -> None:
    page = open_page()
    wait_for_text(page, "#overall", "OK")
    alert = device.open_alert("left")
    wait_for_text(page, "[role=alert]#toast", "New alert on left, bore")
    wait_for_text(page, "#overall", "1 alert on left")
    sync_api.expect(page).to_have_title(re.compile(r"^\(1\) "))
    wait_for_text(page, ".tile.is-alert .badge", "Alert")
    device.open_alert("right")
    page.keyboard.press("l")
    sync_api.expect(page.locator(".alert-row")).to_have_count(2)
    for key in ("j", "j", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(".acknowledge")
    assert alert["id"] in page.url
    page.keyboard.press("a")
    page.keyboard.type("Scratch, part taken out <b>bold</b>")
    page.keyboard.press("Enter")
    wait_for_text(page, ".acknowledged", "Acknowledged by Ada")
    assert device.alerts[alert["id"]]["acknowledged_by"] == "Ada"
    assert page.inner_text("blockquote") == "Scratch, part taken out <b>bold</b>"
    sync_api.expect(page).to_have_title(re.compile(r"^\(1\) "))
    page.select_option("[aria-label=State]", "closed")
    sync_api.expect(page.locator(".alert-row")).to_have_count(1)


def test_alerts_are_reviewed_by_keyboard(open_page: Any, device: FakeDevice) -> None:
    """Unjudged first, one key each or several at once; an earlier judgement of another person is shown before it is replaced."""
    page = open_page()
    ids = [device.open_alert("left")["id"] for _ in range(4)]
    device.judge(ids[3], "Bob", "defect")
    page.keyboard.press("l")
    wait_for_text(page, ".waiting", r"^3 alerts wait for a judgement\.")
    page.click("text=Review them")
    assert page.input_value("[aria-label=Judgement]") == "review"
    assert not page.locator(".waiting").is_visible()
    sync_api.expect(page.locator(".alert-row")).to_have_count(4)
    wait_for_text(page, ".alert-list li:last-child .judged", "^Defect$")
    assert page.locator(".keys-hint").is_visible()
    page.locator("#main").focus()
    for key in ("j", "f"):
        page.keyboard.press(key)
    wait_for_text(page, ".alert-list li:last-child .judged", "False alarm")
    assert device.alerts[ids[2]]["judgement"] == "false-alarm"
    page.select_option("[aria-label=Judgement]", "unjudged")
    sync_api.expect(page.locator(".alert-row")).to_have_count(2)
    page.locator("#main").focus()
    for key in ("j", "x"):
        page.keyboard.press(key)
    page.fill("#selected-kind", "dust")
    page.locator(".pick input").nth(1).check()
    wait_for_text(page, ".judge-heading", "Judge 2 selected alerts")
    page.keyboard.press("f")  # the focus is on the box
    sync_api.expect(page.locator(".alert-row")).to_have_count(0)
    assert [device.alerts[one]["judgement_kind"] for one in ids[:2]] == ["dust", "dust"]
    page.select_option("[aria-label=Judgement]", "")
    page.locator(".pick input").first.check()
    assert page.input_value("#selected-kind") == "", "the kind of alerts that were judged before"
    page.locator(".pick input").first.uncheck()
    page.click(f".alert-row[href$='{ids[0]}']")
    wait_for_text(page, ".judgement", "False alarm: dust by Ada")
    device.alerts[ids[0]] |= {
        "judgement": "unsure",
        "judged_by": "Bob",
        "n_judgements": 2,
    }  # no event has told the page
    page.click(".detail [data-judgement=defect]")
    wait_for_text(page, ".detail .judge .problem", "already judged unsure by Bob. Judge it again to replace that")
    wait_for_text(page, ".judgement", "Unsure: dust by Bob")
    page.click(".detail [data-judgement=defect]")
    wait_for_text(page, ".judgement", "Defect: dust by Ada")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_false_alarm_is_learned(open_page: Any, device: FakeDevice, size: dict[str, int]) -> None:
    """Offered once it is judged so; what looks like a defect needs a second click, and a device that is busy says so."""
    alert = device.open_alert("left")
    page = open_page(size)
    page.goto(f"{device.url}#/alerts/{alert['id']}")
    page.wait_for_selector(".detail [data-judgement=false-alarm]")
    learn, sure = page.locator("text=Stop alarms like this"), page.locator("text=It is a good part: learn it")
    assert not learn.is_visible()
    page.click(".detail [data-judgement=false-alarm]")
    device.learn_error = "Another false alarm is being learned."
    learn.click()
    wait_for_text(page, ".learn .problem", "is being learned. Wait until it has finished")
    device.learn_error = ""
    assert not sure.is_visible()
    learn.click()
    wait_for_text(page, ".learn [role=status]", "^Not learned: Its score 6.3 .* looks like a defect")
    assert page.inner_text(".learn .problem") == ""
    sure.click()
    wait_for_text(page, ".learn [role=status]", "^Learned: model 3f9a2c3f9a2c is active. .* confirmed to be good")
    assert not sure.is_visible()
    assert [one.alerts[0].learned for one in device.learnings] == [False, True]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click(".detail [data-judgement=defect]")
    sync_api.expect(learn).to_be_hidden()


def test_learning_is_not_offered_without_a_model_store(open_page: Any, device: FakeDevice) -> None:
    """The button could only fail."""
    device.can_learn = False
    alert = device.open_alert("left")
    device.judge(alert["id"], "Bob", "false-alarm")
    page = open_page()
    page.goto(f"{device.url}#/alerts/{alert['id']}")
    wait_for_text(page, ".judgement", "False alarm")
    assert not page.locator("text=Stop alarms like this").is_visible()


def test_alerts_beyond_the_first_page_are_judged_and_none_is_shown_twice(open_page: Any, device: FakeDevice) -> None:
    """A judgement there shows at once and can be replaced; the review queue goes on where it was when a new alert comes."""
    ids = [device.open_alert("left")["id"] for _ in range(106)]
    for one in ids[:50]:
        device.alerts[one] |= {"judgement": "defect", "judged_by": "Bob", "n_judgements": 1}
    page = open_page()
    page.keyboard.press("l")
    page.select_option("[aria-label=Judgement]", "review")
    rows = sync_api.expect(page.locator(".alert-row"))
    rows.to_have_count(50)
    page.click("text=Older alerts")
    rows.to_have_count(100)
    ids.append(device.open_alert("left")["id"])
    rows.to_have_count(101)
    row = f"li:has([href$='{ids[52]}'])"
    page.locator(f"{row} a").focus()
    for key, words in (("f", "False alarm"), ("u", "Unsure")):
        page.keyboard.press(key)
        wait_for_text(page, f"{row} .judged", f"^{words}$")
        page.locator(f"{row} a").focus()
    device.alerts[ids[52]] |= {
        "judgement": "defect",
        "judged_by": "Bob",
        "n_judgements": 3,
    }  # no event has told the page
    page.keyboard.press("f")
    wait_for_text(page, ".problem:not(:empty)", "already judged defect by Bob")
    wait_for_text(page, f"{row} .judged", "^Defect$")
    page.locator(f"{row} a").focus()
    page.keyboard.press("f")
    wait_for_text(page, f"{row} .judged", "^False alarm$")
    page.click("text=Older alerts")
    rows.to_have_count(107)
    assert {link.rpartition("/")[2] for link in page.locator(".alert-row").evaluate_all(HREFS)} == set(ids)


HREFS = "links => links.map((link) => link.hash)"


def test_a_changed_threshold_moves_the_line_and_is_recorded(open_page: Any, device: FakeDevice) -> None:
    device.cameras["left"].is_bad = True
    page = open_page()
    page.keyboard.press("1")
    page.wait_for_selector('.trace[data-threshold="4"]')
    wait_for_text(page, ".promise", "^About 1 in 500 good pictures scores above this threshold.$")
    line = threshold_rows(page)
    page.click(".change summary")
    page.select_option("#threshold-way", "value")
    page.fill("#threshold-value", "4.75")
    page.wait_for_selector('.trace[data-proposed="4.75"]')
    wait_for_text(
        page,
        ".preview",
        "^In the last 10 min it would have raised 5 alerts; the present threshold .* 5. About 1 in 500",
    )
    assert not page.locator("text=this is an estimate from 209").is_visible()
    page.click(".figures summary")
    assert page.locator("text=this is an estimate from 209").is_visible()
    page.focus("#threshold-value")
    assert threshold_rows(page)[0] == pytest.approx(line[0], abs=40), "the present line stays"
    page.keyboard.press("Enter")
    wait_for_text(page, "dialog", "set the threshold to 4.75")
    assert device.changes == [], "changed before it was confirmed"
    page.keyboard.press("Enter")
    wait_for_text(page, ".result", "Changed from 4.00 to 4.75")
    wait_for_text(page, "table", "Ada.*bore.*4.00.*4.75")
    page.wait_for_selector('.trace[data-threshold="4.75"]')
    assert threshold_rows(page)[0] < line[0] - 10
    assert [(change["who"], change["to"]) for change in device.changes] == [("Ada", 4.75)]


def test_the_question_is_about_the_value_in_the_form(open_page: Any, device: FakeDevice) -> None:
    """Enter right after the last digit: what stands below the form is still about the value before, and is not asked with."""
    page = open_page()
    page.keyboard.press("1")
    page.click(".change summary")
    page.select_option("#threshold-way", "value")
    page.fill("#threshold-value", "5.5")
    wait_for_text(page, ".preview", "would have raised 6 alerts")
    device.preview_s = 0.5
    page.fill("#threshold-value", "12")
    page.keyboard.press("Enter")
    assert "set the threshold to 12.0" in page.inner_text("dialog")
    assert "raised 6 alerts" not in page.inner_text("dialog")
    wait_for_text(
        page, "dialog .meaning", "^In the last 10 min it would have raised 12 alerts; .*Careful: 12 is far above"
    )
    page.keyboard.press("Escape")
    page.click("text=Details and earlier changes")
    wait_for_text(
        page, ".change .facts", "Known from209 good pictures, too few to certify it; extrapolated.*3.20 to 5.10"
    )


def threshold_rows(page: Any) -> list[int]:
    """Rows of the trace with long red stretches: the dashed line."""
    rows: list[int] = page.evaluate("""() => { const canvas = document.querySelector('.trace');
      const { width, height } = canvas; const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
      return [...Array(height).keys()].filter((y) => { let red = 0;
        for (let x = 0; x < width; x += 1) { const i = (y * width + x) * 4;
          if (data[i + 3] > 200 && data[i] > 120 && data[i + 1] < 90) red += 1; }
        return red > width / 3; }); }""")
    assert rows
    return rows


def test_a_refused_threshold_says_why(open_page: Any, device: FakeDevice) -> None:
    page = open_page()
    page.keyboard.press("1")
    page.click(".change summary")
    page.select_option("#threshold-way", "value")
    page.fill("#threshold-value", "-1")
    page.keyboard.press("Enter")
    page.click("text=Change threshold")
    wait_for_text(page, "dialog .problem", "must be above 0")
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("dialog[open]")).to_have_count(0)
    assert device.changes == []


def test_the_trace_is_read_with_the_keyboard(open_page: Any) -> None:
    page = open_page()
    page.keyboard.press("2")
    page.wait_for_selector(".trace[data-threshold]")
    page.focus(".trace")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    wait_for_text(page, ".trace-readout", r"ago \(.* UTC\): \d\.\d+ to \d\.\d+, below the threshold")
    assert "Never above it" in page.get_attribute(".trace", "aria-label")


def test_a_peak_does_not_flatten_the_trace(open_page: Any, device: FakeDevice) -> None:
    """Peaks far above the threshold are cut off and labelled, and the threshold stays near the middle of the chart."""
    page = open_page()
    device.cameras["right"].excess = 60.0
    page.keyboard.press("2")
    page.wait_for_selector('.trace[data-cut-at=""]')
    device.cameras["right"].is_bad = True
    page.wait_for_selector('.trace:not([data-cut-at=""])')
    assert 4.0 < float(page.get_attribute(".trace", "data-cut-at")) < 12.0
    height = page.evaluate("document.querySelector('.trace').height")
    assert 0.4 * height < min(threshold_rows(page)) < 0.8 * height
    wait_for_text(page, ".trace-summary", r"maximum 6\d\.")


def test_a_lost_connection_is_said_and_comes_back(open_page: Any, device: FakeDevice) -> None:
    page = open_page()
    device.is_silent = True
    wait_for_text(page, "#banner", "Connection lost")
    wait_for_text(page, "#overall", "No connection")
    device.is_silent = False
    wait_for_text(page, "#overall", "All 2 cameras OK")
    assert page.locator("#banner").is_hidden()


# controls of the page that are wholly in sight, and those of them that a toast then covers
IN_SIGHT = """() => { const controls = document.querySelectorAll('main :is(a, button, input, select, textarea, summary)');
  const bar = document.querySelector('.bar').getBoundingClientRect();
  window.inSight = [...controls].filter((one) => { const box = one.getBoundingClientRect();
    const hit = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
    return box.width && box.top >= bar.bottom && hit && one.contains(hit); }); return window.inSight.length; }"""
COVERED = """() => { const bar = document.querySelector('.toast-box').getBoundingClientRect();
  return window.inSight.filter((one) => { const box = one.getBoundingClientRect();
    return one.isConnected && box.top < bar.bottom && box.bottom > bar.top && box.left < bar.right && box.right > bar.left;
  }).map((one) => one.textContent || one.id); }"""


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["server", "phone"])
@pytest.mark.parametrize("view", ["#/", "#/camera/left", "#/alerts", "a selection", "an alert", "#/system"])
def test_a_toast_covers_no_control(open_page: Any, device: FakeDevice, size: dict[str, int], view: str) -> None:
    """Whatever could be clicked before it came can be clicked on, at the top of the page and further down."""
    alerts = [device.open_alert("left") for _ in range(12)]
    page = open_page(size)
    address = {"a selection": "#/alerts", "an alert": f"#/alerts/{alerts[0]['id']}"}.get(view, view)
    page.evaluate("address => { location.hash = address; }", address)
    page.wait_for_selector(".tile, .card:visible, .alert-row:visible")
    if view == "a selection":
        page.locator(".pick input").first.check()
        page.wait_for_selector(".alert-main > .judge")
    for down in (0, 350):
        page.evaluate("down => scrollTo(0, down)", down)
        page.wait_for_timeout(200)
        # on a phone nothing but words may be in sight
        assert page.evaluate(IN_SIGHT) > 0 or (size, view) == (PHONE, "#/system")
        device.tell("alert", "alert_resumed", "left", alerts[-1])
        wait_for_text(page, "#toast", "is active again")
        page.wait_for_timeout(200)
        assert page.evaluate(COVERED) == [], down
        page.click("[aria-label=Dismiss]")
        sync_api.expect(page.locator(".toast-box")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["server", "phone"])
def test_every_view_is_accessible_and_fits(
    open_page: Any, device: FakeDevice, size: dict[str, int], scheme: str
) -> None:
    page = open_page(size, scheme, log_in=False)
    page.wait_for_selector("#login-token")
    check_view(page, "login")
    enter(page)
    page.wait_for_selector(".tile")
    alert = device.open_alert("left")
    device.cameras["right"].verdict = "lost"
    wait_for_text(page, "#overall", "1 alert on left · 1 camera lost: right")
    wait_for_text(page, ".tile.is-lost strong", "^–$")
    check_view(page, "overview")
    for view in ("#/camera/left", "#/alerts", f"#/alerts/{alert['id']}", "#/system"):
        page.evaluate("view => { location.hash = view; }", view)
        page.wait_for_selector(".card:visible, .alert-row:visible")
        page.wait_for_timeout(200)
        check_view(page, view)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 22, 28)"
    assert dark == (scheme == "dark")


def check_view(page: Any, name: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == [], name


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["server", "phone"])
def test_a_shadow_shows_what_it_would_change(
    open_page: Any, device: FakeDevice, size: dict[str, int], scheme: str
) -> None:
    """A card of the page System, with the report in words and the largest differences; there is none without a shadow."""
    page = open_page(size, scheme)
    page.keyboard.press("s")
    page.wait_for_selector("text=Model and engine")
    assert not page.locator("text=Shadow model").is_visible()
    report = shadow_report()
    many = tuple(replace(report.differences[0], frame=n, camera=HOSTILE, picture=f"{n:05d}.jpg") for n in range(8))
    device.shadow = replace(report, differences=many, problem=HOSTILE).to_json()
    wait_for_text(page, ".card:has-text('Shadow model') p", "anomalous for the shadow alone 5.* in an hour: about 20 ")
    until(page, "[...document.querySelectorAll('.difference img')].filter((one) => one.naturalWidth > 0).length === 6")
    wait_for_text(page, ".difference figcaption", "frame 0: active model .left. 0.60, shadow .right. 1.40")
    check_markup(page)
    check_view(page, "system with a shadow")
    device.shadow = report.to_json()
    sync_api.expect(page.locator(".difference")).to_have_count(1)


def test_hostile_names_and_notes_stay_text(browser: Any) -> None:
    with FakeDevice(FakeCamera(HOSTILE)) as device:
        device.open_alert(HOSTILE, severity=HOSTILE)
        device.acknowledge(next(iter(device.alerts)), HOSTILE, HOSTILE)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(device.url)
        enter(page, name=HOSTILE[:64])
        assert page.inner_text(".tile h2") == HOSTILE
        check_markup(page)
        page.keyboard.press("1")
        until(page, "document.querySelector('.picture.is-large img')?.naturalWidth > 0")
        assert page.inner_text("h1") == HOSTILE
        check_markup(page)
        page.keyboard.press("l")
        page.click(".alert-row")
        wait_for_text(page, ".acknowledged", "Acknowledged by")
        assert page.inner_text("blockquote") == HOSTILE
        assert page.inner_text(".alert-row strong") == HOSTILE
        check_markup(page)
        page.keyboard.press("s")
        page.wait_for_selector("text=Logged in as")
        check_markup(page)
        page.close()


def check_markup(page: Any) -> None:
    assert page.title() != "owned"
    assert page.locator("main script, main img[src=x]").count() == 0


def test_keys_can_be_turned_off(open_page: Any) -> None:
    page = open_page()
    page.keyboard.press("?")
    page.click("text=Use single-key shortcuts")
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("dialog")).to_have_count(0)
    page.keyboard.press("l")
    page.wait_for_timeout(200)
    assert page.locator(".tile").count() == 2


def test_the_frame_shown_is_judged_by_keys(open_page: Any, device: FakeDevice) -> None:
    """`j` holds the frame, which stands still; a key judges it, another one corrects that; `j` brings the live picture back."""
    page = open_page()
    page.keyboard.press("1")
    until(page, "document.querySelector('.picture.is-large img')?.naturalWidth > 0")
    shown = "document.querySelector('.picture.is-large img').src"
    form = page.locator(".judge")
    assert not form.is_visible()
    page.keyboard.press("d")
    page.keyboard.press("j")
    wait_for_text(page, ".judge-heading", r"Frame \d+, score 2\.1")
    still = page.evaluate(shown)
    page.fill("#frame-kind", "dent")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    wait_for_text(page, ".judge [role=status]", "1 frame judged: Defect")
    page.keyboard.press("f")
    wait_for_text(page, ".judge [role=status]", "1 frame judged: Good")
    assert [(one["judgement"], one["kind"], one["again"]) for one in device.judged_frames] == [
        ("defect", "dent", False), ("good", "dent", True),
    ]  # fmt: skip
    assert page.evaluate(shown) == still
    assert axe.Axe().run(page).violations_count == 0
    page.keyboard.press("j")
    until(page, f"{shown} !== {still!r}")
    assert not form.is_visible()


def test_without_a_picture_no_frame_is_judged(open_page: Any, device: FakeDevice) -> None:
    """The button says why it is off, and is on again with the first picture."""
    device.cameras["left"].verdict = "waiting"
    page = open_page()
    page.keyboard.press("1")
    page.wait_for_selector('button[title="There is no picture of this camera to judge."]:disabled')
    page.keyboard.press("j")
    assert not page.locator(".judge").is_visible()
    device.cameras["left"].verdict = "ok"
    page.wait_for_selector("button:has-text('Judge this frame'):enabled")


def test_good_pictures_are_collected_by_a_button(open_page: Any, device: FakeDevice) -> None:
    """The button starts and stops, and says what was saved and left out; the state is asked for when the page opens."""
    page = open_page()
    page.keyboard.press("1")
    button = page.locator("text=Collect good pictures")
    button.click()
    wait_for_text(
        page, "[role=status].collected", r"Collecting for script, a frame every 2 s: 12 of 200 pictures saved of 30 "
    )
    assert axe.Axe().run(page).violations_count == 0
    page.keyboard.press("l")
    page.keyboard.press("1")
    stop = page.locator("text=Stop collecting")
    assert stop.get_attribute("aria-pressed") == "true"
    stop.click()
    wait_for_text(page, "[role=status].collected", r"Stopped\. 12 of 200 .*; left out: 10 near-copies, 8 anomalous\.")
    assert device.collecting == [True, False]
