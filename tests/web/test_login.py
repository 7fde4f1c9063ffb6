"""Login, authorisation and rate limits."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from starlette.requests import HTTPConnection

from edgead.errors import ConfigError, StorageError
from edgead.web.auth import Auth
from edgead.web.errors import Refusal
from edgead.web.options import AuthOptions, WebOptions
from edgead.web.rate_limit import RateLimit
from edgead.web.routes import ENDPOINTS
from edgead.web.running_stream import RunningStream
from edgead.web.sessions import Sessions
from edgead.web.token import TOKEN_FILE, open_token

from ..stream.fakes import ManualClock
from .parts import ALERT_ID, LINE, TOKEN, Browser, MemoryStore, judged, known_token, make_stream, serving, tell


def cookie_of(browser: Browser) -> dict[str, str]:
    reply = browser.log_in()
    assert reply.status == 204
    return {"Cookie": reply.headers["set-cookie"].partition(";")[0]}


def test_a_person_logs_in_and_out(browser: Browser) -> None:
    """The cookie opens the interface until the logout, and carries what keeps scripts and other sites from it."""
    reply = browser.log_in()
    settings = reply.headers["set-cookie"].lower()
    assert all(part in settings for part in ("httponly", "samesite=strict", "path=/", "max-age="))
    assert "secure" not in settings
    cookie = cookie_of(browser)
    assert browser.ask("GET", "/api/v1/session", headers=cookie).json == {"name": "Ada"}
    assert browser.ask("DELETE", "/api/v1/session", headers={**cookie, "X-Edgead": "1"}).status == 204
    assert browser.ask("GET", "/api/v1/session", headers=cookie).status == 401


def test_a_script_comes_with_the_token(browser: Browser) -> None:
    """The bearer token opens everything, under the name that the script gives."""
    assert browser.get("/api/v1/session").json == {"name": "script"}
    assert browser.ask("GET", "/api/v1/session", headers={"Authorization": f"bearer {TOKEN}"}).json == {"name": "api"}
    odd = {"Authorization": f"Bearer {TOKEN}", "X-Edgead-User": "x" * 65}
    assert browser.ask("GET", "/api/v1/session", headers=odd).status == 400


STRANGERS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Cookie": "edgead_session_0=guess"},
    {"Cookie": "edgead_session_0="},
    {"Cookie": f"edgead_session_0={TOKEN}"},
    {"Cookie": 'a="\\'},
]


def test_strangers_get_no_data(stream: RunningStream, browser: Browser, store: MemoryStore) -> None:
    """Without the token every endpoint that has data answers 401, whatever it is asked with."""
    tell(stream.monitor)
    stream.monitor.accept(judged())
    store.add(ALERT_ID)
    closed = [endpoint for endpoint in ENDPOINTS if endpoint.access == "login"]
    opened = {f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS if endpoint not in closed}
    assert opened == {"POST /api/v1/session", "GET /healthz", "GET /readyz", "GET /metrics"}
    for headers in STRANGERS:
        for endpoint in closed if not headers else closed[:3]:
            path = endpoint.path.format(
                camera=LINE, alert=ALERT_ID, zone="picture", picture="0001.jpg", held="0", model="a"
            )
            reply = browser.ask(endpoint.method, path, headers={"X-Edgead": "1", **headers}, body={})
            assert reply.status == 401, endpoint
            assert set(reply.json) == {"error"}
            assert reply.headers["www-authenticate"] == "Bearer"


def test_wrong_tokens_are_counted(stream: RunningStream, no_trace: None) -> None:
    """After a few wrong tokens others have to wait; the right one does not, by login and by header, nor do sessions."""
    options = WebOptions(auth=AuthOptions(login_attempts=3))
    with serving(stream, options) as browser:
        cookie = cookie_of(browser)
        assert [browser.log_in(f"wrong {number}").status for number in range(12)] == [401] * 3 + [429] * 9
        reply = browser.log_in("another")
        assert reply.status == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 100
        assert browser.log_in().status == 204
        assert browser.get("/api/v1/info").status == 200
        assert browser.ask("GET", "/api/v1/info", headers=cookie).status == 200


def test_the_token_is_known_after_a_restart(stream: RunningStream, tmp_path: Path, no_trace: None) -> None:
    """Also a token that this process never saw is let in after wrong ones; a file without its quick hash gets one."""
    _, token = open_token(tmp_path, {})
    assert token is not None
    path = tmp_path / TOKEN_FILE
    old = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    for content, expected in ((path.read_text(), True), (json.dumps(old), False)):
        path.write_text(content)
        auth = Auth(open_token(tmp_path, {})[0], AuthOptions(login_attempts=2), None)
        request = HTTPConnection({"type": "http", "headers": [], "client": ("192.0.2.1", 1)})
        assert auth.token.is_known(token) is expected
        if not expected:
            assert auth.check_token(request, token)
            assert open_token(tmp_path, {})[0].is_known(token)
        assert [auth.check_token(request, f"wrong {number}") for number in range(2)] == [False, False]
        with pytest.raises(Refusal):
            auth.check_token(request, "wrong again")
        assert auth.check_token(request, token)


def test_a_script_with_an_old_token_locks_out_no_one_else(stream: RunningStream, no_trace: None) -> None:
    """The same wrong token counts once, however often and from wherever it comes."""
    with serving(stream, WebOptions(auth=AuthOptions(login_attempts=3))) as browser:
        old = {"Authorization": "Bearer a token of last year"}
        assert [browser.ask("GET", "/api/v1/info", headers=old).status for _ in range(8)] == [401] * 8
        assert browser.log_in().status == 204
        assert browser.ask("GET", "/api/v1/info", headers=old).status == 401


def test_two_streams_on_one_machine(stream: RunningStream, tmp_path: Path, no_trace: None) -> None:
    """A browser sends cookies to every port of a host: a login at one stream does not end that at another."""
    with serving(stream) as one, serving(make_stream(tmp_path / "other")) as other:
        jar = "; ".join([cookie_of(one)["Cookie"], cookie_of(other)["Cookie"]])
        for browser in (one, other):
            assert browser.ask("GET", "/api/v1/session", headers={"Cookie": jar}).status == 200


def test_wrong_tokens_from_everywhere_are_counted() -> None:
    """Guesses from many addresses are limited together; the right token gets in from every address."""
    auth = Auth(known_token(), AuthOptions(login_attempts=2), None)

    def attempt(address: str, token: str) -> bool | int:
        request = HTTPConnection({"type": "http", "headers": [], "client": (address, 1)})
        try:
            return auth.check_token(request, token)
        except Refusal as refusal:
            return refusal.status

    assert attempt("192.0.2.1", TOKEN) is True
    guesses = [attempt(f"198.51.100.{number}", f"wrong {number}") for number in range(22)]
    assert guesses == [False] * 20 + [429] * 2
    assert attempt("198.51.100.200", TOKEN) is True
    assert attempt("192.0.2.1", TOKEN) is True


def test_the_token_has_requests_of_its_own(stream: RunningStream, no_trace: None) -> None:
    """A script with the right token is not slowed down by others at its address."""
    with serving(stream, WebOptions(auth=AuthOptions(requests_per_s=0.1, request_burst=5))) as browser:
        assert [browser.ask("GET", "/healthz").status for _ in range(6)] == [200] * 5 + [429]
        assert browser.get("/api/v1/info").status == 200


def test_requests_are_limited(stream: RunningStream, no_trace: None) -> None:
    """Too many requests of one address get 429 with the time to wait, the page included."""
    options = WebOptions(auth=AuthOptions(requests_per_s=1.0, request_burst=5))
    with serving(stream, options) as browser:
        statuses = [browser.ask("GET", "/healthz").status for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        reply = browser.ask("GET", "/")
        assert reply.status == 429
        assert int(reply.headers["retry-after"]) == 1


CAUSES: list[tuple[dict[str, str], int]] = [
    ({}, 403),
    ({"X-Edgead": "0"}, 403),
    ({"X-Edgead": "1", "Origin": "http://evil.example"}, 403),
    ({"X-Edgead": "1", "Origin": "null"}, 403),
    ({"X-Edgead": "1", "Sec-Fetch-Site": "cross-site"}, 403),
    ({"X-Edgead": "1", "Sec-Fetch-Site": "same-site"}, 403),
    ({"X-Edgead": "1", "Sec-Fetch-Site": "same-origin"}, 200),
    ({"X-Edgead": "1", "Sec-Fetch-Site": "none"}, 200),
]


def test_other_sites_change_nothing(browser: Browser, store: MemoryStore) -> None:
    """With a valid cookie, a request that another page caused is refused before anything happens."""
    cookie = cookie_of(browser)
    for headers, status in CAUSES:
        store.add(ALERT_ID)
        path = f"/api/v1/alerts/{ALERT_ID}/acknowledge"
        assert browser.ask("POST", path, headers={**cookie, **headers}, body={}).status == status, headers
        assert (store.records[ALERT_ID].acknowledged_by == "Ada") == (status == 200)


def test_the_own_origin_may_change(browser: Browser, store: MemoryStore) -> None:
    """The page's own origin, by the name it was opened with, is allowed; another port is not."""
    cookie = cookie_of(browser)
    for number, (origin, status) in enumerate([(f"http://127.0.0.1:{browser.port}", 200), ("http://127.0.0.1:1", 403)]):
        store.add(f"{ALERT_ID}{number}")
        headers = {**cookie, "X-Edgead": "1", "Origin": origin}
        path = f"/api/v1/alerts/{ALERT_ID}{number}/acknowledge"
        assert browser.ask("POST", path, headers=headers, body={}).status == status


def test_foreign_hosts_are_refused(browser: Browser) -> None:
    """On loopback a name that an attacker pointed there is refused, so that its page can read nothing."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.", "", "[::2]:80"):
        assert browser.ask("GET", "/api/v1/session", headers={**browser.bearer, "Host": host}).status == 400, host


def test_own_hosts_are_allowed(stream: RunningStream, no_trace: None) -> None:
    """Names of this machine, and those of the configuration, are."""
    with serving(stream, WebOptions(auth=AuthOptions(hosts=("Line.Example",)))) as browser:
        for host in ("localhost", f"localhost:{browser.port}", "[::1]:80", "LOCALHOST", "line.example:443"):
            assert browser.ask("GET", "/healthz", headers={"Host": host}).status == 200, host


def test_sessions_end() -> None:
    """A session ends when it is idle, and at its longest time; the oldest gives way when there are too many."""
    clock = ManualClock()
    sessions = Sessions(idle_s=10, max_s=25, limit=2, clock=clock)
    key = sessions.start("Ada")
    for _ in range(3):
        clock.now_s += 8
        assert sessions.name_of(key) == "Ada"
    clock.now_s += 2
    assert sessions.name_of(key) is None
    key = sessions.start("Ada")
    clock.now_s += 11
    assert not sessions.is_alive(key)
    keys = []
    for name in "abc":
        keys.append(sessions.start(name))
        clock.now_s += 1
    assert [sessions.name_of(key) for key in keys] == [None, "b", "c"]


def test_a_watched_session_is_not_used() -> None:
    """Asking whether a session is alive, as open pictures do, does not keep it alive."""
    clock = ManualClock()
    sessions = Sessions(idle_s=10, max_s=100, clock=clock)
    key = sessions.start("Ada")
    clock.now_s += 6
    assert sessions.is_alive(key)
    clock.now_s += 6
    assert not sessions.is_alive(key)


def test_a_rate_limit_refills() -> None:
    """Attempts are refilled at a steady rate up to the burst, separately for each address."""
    clock = ManualClock()
    limit = RateLimit(2, 0.5, clock=clock)
    assert [limit.take("a") for _ in range(3)] == [0.0, 0.0, 2.0]
    assert limit.take("b") == 0.0
    clock.now_s += 2
    assert limit.wait_s("a") == 0.0
    assert [limit.take("a") for _ in range(2)] == [0.0, 2.0]
    clock.now_s += 1000
    assert [limit.take("a") for _ in range(3)] == [0.0, 0.0, 2.0]
    limit.give_back("a")
    assert limit.take("a") == 0.0
    for number in range(10_000):
        limit.take(f"address {number}")
    assert len(limit._buckets) <= 4096


def test_a_token_is_made_once(tmp_path: Path) -> None:
    """The first start shows a token and stores only its hash, readable by its owner; later starts accept it."""
    check, told = open_token(tmp_path / "alerts", {})
    path = tmp_path / "alerts" / TOKEN_FILE
    assert told is not None
    assert len(told) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert told not in path.read_text()
    assert set(json.loads(path.read_text())) == {"salt", "scrypt", "sha256"}
    again, second = open_token(tmp_path / "alerts", {})
    assert second is None
    for one in (check, again, again):
        assert one.is_right(told)
        assert not one.is_right(told + "x")
        assert not one.is_right("")
        assert not one.is_right("\ud800")
    assert [path.name for path in (tmp_path / "alerts").iterdir()] == [TOKEN_FILE]


def test_the_environment_comes_first(tmp_path: Path) -> None:
    """A token of the environment is used and stored nowhere; a short one is refused."""
    check, told = open_token(tmp_path, {"EDGEAD_WEB_TOKEN": TOKEN})
    assert told is None
    assert check.is_right(TOKEN)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="at least 16 characters, got 5"):
        open_token(tmp_path, {"EDGEAD_WEB_TOKEN": "short"})


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [("{}", 0o600, "no token hash"), ("not json", 0o600, "no token hash"), ("{}", 0o644, "accessible to other users"),
     ('{"salt": "00", "scrypt": "00"}', 0o600, "no token hash"), ("[]", 0o600, "no token hash")],
)  # fmt: skip
def test_a_bad_token_file_is_refused(tmp_path: Path, content: str, mode: int, message: str) -> None:
    """A file that is accessible to others or holds no hash is refused, with its name and a remedy."""
    path = tmp_path / TOKEN_FILE
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(StorageError, match=message) as raised:
        open_token(tmp_path, {})
    assert "Remove the file" in raised.value.hint
